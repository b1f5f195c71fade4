"""A dict of two tensors, ``images`` and ``labels``: what ``dcond export --to pt`` writes.

Other programs write it too, also with the keys ``data`` and ``label`` or ``x`` and ``y``. The
export is decoded and normalised, by the ``mean`` and ``std`` that it holds, and has the names of
the classes; other files need not be, and do not say.
"""

from pathlib import Path
from typing import Any

from dcond.importers.raw_set import RawSet
from dcond.safe_load import tensor_pair

KEYS = (("images", "labels"), ("data", "label"), ("data", "labels"), ("x", "y"))


def _pair(content: dict[Any, Any]) -> list[Any]:
    """Return the two tensors, or an empty list."""
    pairs = ([content.get(key) for key in keys] for keys in KEYS)
    return next(filter(tensor_pair, pairs), [])


def matches(content: Any) -> bool:
    """Return whether the content of a file has this layout."""
    return isinstance(content, dict) and len(_pair(content)) == 2


def read(path: Path, content: Any, index: int | None) -> RawSet:
    """Return the set."""
    images, labels = _pair(content)
    channels = images.shape[1] if images.ndim == 4 else 0
    mean, std = (_listed(content, name, float, channels) for name in ("mean", "std"))
    ours = mean is not None and std is not None and min(std) > 0
    return RawSet(
        "images and labels",
        path,
        images,
        labels,
        normalised=True if ours else None,
        statistics=(mean, std) if ours else None,
        class_names=_listed(content, "class_names", str),
    )


def _listed(content: dict[Any, Any], key: str, kind: type, count: int | None = None) -> Any:
    """Return a list of the file as a tuple; None if it is missing or something else."""
    values = content.get(key)
    if not isinstance(values, list) or not values or count not in (None, len(values)):
        return None
    return tuple(values) if all(type(value) is kind for value in values) else None

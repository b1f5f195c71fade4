"""A dict of two tensors, ``images`` and ``labels``: what ``dcond export --to pt`` writes.

Other programs write it too, also with the keys ``data`` and ``label`` or ``x`` and ``y``. The
export is decoded and normalised; other files need not be, and do not say.
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
    return RawSet("images and labels", path, images, labels, normalised=None)

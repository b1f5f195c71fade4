"""A dict of two tensors, ``images`` and ``labels``: what ``dcond export --to pt`` writes, and many others do.

The export is decoded and normalised; others are not, and the file does not say.
"""

from pathlib import Path
from typing import Any

from dcond.importers.raw_set import RawSet
from dcond.importers.safe_load import tensor_pair


def matches(content: Any) -> bool:
    """Tell whether a file's content has this layout."""
    return isinstance(content, dict) and tensor_pair([content.get("images"), content.get("labels")])


def read(path: Path, content: Any, number: int | None) -> RawSet:
    """Return the set."""
    return RawSet("images and labels", path, content["images"], content["labels"], normalised=None)

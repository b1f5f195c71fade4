"""A dict of two tensors, ``images`` and ``labels``: what ``dcond export --to pt`` writes.

Other programs write it too. The export is decoded and normalised; other files need not be, and do
not tell.
"""

from pathlib import Path
from typing import Any

from dcond.importers.raw_set import RawSet
from dcond.importers.safe_load import tensor_pair


def matches(content: Any) -> bool:
    """Return whether the content of a file has this layout."""
    return isinstance(content, dict) and tensor_pair([content.get("images"), content.get("labels")])


def read(path: Path, content: Any, index: int | None) -> RawSet:
    """Return the set."""
    return RawSet("images and labels", path, content["images"], content["labels"], normalised=None)

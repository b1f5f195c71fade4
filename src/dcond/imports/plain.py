"""A dict of two tensors, ``images`` and ``labels``: what ``dcond export --to pt`` writes, and many others do.

The export is decoded and normalised; others are not, and the file does not say.
"""

from pathlib import Path
from typing import Any

from dcond.imports.found import Found
from dcond.imports.reading import tensor_pair


def matches(content: Any) -> bool:
    """Tell whether a file's content has this layout."""
    return isinstance(content, dict) and tensor_pair([content.get("images"), content.get("labels")])


def read(path: Path, content: Any, number: int | None) -> Found:
    """Return the set."""
    return Found("images and labels", path, content["images"], content["labels"], normalised=None)

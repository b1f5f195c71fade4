"""IDC, DREAM, M3D, NCFM: ``data.pt``, a list of images and labels; the multi-formation factor is not in it.

Source: github snu-mllab/Efficient-Dataset-Condensation, ``condense.py`` and ``test.py``; github
gszfwsb/NCFM. Images are pixels in [0, 1], clipped before the last step, so that a few may lie
outside.
"""

from pathlib import Path
from typing import Any

from dcond.importers.raw_set import RawSet
from dcond.importers.safe_load import tensor_pair


def matches(content: Any) -> bool:
    """Tell whether a file's content has this layout."""
    return tensor_pair(content)


def read(path: Path, content: Any, number: int | None) -> RawSet:
    """Return the set; its factor must be said."""
    images, labels = content
    return RawSet("IDC, NCFM", path, images, labels, normalised=False, factor=None)

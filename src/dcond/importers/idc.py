"""IDC, DREAM, M3D, NCFM: ``data.pt``, a list of images and labels without the packing factor.

Source: github snu-mllab/Efficient-Dataset-Condensation, ``condense.py`` and ``test.py``; github
gszfwsb/NCFM. Images are pixels in [0, 1], clipped before the last step, so that a few may be
outside.
"""

from pathlib import Path
from typing import Any

from dcond.importers.raw_set import RawSet
from dcond.safe_load import tensor_pair


def matches(content: Any) -> bool:
    """Return whether the content of a file has this layout."""
    return tensor_pair(content)


def read(path: Path, content: Any, index: int | None) -> RawSet:
    """Return the set; its factor is not known."""
    images, labels = content
    return RawSet("IDC, NCFM", path, images, labels, normalised=False, factor=None)

"""A folder of class folders of images: RDED, SRe2L and others, and ``dcond export --to png``.

Source: github LINs-lab/RDED (``00000/``, ``00001/``, ...), github VILA-Lab/SRe2L (``new000/``,
...). Their soft labels are computed by a teacher during training or stored in other files; neither
is read: labels are hard.
"""

import re
from pathlib import Path

import torch
from PIL import Image, PngImagePlugin

from dcond.data.decoding import ImageRule
from dcond.data.folder_listing import list_classes
from dcond.errors import DataError
from dcond.importers.raw_set import RawSet

# Text of a PNG file: the multi-formation factor to be decoded, with "aligned" for align_corners.
PACKED = "dcond:factor"


def matches(path: Path) -> bool:
    """Return whether a folder holds folders."""
    return any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir())


def read(path: Path) -> RawSet:
    """Return the set; all images must have one size.

    Raises:
        DataError: a class without images, an unreadable image, or different sizes or factors.
    """
    files, labels, names = list_classes(path)
    array = ImageRule().read(files, "Bring them to the size of the data set first.")
    packed = {_packed(file): file for file in files}
    if len(packed) > 1:
        one, other = list(packed.values())[:2]
        raise DataError(
            f"{one} and {other} have different factors; export the set again into an empty folder."
        )
    factor, aligned = next(iter(packed))
    return RawSet(
        "image folder",
        path,
        torch.from_numpy(array).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(labels),
        normalised=False,
        class_names=names,
        factor=factor,
        align_corners=aligned,
    )


def packing(factor: int, aligned: bool) -> PngImagePlugin.PngInfo | None:
    """Return the text of a PNG file with packed images; None if there is one image per file."""
    if factor == 1:
        return None
    info = PngImagePlugin.PngInfo()
    info.add_text(PACKED, f"{factor} aligned" if aligned else str(factor))
    return info


def _packed(file: Path) -> tuple[int, bool]:
    """Return a file's factor (1 if it has none), and whether corners are aligned."""
    with Image.open(file) as image:
        text = re.fullmatch(r"([1-9]\d?)( aligned)?", str(image.info.get(PACKED, "")))
    return (int(text[1]), text[2] is not None) if text else (1, False)

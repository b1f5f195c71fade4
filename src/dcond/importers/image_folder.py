"""A folder of class folders of images: RDED, SRe2L and others, and ``dcond export --to png``.

Source: github LINs-lab/RDED (``00000/``, ``00001/``, ...), github VILA-Lab/SRe2L (``new000/``,
...). Their soft labels are computed by a teacher during training or stored in other files; neither
is read: labels are hard.
"""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from dcond.data.decoding import ImageRule
from dcond.data.folder_listing import list_classes, subfolders
from dcond.errors import DataError
from dcond.importers.raw_set import RawSet

# Text of a PNG file: the multi-formation factor to be decoded, with "aligned" for align_corners.
PACKED = "dcond:factor"
# FOLDER/NAME: the name of the class, which that of its folder may shorten; as long as it has this.
CLASS = "dcond:class"


def matches(path: Path) -> bool:
    """Return whether a folder holds folders."""
    return bool(subfolders(path))


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
    firsts = np.unique(labels, return_index=True)[1]
    names = tuple(_class(files[row]) or name for row, name in zip(firsts, names, strict=True))
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


def png_texts(folder: str, name: str, factor: int, aligned: bool) -> PngImagePlugin.PngInfo:
    """Return the texts of a PNG file: the name of its class, and the factor if it is packed."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(CLASS, f"{folder}/{name}")
    if factor > 1:
        info.add_text(PACKED, f"{factor} aligned" if aligned else str(factor))
    return info


def _class(file: Path) -> str:
    """Return the name of a file's class; empty if the file does not say it, or was moved."""
    folder, _, name = _text(file, CLASS).partition("/")
    return name if folder == file.parent.name else ""


def _packed(file: Path) -> tuple[int, bool]:
    """Return a file's factor (1 if it has none), and whether corners are aligned."""
    text = re.fullmatch(r"([1-9]\d?)( aligned)?", _text(file, PACKED))
    return (int(text[1]), text[2] is not None) if text else (1, False)


def _text(file: Path, key: str) -> str:
    """Return a text of an image file; empty if it has none."""
    with Image.open(file) as image:
        return str(image.info.get(key, ""))

"""A folder with one folder of image files per class: RDED, SRe2L and their kin, and ``dcond export --to png``.

Source: github LINs-lab/RDED (``00000/``, ``00001/``, ...), github VILA-Lab/SRe2L (``new000/``,
...). Their soft labels are made again by a teacher in training, or lie in files of their own:
neither is read, labels are hard.
"""

import re
from pathlib import Path

import torch
from PIL import Image, PngImagePlugin

from dcond.data.decoding import ImageRule
from dcond.data.folder_listing import list_classes
from dcond.errors import DataError
from dcond.importers.raw_set import RawSet

# of a PNG file: the multi-formation factor to be decoded, and "aligned" where corners are
PACKED = "dcond:factor"
WAY_OUT = "Bring them to the size of the data set first."


def matches(path: Path) -> bool:
    """Tell whether a folder holds folders."""
    return any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir())


def read(path: Path) -> RawSet:
    """Return the set: every image of one size.

    Raises:
        DataError: a class without images, an unreadable image, images of unlike sizes or of unlike
            factors.
    """
    files, labels, names = list_classes(path)
    images = (
        torch.from_numpy(ImageRule(size=None).read(files, WAY_OUT)).permute(0, 3, 1, 2).contiguous()
    )
    packed = {_packed(file): file for file in files}
    if len(packed) > 1:
        one, other = list(packed.values())[:2]
        raise DataError(
            f"{one} and {other} are packed in unlike ways; export the set anew, into an empty folder."
        )
    factor, aligned = next(iter(packed))
    return RawSet(
        *("image folder", path, images, torch.from_numpy(labels)),
        normalised=False,
        class_names=names,
        factor=factor,
        align_corners=aligned,
    )


def packing(factor: int, aligned: bool) -> PngImagePlugin.PngInfo | None:
    """Return what a PNG file says of images packed into it; nothing where there is one."""
    if factor == 1:
        return None
    info = PngImagePlugin.PngInfo()
    info.add_text(PACKED, f"{factor} aligned" if aligned else str(factor))
    return info


def _packed(file: Path) -> tuple[int, bool]:
    """Return the factor that a file says is to be decoded, 1 where it says none, and whether corners are aligned."""
    with Image.open(file) as image:
        said = re.fullmatch(r"([1-9]\d?)( aligned)?", str(image.info.get(PACKED, "")))
    return (int(said[1]), said[2] is not None) if said else (1, False)

"""A folder with one folder of image files per class: RDED, SRe2L and their kin, and ``dcond export --to png``.

Source: github LINs-lab/RDED (``00000/``, ``00001/``, ...), github VILA-Lab/SRe2L (``new000/``, ...). Their soft
labels are made again by a teacher in training, or lie in files of their own: neither is read, labels are hard.
"""

from pathlib import Path

import torch

from dcond.data.decoding import ImageRule
from dcond.data.folder import list_classes
from dcond.imports.found import Found

WAY_OUT = "Bring them to the size of the data set first."


def matches(path: Path) -> bool:
    """Tell whether a folder holds folders."""
    return any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir())


def read(path: Path) -> Found:
    """Return the set: every image of one size.

    Raises:
        DataError: a class without images, an unreadable image, or images of unlike sizes.
    """
    files, labels, names = list_classes(path)
    images = torch.from_numpy(ImageRule(size=None).read(files, WAY_OUT)).permute(0, 3, 1, 2).contiguous()
    return Found("image folder", path, images, torch.from_numpy(labels), normalised=False, class_names=names)

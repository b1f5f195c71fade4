"""HMDC: ``synthetic_images.pth``, a dict with normalised images by class, and their packing.

Source: github KHU-AGI/HMDC, ``method/dc_base.py``. Images are packed only if the initialisation was
one of the ``aug`` kind; they are decoded with align_corners.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcond.data.statistics import LEGACY
from dcond.errors import ArtefactError
from dcond.importers.raw_set import RawSet

CONSTANTS = LEGACY | {
    "cifar100": LEGACY["cifar10"],
    "tiny_imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}


def matches(content: Any) -> bool:
    """Return whether the content of a file has this layout."""
    return isinstance(content, dict) and isinstance(content.get("synthetic_images"), Tensor)


def read(path: Path, content: Any, index: int | None) -> RawSet:
    """Return the set; labels follow from the order of the images.

    Raises:
        ArtefactError: the images are not (classes, ipc, c, h, w).
    """
    images = content["synthetic_images"].detach()
    if images.ndim != 5:
        raise ArtefactError(
            f"{path} (HMDC): images must be (classes, ipc, c, h, w); got {tuple(images.shape)}."
        )
    packed, factor = "aug" in str(content.get("init", "")), content.get("factor")
    return RawSet(
        "HMDC",
        path,
        images.flatten(0, 1),
        torch.arange(len(images)).repeat_interleave(images.shape[1]),
        normalised=True,
        factor=(factor if isinstance(factor, int) else None) if packed else 1,
        align_corners=True,
        constants=CONSTANTS,
    )

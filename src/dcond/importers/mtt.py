"""MTT, FTD, TESLA, DATM: ``images_NAME.pt``, ``labels_NAME.pt``, optional ``lr_NAME.pt``.

Source: github GeorgeCazenavette/mtt-distillation, ``distill.py``; github NUS-HPC-AI-Lab/DATM. Four
of MTT's nine published settings are ZCA-whitened, the others normalised, and the file does not say
which. ``images_zca_NAME.pt`` holds pixels: the whitening was undone before saving.
"""

import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from dcond.data.statistics import LEGACY
from dcond.errors import ArtefactError
from dcond.importers.raw_set import RawSet
from dcond.safe_load import HOW_TO_SAVE, read_tensors

CONSTANTS = LEGACY | {"cifar100": LEGACY["cifar10"]}  # that code uses CIFAR-10's for both


def matches(content: Any) -> bool:
    """Return whether the content of a file has this layout."""
    return isinstance(content, Tensor) and content.ndim == 4


def read(path: Path, content: Any, index: int | None) -> RawSet:
    """Return the images of a file with the labels and the learning rate of the files beside it.

    Raises:
        ArtefactError: there is no file of labels, or the file of the rate holds something else.
    """
    unwhitened = path.name.startswith("images_zca_")
    stem = path.name.replace("images_zca", "images", 1)
    beside = path.with_name(stem.replace("images", "labels", 1))
    if beside == path or not beside.is_file():
        expected = "labels_best.pt" if beside == path else beside.name
        raise ArtefactError(
            f"{path} holds one tensor and no labels; expected images_NAME.pt with {expected} "
            f"beside it, or one file: {HOW_TO_SAVE}."
        )
    labels = read_tensors(beside)
    if not isinstance(labels, Tensor):
        raise ArtefactError(
            f"{beside} must hold one tensor of labels; it holds a {type(labels).__name__}."
        )
    rate = path.with_name(stem.replace("images", "lr", 1))
    return RawSet(
        "MTT, DATM",
        path,
        content,
        labels,
        normalised=False if unwhitened else None,
        constants=CONSTANTS,
        learned_lr=_rate(rate) if rate.is_file() else None,
    )


def _rate(path: Path) -> float:
    """Return the learning rate in a file: a number, or a tensor of one."""
    content = read_tensors(path)
    number = content.item() if isinstance(content, Tensor) and content.numel() == 1 else content
    if type(number) in (int, float) and 0 < number <= sys.float_info.max:
        return float(number)
    what = "no number"
    if isinstance(number, Tensor):
        what = f"a tensor of {tuple(number.shape)}"
    elif isinstance(number, int | float | str):
        what = repr(number)[:40]
    raise ArtefactError(
        f"{path} holds {what}; allowed: one finite number above 0. Correct the file or remove it: "
        "images and labels suffice."
    )

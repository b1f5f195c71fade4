"""MTT, FTD, TESLA, DATM: ``images_NAME.pt``, ``labels_NAME.pt`` and maybe ``lr_NAME.pt`` in one folder.

Source: github GeorgeCazenavette/mtt-distillation, ``distill.py``; github NUS-HPC-AI-Lab/DATM. Four
of MTT's nine published settings are ZCA-whitened, the others normalised, and the file does not say
which.
"""

import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from dcond.data.statistics import LEGACY
from dcond.errors import ArtefactError
from dcond.importers.raw_set import RawSet
from dcond.importers.safe_load import read_tensors

CONSTANTS = LEGACY | {"cifar100": LEGACY["cifar10"]}  # that code takes CIFAR-10's for both


def matches(content: Any) -> bool:
    """Tell whether a file's content has this layout."""
    return isinstance(content, Tensor) and content.ndim == 4


def read(path: Path, content: Any, number: int | None) -> RawSet:
    """Return the images of a file with the labels, and the learning rate, that lie beside it.

    Raises:
        ArtefactError: there is no file of labels, or what is beside them is no learning rate.
    """
    beside = path.with_name(path.name.replace("images", "labels", 1))
    if beside == path or not beside.is_file():
        wanted = "labels_best.pt" if beside == path else beside.name
        raise ArtefactError(
            f"{path} holds one tensor and no labels; expected images_NAME.pt, and {wanted} beside it."
        )
    labels = read_tensors(beside)
    if not isinstance(labels, Tensor):
        raise ArtefactError(
            f"{beside} must hold one tensor of labels; it holds a {type(labels).__name__}."
        )
    rate = path.with_name(path.name.replace("images", "lr", 1))
    return RawSet(
        "MTT, DATM",
        path,
        content,
        labels,
        normalised=None,
        constants=CONSTANTS,
        learned_lr=_rate(rate) if rate.is_file() else None,
    )


def _rate(path: Path) -> float:
    """Return the learning rate in a file: one number, or a tensor of one."""
    held = read_tensors(path)
    number = held.item() if isinstance(held, Tensor) and held.numel() == 1 else held
    if type(number) in (int, float) and 0 < number <= sys.float_info.max:  # which NaN is not
        return float(number)
    told = f"a {type(number).__name__}"
    if isinstance(number, Tensor):
        told = f"a tensor of {tuple(number.shape)}"
    elif isinstance(number, int | float | str):
        told = repr(number)[:40]
    raise ArtefactError(
        f"{path} holds {told}; allowed: one finite number above 0. Save it as that, or remove the file: "
        "images and labels do without."
    )

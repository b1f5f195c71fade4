"""MTT, FTD, TESLA, DATM: ``images_NAME.pt``, ``labels_NAME.pt`` and maybe ``lr_NAME.pt`` in one folder.

Source: github GeorgeCazenavette/mtt-distillation, ``distill.py``; github NUS-HPC-AI-Lab/DATM. The images of half of the
published settings are ZCA-whitened, those of the others normalised, and the file does not say which.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from dcond.data.statistics import LEGACY
from dcond.errors import ArtefactError
from dcond.imports.found import Found
from dcond.imports.reading import read_tensors

CONSTANTS = LEGACY | {"cifar100": LEGACY["cifar10"]}  # that code takes CIFAR-10's for both


def matches(content: Any) -> bool:
    """Tell whether a file's content has this layout."""
    return isinstance(content, Tensor) and content.ndim == 4


def read(path: Path, content: Any, number: int | None) -> Found:
    """Return the images of a file with the labels, and the learning rate, that lie beside it.

    Raises:
        ArtefactError: there is no file of labels.
    """
    beside = path.with_name(path.name.replace("images", "labels", 1))
    if beside == path or not beside.is_file():
        wanted = "labels_best.pt" if beside == path else beside.name
        raise ArtefactError(f"{path} holds one tensor and no labels; expected images_NAME.pt, and {wanted} beside it.")
    labels = read_tensors(beside)
    if not isinstance(labels, Tensor):
        raise ArtefactError(f"{beside} must hold one tensor of labels; it holds a {type(labels).__name__}.")
    rate = path.with_name(path.name.replace("images", "lr", 1))
    learned = read_tensors(rate) if rate.is_file() else None
    return Found(
        "MTT, DATM",
        path,
        content,
        labels,
        normalised=None,
        constants=CONSTANTS,
        learned_lr=float(learned) if isinstance(learned, int | float | Tensor) else None,
    )

"""Which class of a data set a folder or a name stands for."""

import re
from pathlib import Path

import torch
from torch import Tensor

from dcond.errors import DataError
from dcond.types import RealData


def class_order(path: Path, names: tuple[str, ...], real: RealData) -> Tensor:
    """Return for each of ``names`` the class it stands for, int64 (k,).

    By the data set's own names where these agree (letter case, blanks and signs apart); else by numbers at the end
    (``00007``, ``new007``), which must be 0 to k - 1. Order alone says nothing (RDED's issue 4).

    Raises:
        DataError: neither holds.
    """
    own = {_plain(name): label for label, name in enumerate(real.class_names)}
    if len(names) == len(own) and {_plain(name) for name in names} == set(own):
        return torch.tensor([own[_plain(name)] for name in names])
    numbers = [int(found[1]) if (found := re.search(r"(\d+)$", name)) else -1 for name in names]
    if sorted(numbers) == list(range(len(real.class_names))):
        return torch.tensor(numbers)
    raise DataError(
        f"{path}: its {len(names)} classes ({', '.join(names[:3])}, ...) are neither the {len(real.class_names)} of "
        f"{real.name!r} ({', '.join(real.class_names[:3])}, ...) by name nor numbered from 0; rename them."
    )


def _plain(name: str) -> str:
    return re.sub(r"[^\w]|_", "", name).casefold()

"""Which class of a data set a folder or a name stands for."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dcond.errors import DataError
from dcond.types import RealData, SyntheticSet


def class_order(path: Path, names: tuple[str, ...], real: RealData) -> Tensor:
    """Return for each of ``names`` the class it stands for, int64 (k,).

    By name: equal, else equal in Unicode's NFC form, else but for letter case, blanks and signs,
    the looser ones only where no other name could be meant. Else by numbers at the end (``00007``,
    ``new007``), which must be 0 to k - 1 and contradict no name. Order alone says nothing (RDED's
    issue 4).

    Raises:
        DataError: neither holds.
    """
    own = real.class_names
    if names == own:  # also where two classes are called alike
        return torch.arange(len(own))
    found = _by_name(names, own)
    if len(found) == len(names) == len(own):
        return torch.tensor([found[row] for row in range(len(names))])
    numbers = [int(end[1]) if (end := re.search(r"(\d+)$", name)) else -1 for name in names]
    agree = all(numbers[row] == label for row, label in found.items())
    if agree and sorted(numbers) == list(range(len(own))):
        return torch.tensor(numbers)
    theirs, ours = _some(names, found.keys()), _some(own, found.values())
    raise DataError(
        f"{path}: its {len(names)} classes ({theirs}) are neither the {len(own)} of {real.name!r} ({ours}) by name nor "
        "numbered from 0; rename them, or evaluate it on the data set it was made from (dataset=NAME)."
    )


def in_class_order(path: Path, synthetic: SyntheticSet, real: RealData) -> SyntheticSet:
    """Return a set with its classes, rows and labels alike, in the data set's order; itself where the names are equal.

    A set of another number of classes is left to :func:`dcond.evaluation.protocol.check_fits`, which
    knows sizes too.

    Raises:
        DataError: as :func:`class_order`.
    """
    if synthetic.class_names == real.class_names or len(synthetic.class_names) != len(
        real.class_names
    ):
        return synthetic
    place = class_order(path, synthetic.class_names, real)
    come_from = torch.argsort(place)
    rows = torch.arange(len(synthetic.images)).view(-1, synthetic.ipc)[come_from].flatten()
    labels = synthetic.labels[rows]
    labels = place[labels] if labels.ndim == 1 else labels[:, come_from]
    return replace(
        synthetic, images=synthetic.images[rows], labels=labels, class_names=real.class_names
    )


def _by_name(names: Sequence[str], own: Sequence[str]) -> dict[int, int]:
    """Return the row of each name that stands for one class alone, and that class."""
    found: dict[int, int] = {}
    for form in (str, _composed, _plain):
        theirs, ours = _alone(names, form), _alone(own, form)
        for key in theirs.keys() & ours.keys():
            found.setdefault(theirs[key], ours[key])  # a stricter form says the same: it is finer
    return found


def _alone(names: Sequence[str], form: Callable[[str], str]) -> dict[str, int]:
    """Return the rows of names whose form no other name has, by that form."""
    forms = [form(name) for name in names]
    counts = Counter(forms)
    return {key: row for row, key in enumerate(forms) if key and counts[key] == 1}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    return re.sub(r"[^\w]|_", "", _composed(name)).casefold()


def _some(names: Sequence[str], paired: Iterable[int]) -> str:
    """Write the first three names, those without a partner before the others."""
    first = sorted(range(len(names)), key=set(paired).__contains__)[:3]
    return ", ".join([*(names[row] for row in first), *["..."] * (len(names) > 3)])

"""Which class of a data set a folder or a name stands for."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dcond.errors import DataError, list_override
from dcond.types import RealData, SyntheticSet


def class_order(
    where: object, names: tuple[str, ...], real: RealData, *, same_data: bool = False
) -> Tensor:
    """Return for each of ``names`` the class that it stands for, int64 (k,).

    By name: equal, or equal in Unicode's NFC form, or equal except for case, spaces and signs, the
    looser forms only if no other name is possible. Otherwise by numbers at the end (``00007``,
    ``new007``), which must be 0 to k - 1 and contradict no name. Order alone is not used (RDED's
    issue 4), except for classes of one name in a set that was made from this very data set.

    Args:
        where: names the set in errors.
        names: of the set's classes.
        real: the data set.
        same_data: the set was made from it.

    Raises:
        DataError: neither is possible.
    """
    own = real.class_names
    if names == own:
        alike = [name for name, count in Counter(names).items() if count > 1]
        if alike and not same_data:
            raise DataError(
                f"{where}: two classes are called {alike[0]!r}, in {real.name!r} too, so a name "
                "does not identify a class; give them different names, or omit class names from "
                "the file if its labels are numbered as in the data set."
            )
        return torch.arange(len(own))
    matched = _by_name(names, own)
    if len(names) != len(own) and len(matched) == min(len(names), len(own)):
        raise DataError(f"{where}: {_other_number(names, real, matched)}")
    if len(matched) == len(names) == len(own):
        return torch.tensor([matched[row] for row in range(len(names))])
    numbers = [int(end[1]) if (end := re.search(r"(\d+)$", name)) else -1 for name in names]
    consistent = all(numbers[row] == label for row, label in matched.items())
    if consistent and sorted(numbers) == list(range(len(own))):
        return torch.tensor(numbers)
    raise DataError(
        f"{where}: its {len(names)} classes ({_examples(names, matched.keys())}) match the "
        f"{len(own)} of {real.name!r} ({_examples(own, matched.values())}) neither by name nor by "
        "numbers from 0; rename them, or use the data set that it was made from "
        "(dataset=NAME)."
    )


def in_class_order(where: object, synthetic: SyntheticSet, real: RealData) -> SyntheticSet:
    """Return a set with classes, rows and labels in the data set's order.

    A set with equal names is returned as it is.

    Raises:
        DataError: as :func:`class_order`.
    """
    names, own = synthetic.class_names, real.class_names
    if names == own and len(set(own)) == len(own):
        return synthetic
    # Statistics of the same images, to the last digit.
    same_data = (synthetic.mean, synthetic.std) == (real.mean, real.std)
    place = class_order(where, names, real, same_data=same_data)
    source, labels = torch.argsort(place), synthetic.labels
    if labels.ndim == 1:
        labels, rows = torch.sort(place.to(labels.device)[labels], stable=True)
    else:
        rows = torch.arange(len(labels))
        if len(rows) == len(own) * synthetic.ipc:  # class by class; other code need not be
            rows = rows.view(-1, synthetic.ipc)[source].flatten()
        labels = labels[rows][:, source]
    return replace(synthetic, images=synthetic.images[rows], labels=labels, class_names=own)


def _other_number(names: tuple[str, ...], real: RealData, matched: dict[int, int]) -> str:
    """Say what to do about a set with some of the classes of a data set, or with more."""
    own = real.class_names
    if len(matched) == len(names):
        chosen = [own[matched[row]] for row in range(len(names))]
        return (
            f"it has {len(names)} of the {len(own)} classes of {real.name!r}; add "
            f"{list_override('dataset.classes', chosen)} to use these only."
        )
    others = [name for row, name in enumerate(names) if row not in matched]
    return (
        f"{len(others)} of its {len(names)} classes ({_examples(others, ())}) are not in "
        f"{real.name!r}; choose a data set with all of them (dataset=NAME)."
    )


def _by_name(names: Sequence[str], own: Sequence[str]) -> dict[int, int]:
    """Return the class of the row of each name that can stand for one class only."""
    matched: dict[int, int] = {}
    for form in (str, _composed, _simplified):
        rows, classes = _unique(names, form), _unique(own, form)
        for key in rows.keys() & classes.keys():
            matched.setdefault(rows[key], classes[key])
    return matched


def _unique(names: Sequence[str], form: Callable[[str], str]) -> dict[str, int]:
    """Return the rows of names by their form, for forms that only one name has."""
    forms = [form(name) for name in names]
    counts = Counter(forms)
    return {key: row for row, key in enumerate(forms) if key and counts[key] == 1}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _simplified(name: str) -> str:
    return re.sub(r"[^\w]|_", "", _composed(name)).casefold()


def _examples(names: Sequence[str], matched: Iterable[int]) -> str:
    """Return the first three names, those without a match first."""
    first = sorted(range(len(names)), key=set(matched).__contains__)[:3]
    return ", ".join([*(names[row] for row in first), *["..."] * (len(names) > 3)])

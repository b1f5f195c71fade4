"""``dataset.classes``: some classes of a data set, renumbered."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcond.data.decoding import DecodedImages
from dcond.data.npz_images import MemberImages
from dcond.data.prepared import Prepared
from dcond.data.validate import Images
from dcond.errors import ConfigError, did_you_mean

LONGEST = 60  # characters of the name of a data set


def subset(name: str, data: Prepared, classes: Sequence[str | int]) -> tuple[str, Prepared]:
    """Return the classes in the given order, numbered from 0, and the name of that data set.

    All classes in their own order are the data set as it is.

    Args:
        name: of the whole data set.
        data: all classes.
        classes: their names, or numbers from 0.

    Raises:
        ConfigError: a class is unknown, ambiguous, or given twice.
    """
    chosen = [_index(each, data.class_names) for each in classes]
    names = tuple(data.class_names[label] for label in chosen)
    if chosen == list(range(len(data.class_names))):
        return name, data
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"dataset.classes={list(classes)} has a class twice; give each once.")
    if not np.isin(data.test_labels, chosen).any():
        raise ConfigError(f"dataset.classes={list(classes)}: {name} has no test image of these.")
    number = np.full(len(data.class_names), -1)
    number[chosen] = np.arange(len(chosen))
    train, test = (np.flatnonzero(number[y] >= 0) for y in (data.train_labels, data.test_labels))
    part = replace(
        data,
        train_images=_part(data.train_images, train),
        train_labels=number[data.train_labels[train]],
        test_images=_part(data.test_images, test),
        test_labels=number[data.test_labels[test]],
        class_names=names,
    )
    return subset_name(name, names), part


def subset_name(name: str, classes: tuple[str, ...]) -> str:
    """Return the name of some classes of a data set: ``NAME-CLASS-CLASS``, or a hash of these."""
    readable = "-".join([name, *classes])
    plain = all(re.fullmatch(r"[\w.]+", each, re.ASCII) for each in classes)
    if plain and len(readable) <= LONGEST:
        return readable
    digest = hashlib.sha256(repr(classes).encode()).hexdigest()[:8]
    return f"{name}-{len(classes)}classes-{digest}"


def _index(given: str | int, names: tuple[str, ...]) -> int:
    if isinstance(given, bool):  # YAML's reading of a class that is called true or false
        given = str(given).lower()
    found = [label for label, name in enumerate(names) if name == str(given)]
    if isinstance(given, int) and found in ([], [given]) and 0 <= given < len(names):
        return given
    if isinstance(given, str) and len(found) == 1:
        return found[0]
    if not found:
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise ConfigError(
            f"dataset.classes: no class is called {given!r}; allowed: {shown}, or numbers from 0 "
            f"to {len(names) - 1}.{did_you_mean(str(given), names)}"
        )
    if isinstance(given, int):
        raise ConfigError(
            f"dataset.classes: {given} is the name of class {found[0]} and the number of another; "
            f"give {found[0]}'s name in quotes: 'dataset.classes=[\"{given}\",...]'."
        )
    raise ConfigError(
        f"dataset.classes: {len(found)} classes are called {given!r}; give numbers: "
        f"{', '.join(map(str, found))}."
    )


def _part(images: Images, rows: NDArray[np.int64]) -> Images:
    if isinstance(images, DecodedImages):
        return DecodedImages(images.rule, images.files.part(rows), images.shape[1:])
    return images[rows] if isinstance(images, np.ndarray) else _Rows(images, rows)


@dataclass
class _Rows:
    """Some rows of images that are read when they are indexed.

    As of the whole, reading them in order (by slices) also compares the file's checksum.
    """

    images: Images
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        if isinstance(rows, slice) and isinstance(self.images, MemberImages):
            self.images.verify()
        return self.images[self.rows[rows]]

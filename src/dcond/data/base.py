"""The base classes of data sets: settings, and loading as :class:`~dcond.types.RealData`."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from dcond.data.class_subset import subset
from dcond.data.placement import choose_places, make_split, place_split
from dcond.data.prepared import (
    Prepared,
    check_training_classes,
    read_prepared,
    warn_of_classes,
    write_prepared,
)
from dcond.data.statistics import LEGACY, Statistics, statistics, zca
from dcond.errors import require
from dcond.paths import conf_dir, expand_home
from dcond.settings import settings
from dcond.types import RealData, Split

NAME = r"[A-Za-z0-9][\w.-]*"  # of a data set: it is part of file names


@settings
class Dataset(ABC):
    """A source of labelled images. The constructor reads nothing; :meth:`load` does.

    Args:
        name: in tables and file names: letters, digits, ``_``, ``.`` and ``-``.
        flip: whether a mirrored image keeps its class; read by augmentations.
        stats: "pixel" measures mean and std on the training split, "sample" on at most 10,000 of
            its images; "legacy" takes the constants of the public DC code, if it has the set;
            "zca" whitens the images by ZCA, fitted on the training split, instead.
        keep: where the images stay: "device", "host" (memory), "disk", or "auto", the first with
            room (:func:`~dcond.data.placement.choose_places`). Changes no number.
        classes: names or numbers (from 0) of at least two classes, which are numbered in this
            order; None: all.

    Example:
        >>> real = Digits().load("cuda")
    """

    name: str
    flip: bool = False
    stats: Literal["pixel", "sample", "legacy", "zca"] = "pixel"
    keep: Literal["auto", "device", "host", "disk"] = "auto"
    classes: Sequence[str | int] | None = None

    def __post_init__(self) -> None:
        require(
            re.fullmatch(NAME, self.name) is not None,
            f"dataset.name={self.name!r} cannot be part of a file name; "
            "allowed: letters, digits, '_', '.' and '-'.",
        )
        require(
            self.stats != "legacy" or self.name in LEGACY,
            f"dataset.stats=legacy has no published constants for {self.name!r}; "
            f"allowed: {', '.join(LEGACY)}. Use dataset.stats=pixel.",
        )

        require(
            self.classes is None or len(self.classes) > 1,
            f"dataset.classes={self.classes} is too few; allowed: two classes or more, or null.",
        )

    @abstractmethod
    def arrays(self) -> Prepared:
        """Return both splits, checked; large images are read only when they are indexed."""

    def prepare(self) -> Path | None:
        """Write the prepared form and return its path; None for sets that need none.

        Raises:
            DataError: the data cannot be read.
        """
        self.arrays()
        return None

    def remarks(self) -> dict[str, str]:
        """Return what ``dcond data info`` shows beside the counts, by title."""
        return {}

    def load(self, device: torch.device | str = "cpu") -> RealData:
        """Read the data set for use on ``device``.

        Raises:
            DataError: it cannot be fetched or read, or breaks a rule.
        """
        device, name, data = torch.device(device), self.name, self.arrays()
        if self.classes is not None:
            name, data = subset(name, data, self.classes)
            check_training_classes(data.train_labels, data.class_names)
        train_place, test_place = choose_places(name, data, self.keep, device)
        train = make_split(data.train_images, data.train_labels, train_place)
        mean, std, whitening = *self.statistics(train, data), None
        if self.stats == "zca":
            channels = train.images.shape[1]
            mean, std = (0.0,) * channels, (1.0,) * channels
            whitening = zca(train).to(device)
        test = make_split(data.test_images, data.test_labels, test_place)
        splits = place_split(train, train_place, device), place_split(test, test_place, device)
        warn_of_classes(name, data)
        return RealData(name, *splits, data.class_names, mean, std, whitening)

    def statistics(self, train: Split, data: Prepared) -> Statistics:
        """Return mean and std per channel of the training split, which was made from ``data``."""
        can_rescale = not getattr(self, "rescale", True)  # a setting of image folders
        hint = "; dataset.rescale=true uses all of it" if can_rescale else ""
        return statistics(train, self.stats, self.name, hint)


@settings
class CachedDataset(Dataset):
    """A data set that is read from ``<data_dir>/<name>.npz``, which the first use writes.

    Args:
        data_dir: folder of prepared files. A file copied from another machine works as well.
    """

    data_dir: str

    @property
    def file(self) -> Path:
        """Path of the prepared form."""
        return expand_home(self.data_dir) / f"{self.name}.npz"

    def preparing(self, *settings: str) -> str:
        """Return the command that prepares the data set, for messages."""
        if (conf_dir() / "dataset" / f"{self.name}.yaml").is_file():
            words = " ".join(["dcond data prepare", self.name, *settings])
            return f"'{words}' (other settings as here)"
        words = " ".join(["dcond data prepare NAME", f"dataset.name={self.name}", *settings])
        return f"'{words}' (NAME and other settings as here)"  # of a renamed set

    @property
    def elsewhere(self) -> str:
        """How to prepare the data set on another machine, for messages."""
        return (
            f"Run {self.preparing()} on a machine with a network, then copy "
            f"{self.file.name} to {self.data_dir!r} (or set DCOND_DATA to its folder)."
        )

    @abstractmethod
    def make(self) -> Prepared:
        """Fetch or find the images and return both splits, checked."""

    def prepare(self) -> Path:
        """Write the prepared form if it is missing, check it and return its path."""
        self.arrays()
        return self.file

    def arrays(self) -> Prepared:
        """Return both splits from the prepared form, which is made if missing."""
        if not self.file.is_file():
            write_prepared(self.file, self.make())
        return read_prepared(self.file, some_classes=self.classes is not None)

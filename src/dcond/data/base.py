"""What every data set is: settings that are checked when it is made, and :meth:`Dataset.load`."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch

from dcond.data.placement import check_keep, place_split, places, split_of
from dcond.data.prepared import Prepared, read_prepared, write_prepared
from dcond.data.statistics import Statistics, check_stats, statistics
from dcond.errors import require
from dcond.types import RealData, Split

NAME = r"[A-Za-z0-9][\w.-]*"  # of a data set: it is part of names of files


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A source of labelled images. Making one reads nothing; :meth:`load` does.

    Args:
        name: how tables and files call it: letters, digits, ``_``, ``.`` and ``-``.
        flip: whether a mirrored image keeps its class; augmentations read it.
        stats: "pixel" measures mean and std on the training split, "sample" on 10,000 of its images
            at most; "legacy" takes the constants of the public DC code, for the sets that have
            them.
        keep: where the images stay: "device", "host" (memory), "disk", or "auto": the first with
            room (:func:`~dcond.data.placement.places`). Changes no number.
    """

    name: str
    flip: bool = False
    stats: str = "pixel"
    keep: str = "auto"

    def __post_init__(self) -> None:
        require(
            re.fullmatch(NAME, str(self.name)) is not None,
            f"dataset.name={self.name!r} cannot name a file; allowed: letters, digits, '_', '.' and '-'.",
        )
        require(
            isinstance(self.flip, bool),
            f"dataset.flip={self.flip!r} is unknown; allowed: true, false.",
        )
        check_stats(self.stats, self.name)
        check_keep(self.keep)

    @abstractmethod
    def arrays(self) -> Prepared:
        """Return both splits, checked; large images are read only when they are indexed."""

    def prepare(self) -> Path | None:
        """Write the prepared form and return its path, or None where there is nothing to gain by it."""
        return None

    def load(self, device: torch.device | str = "cpu") -> RealData:
        """Read the data set for use on ``device``.

        Raises:
            DataError: it cannot be had, or something in it cannot be used.
        """
        device, data = torch.device(device), self.arrays()
        train_place, test_place = places(self.name, data, self.keep, device)
        train = split_of(data.train_images, data.train_labels, train_place)
        mean, std = self.statistics(train, data)
        test = split_of(data.test_images, data.test_labels, test_place)
        splits = place_split(train, train_place, device), place_split(test, test_place, device)
        return RealData(self.name, *splits, data.class_names, mean, std)

    def statistics(self, train: Split, data: Prepared) -> Statistics:
        """Return mean and std of the training split, per channel, as ``stats`` says; ``data`` is where it is from."""
        return statistics(train, self.stats, self.name)


@dataclass(frozen=True, kw_only=True)
class CachedDataset(Dataset):
    """A data set that is costly to make: the first use writes ``<data_dir>/<name>.npz``, later ones read it.

    Args:
        data_dir: folder of prepared files. A file brought from elsewhere is used just as well.
    """

    data_dir: str

    @property
    def file(self) -> Path:
        """Path of the prepared form."""
        return Path(self.data_dir).expanduser() / f"{self.name}.npz"

    @property
    def elsewhere(self) -> str:
        """The way out of a machine that cannot fetch this data set."""
        return (
            f"Run 'dcond data prepare {self.name}' on a machine with a network, then copy {self.file.name} to "
            f"{self.data_dir!r} (or set DCOND_DATA to its folder)."
        )

    @abstractmethod
    def make(self) -> Prepared:
        """Fetch or find the images and return both splits, checked."""

    def prepare(self) -> Path:
        """Write the prepared form unless it is there already, in which case it is checked."""
        if self.file.is_file():
            self.arrays()
        else:
            write_prepared(self.file, self.make())
        return self.file

    def arrays(self) -> Prepared:
        """Return both splits from the prepared form, which is made if it is missing."""
        if not self.file.is_file():
            write_prepared(self.file, self.make())
        return read_prepared(self.file, on_disk=True)

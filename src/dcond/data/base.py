"""What every data set is: settings that are checked when it is made, and :meth:`Dataset.load`."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dcond.data.prepared import Prepared, read_prepared, write_prepared
from dcond.data.statistics import check_stats, statistics
from dcond.errors import require
from dcond.types import RealData, Split


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A source of labelled images. Making one reads nothing; :meth:`load` does.

    Args:
        name: how tables and files call it: letters, digits, ``_``, ``.`` and ``-``.
        flip: whether a mirrored image keeps its class; augmentations read it.
        stats: "pixel" measures mean and std on the training split; "legacy" takes the constants of the public
            DC code, for the sets that have them.
    """

    name: str
    flip: bool = False
    stats: str = "pixel"

    def __post_init__(self) -> None:
        require(
            re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(self.name)) is not None,
            f"dataset.name={self.name!r} cannot name a file; allowed: letters, digits, '_', '.' and '-'.",
        )
        require(isinstance(self.flip, bool), f"dataset.flip={self.flip!r} is unknown; allowed: true, false.")
        check_stats(self.stats, self.name)

    @abstractmethod
    def arrays(self) -> Prepared:
        """Return both splits, checked."""

    def prepare(self) -> Path | None:
        """Write the prepared form and return its path, or None where there is nothing to gain by it."""
        return None

    def load(self, device: torch.device | str = "cpu") -> RealData:
        """Read the data set onto ``device``.

        Raises:
            DataError: it cannot be had, or something in it cannot be used.
        """
        return to_real(self.name, self.arrays(), self.stats, torch.device(device))


@dataclass(frozen=True, kw_only=True)
class PreparedOnce(Dataset):
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
        return read_prepared(self.file)


def to_real(name: str, data: Prepared, stats: str, device: torch.device) -> RealData:
    """Turn arrays into tensors on ``device``, channels first; statistics are taken on the way."""
    train_images = _channels_first(data.train_images)
    mean, std = statistics(train_images, stats, name)
    train = Split(train_images, torch.from_numpy(data.train_labels)).to(device)
    test = Split(_channels_first(data.test_images), torch.from_numpy(data.test_labels)).to(device)
    return RealData(name, train, test, data.class_names, mean, std)


def _channels_first(images: NDArray[np.uint8]) -> torch.Tensor:
    # One copy per split; contiguous() would leave odd strides on grey images, which networks treat as channels-last.
    n, h, w, c = images.shape
    tensor = torch.empty(n, c, h, w, dtype=torch.uint8)
    tensor.numpy()[:] = images.transpose(0, 3, 1, 2)  # numpy also reads arrays that may not be written to
    return tensor

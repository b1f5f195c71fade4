"""A user's own images in folders, one per class."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from dcond.data.base import Dataset
from dcond.data.decoding import DecodedImages, ImageRule
from dcond.data.folder_listing import list_folder
from dcond.data.prepared import Prepared, write_prepared
from dcond.data.split import check_split_seed
from dcond.data.statistics import Statistics
from dcond.data.statistics_cache import cached_statistics
from dcond.errors import require
from dcond.types import Split


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """``path`` with ``train/`` and ``test/`` (or ``val/``), or one folder of class folders, which is split.

    The folder is listed anew each time, and its images decoded: all of them, or, where they stay on
    disk, those that are wanted when they are. :meth:`prepare` writes ``<data_dir>/<name>.npz``
    once, to be read by :class:`~dcond.data.npz.Npz` without decoding.

    Args:
        path: the folder.
        size: side in pixels, or None where all images have one size.
        resize: "crop", "squash" or "pad": see :class:`~dcond.data.decoding.ImageRule`.
        channels: 1, 3 or "auto".
        test_fraction: share of a single folder that becomes the test split, between 0 and 1.
        split_seed: seed of that split.
        data_dir: where :meth:`prepare` writes, and where mean and std of a folder that stays on
            disk are kept.
    """

    path: str
    name: str = "image_folder"
    size: int | None = None
    resize: str = "crop"
    channels: int | str = "auto"
    test_fraction: float = 0.2
    split_seed: int = 0
    data_dir: str = "data"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_split_seed(self.split_seed)
        require(
            isinstance(self.test_fraction, float) and 0 < self.test_fraction < 1,
            f"dataset.test_fraction={self.test_fraction} is out of range; allowed: between 0 and 1.",
        )
        self._rule()

    def _rule(self) -> ImageRule:
        return ImageRule(size=self.size, resize=self.resize, channels=self.channels)

    def arrays(self) -> Prepared:
        """Return both splits, decoded when they are indexed."""
        listing = list_folder(Path(self.path).expanduser(), self.test_fraction, self.split_seed)
        return self._rule().decode(listing)

    def statistics(self, train: Split, data: Prepared) -> Statistics:
        """Return mean and std; those of a split that stays on disk are kept, for they take its decoding."""
        measure = partial(super().statistics, train, data)
        if isinstance(train.images, Tensor) or self.stats == "legacy":
            return measure()
        assert isinstance(data.train_images, DecodedImages)
        return cached_statistics(
            Path(self.data_dir).expanduser(), self.name, self.stats, data.train_images, measure
        )

    def prepare(self) -> Path:
        """Write ``<data_dir>/<name>.npz`` from the folder as it is now, and return its path."""
        file = Path(self.data_dir).expanduser() / f"{self.name}.npz"
        write_prepared(file, self.arrays())
        return file

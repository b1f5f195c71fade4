"""A user's own images in folders, one per class."""

import hashlib
import json
import logging
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt, Lt
from torch import Tensor

from dcond.cache import cache_file, read_entry, write_entry
from dcond.data.base import Dataset
from dcond.data.decoding import (
    Channels,
    DecodedImages,
    ImageRule,
    Level,
    Resize,
    count_multi_frame,
)
from dcond.data.folder_listing import list_folder, survey
from dcond.data.prepared import Prepared, write_prepared
from dcond.data.statistics import Statistics
from dcond.errors import ConfigError, DataError
from dcond.paths import expand_home
from dcond.settings import NonNegativeInt, PositiveInt, settings
from dcond.types import Split

log = logging.getLogger(__name__)


@settings
class ImageFolder(Dataset):
    """``path`` with ``train/`` and ``test/`` (or ``val/``), or class folders, which are split.

    The folder is listed at every load. Its images are decoded then or, if they stay on disk, when
    they are used. :meth:`prepare` writes ``<data_dir>/<name>.npz``, which
    :class:`~dcond.data.npz.Npz` reads without decoding.

    Args:
        path: the folder.
        size: side in pixels, or None if all images have one size.
        resize: "crop", "squash" or "pad": see :class:`~dcond.data.decoding.ImageRule`.
        channels: 1, 3 or "auto".
        background: grey level behind transparent pixels, 0 (black) to 255 (white).
        rescale: map the smallest and the largest pixel of the training images to 0 and 255, for
            files that use a part of their range (12 bits in 16-bit PNG).
        test_fraction: share of the class folders that becomes the test split.
        split_seed: seed of that split.
        data_dir: :meth:`prepare` writes here; mean and std of folders on disk are cached here.
    """

    path: str
    name: str = "image_folder"
    size: PositiveInt | None = None
    resize: Resize = "crop"
    channels: Channels = "auto"
    background: Level = 255
    rescale: bool = False
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.2
    split_seed: NonNegativeInt = 0
    data_dir: str = "data"

    def arrays(self) -> Prepared:
        """Return both splits, decoded when they are indexed."""
        listing = list_folder(
            expand_home(self.path),
            self.test_fraction,
            self.split_seed,
            some_classes=self.classes is not None,
        )
        rule = ImageRule(
            size=self.size,
            resize=self.resize,
            channels=self.channels,
            background=self.background,
        )
        if self.rescale:
            rule = rule.rescaled(listing.train_files)
        return rule.decode(listing)

    def remarks(self) -> dict[str, str]:
        """Return how many files are skipped, by reason, and how many hold several frames."""
        files, others = survey(expand_home(self.path))
        remarks = {}
        if others:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in others.most_common())
            remarks["skipped files"] = f"{others.total():,}: {reasons}"
        if several := count_multi_frame(files):
            remarks["several frames"] = f"{several:,} files, of which the first frame is used"
        return remarks

    def statistics(self, train: Split, data: Prepared) -> Statistics:
        """Return mean and std, cached for images on disk, since measuring decodes all of them.

        A cached value is valid for the same files (names, sizes, modification times), decoded by
        the same rule.
        """
        measure = partial(super().statistics, train, data)
        if isinstance(train.images, Tensor) or self.stats == "legacy":
            return measure()
        assert isinstance(data.train_images, DecodedImages)
        folder = expand_home(self.data_dir) / "statistics"
        file = cache_file(folder, self.name, _state(self.stats, data.train_images))
        cached = read_entry(file, _parse)
        if cached is not None:
            return cached
        count = "10,000" if self.stats == "sample" else f"{len(train):,}"
        log.info("%s: measuring mean and std of %s images, once", self.name, count)
        mean, std = measure()
        content = {"name": self.name, "stats": self.stats, "images": len(train)}
        text = json.dumps(content | {"mean": mean, "std": std}, indent=2) + "\n"
        write_entry(file, text, "mean and std")
        return mean, std

    def prepare(self) -> Path:
        """Write ``<data_dir>/<name>.npz`` from the folder as it is now, and return its path.

        Raises:
            ConfigError: the file exists.
        """
        file = expand_home(self.data_dir) / f"{self.name}.npz"
        if file.exists():
            raise ConfigError(
                f"{file} exists and is not overwritten; remove it, or choose another dataset.name."
            )
        write_prepared(file, self.arrays())
        return file


def _state(stats: str, images: DecodedImages) -> bytes:
    """Return the cache key: the rule, the names, then size and modification time of each file."""
    names = hashlib.sha256(b"\0".join(images.files.names.tolist())).digest()
    states = np.empty((len(images), 2), np.int64)
    for row, file in enumerate(images.files):
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(
                f"{file} cannot be read ({error.strerror}); replace or remove it."
            ) from error
        states[row] = status.st_size, status.st_mtime_ns
    return f"{stats}/{images.rule!r}/{images.shape}".encode() + names + states.tobytes()


def _parse(file: Path) -> Statistics:
    content = json.loads(file.read_text(encoding="utf-8"))
    return tuple(map(float, content["mean"])), tuple(map(float, content["std"]))

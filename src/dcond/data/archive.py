"""Published sets that come as folders of image files: Tiny ImageNet, Imagenette, ImageWoof."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dcond.data.base import CachedDataset
from dcond.data.decoding import ImageRule
from dcond.data.folder_listing import list_folder
from dcond.data.prepared import Prepared
from dcond.data.torchvision_set import fetching
from dcond.errors import DataError, require

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Archive(CachedDataset):
    """An unpacked archive with ``train/`` and ``val/``, decoded once into the prepared form.

    Args:
        path: the unpacked folder; None where ``<data_dir>/<name>.npz`` exists or torchvision can
            fetch it.
        url: where people find the archive; only shown.
        download: fetch it with torchvision's ``Imagenette``, in the smallest of its sizes that
            ``size`` needs.
        size: side in pixels.
        resize: "crop", "squash" or "pad": see :class:`~dcond.data.decoding.ImageRule`.
        class_names: readable name of each class folder; folders not named keep their own.
    """

    path: str | None = None
    url: str
    download: bool = False
    size: int
    resize: str = "crop"
    class_names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.size is not None,
            f"dataset.size=null is out of range; {self.name} needs a side in pixels.",
        )
        self._rule()

    def _rule(self) -> ImageRule:
        return ImageRule(size=self.size, resize=self.resize, channels=3)

    def arrays(self) -> Prepared:
        """Return both splits from the prepared form, made if missing, which must have the wanted size and rule.

        Files from elsewhere may not say their rule.
        """
        data = super().arrays()
        height, width = data.train_images.shape[1:3]
        if (height, width) != (self.size, self.size):
            found = f"images of {width} x {height}, but dataset.size={self.size}"
        elif data.resize not in (None, self.resize):
            found = (
                f"images brought to their size by {data.resize!r}, but dataset.resize={self.resize}"
            )
        else:
            return data
        raise DataError(
            f"{self.file} holds {found}; remove the file to prepare it anew, or set another paths.data."
        )

    def make(self) -> Prepared:
        """Decode the folder, fetched first where torchvision can."""
        folder = self._folder()
        log.info("%s: decoding %s, once", self.name, folder)
        listing = list_folder(
            folder, test_fraction=0.5, split_seed=0
        )  # these sets bring their own test split
        names = tuple(self.class_names.get(name, name) for name in listing.class_names)
        return self._rule().decode(replace(listing, class_names=names))

    def _folder(self) -> Path:
        if self.path is not None:
            return Path(self.path).expanduser()
        if not self.download:
            raise DataError(
                f"{self.file} does not exist; download and unpack {self.url}, then run "
                f"'dcond data prepare {self.name} dataset.path=FOLDER' (the one that holds train/ and val/)."
            )
        return self._fetched()

    def _fetched(self) -> Path:
        from torchvision.datasets import Imagenette  # takes seconds to import

        wanted = next((f"{size}px" for size in (160, 320) if self.size <= size), "full")
        raw = self.file.parent / "raw" / self.name
        folder, unfinished = raw / wanted, raw / "unfinished"
        if not folder.is_dir():
            with fetching(self):
                # An unpacking cut short looks complete to torchvision: only a finished one gets its
                # name.
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir(parents=True)
                Imagenette(unfinished, size=wanted, download=True)
                unfinished.replace(folder)
        return next(folder.glob("*/train")).parent

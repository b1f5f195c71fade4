"""Published sets that come as folders of image files: Tiny ImageNet, Imagenette, ImageWoof."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from dcond.data.base import CachedDataset
from dcond.data.decoding import ImageRule, Resize
from dcond.data.folder_listing import list_folder
from dcond.data.prepared import Prepared
from dcond.data.torchvision_set import fetching
from dcond.errors import DataError
from dcond.paths import expand_home
from dcond.settings import PositiveInt, settings

log = logging.getLogger(__name__)


@settings
class Archive(CachedDataset):
    """An unpacked archive with ``train/`` and ``val/``, decoded once into the prepared form.

    Args:
        path: the unpacked folder; None if ``<data_dir>/<name>.npz`` exists or torchvision can fetch
            the archive.
        url: of the archive; only shown.
        download: fetch it with torchvision's ``Imagenette``, in the smallest of its sizes that
            ``size`` needs.
        size: side in pixels.
        resize: "crop", "squash" or "pad": see :class:`~dcond.data.decoding.ImageRule`.
        class_names: readable names of class folders; others keep the folder's name.
    """

    path: str | None = None
    url: str
    download: bool = False
    size: PositiveInt
    resize: Resize = "crop"
    class_names: Mapping[str, str] = field(default_factory=dict)

    def arrays(self) -> Prepared:
        """Return both splits from the prepared form, which is made if missing.

        Raises:
            DataError: the file has images of another size or rule (if it names one), or other
                class names.
        """
        made_now = not self.file.is_file()
        data = super().arrays()
        height, width = data.train_images.shape[1:3]
        given, found = set(self.class_names.values()), set(data.class_names)
        if (height, width) != (self.size, self.size):
            content = f"images of {width} x {height}, but dataset.size={self.size}"
        elif data.resize not in (None, self.resize):
            content = f"images resized by {data.resize!r}, but dataset.resize={self.resize}"
        elif not made_now and given - found and found - given:  # the folder may lack some classes
            content = f"no class {min(given - found)!r} of dataset.class_names"
        else:
            return data
        raise DataError(
            f"{self.file} holds {content}; remove the file to prepare it again, or set another "
            "paths.data."
        )

    def make(self) -> Prepared:
        """Decode the folder, after fetching it if torchvision can."""
        folder = self._folder()
        log.info("%s: decoding %s, once", self.name, folder)
        listing = list_folder(folder, test_fraction=None)
        names = tuple(self.class_names.get(name, name) for name in listing.class_names)
        rule = ImageRule(size=self.size, resize=self.resize, channels=3)
        return rule.decode(replace(listing, class_names=names))

    def _folder(self) -> Path:
        if self.path is not None:
            return expand_home(self.path)
        if not self.download:
            raise DataError(
                f"{self.file} does not exist; download and unpack {self.url}, then run "
                f"{self.preparing('dataset.path=FOLDER')}; FOLDER holds train/ and val/."
            )
        return self._fetch()

    def _fetch(self) -> Path:
        from torchvision.datasets import Imagenette  # slow to import

        size = next((f"{size}px" for size in (160, 320) if self.size <= size), "full")
        raw = self.file.parent / "raw" / self.name
        folder, unfinished = raw / size, raw / "unfinished"
        if not folder.is_dir():
            with fetching(self):
                # An interrupted unpacking looks complete to torchvision: rename a finished one.
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir(parents=True)
                Imagenette(unfinished, size=size, download=True)
                unfinished.replace(folder)
        train = next(folder.glob("*/train"), None)
        if train is None:
            raise DataError(
                f"{folder} holds no folder with train/; remove {folder} to fetch the archive again."
            )
        return train.parent

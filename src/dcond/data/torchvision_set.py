"""Classification sets that torchvision downloads and holds in memory: MNIST, CIFAR, SVHN etc."""

import contextlib
import http.client
import inspect
import io
import logging
import socket
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dcond.data.base import CachedDataset
from dcond.data.prepared import Prepared, check_prepared
from dcond.errors import READ_ERRORS, ConfigError, DataError, did_you_mean
from dcond.settings import settings

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0  # of a server that does not answer
_FETCH_ERRORS = (*READ_ERRORS, http.client.HTTPException, tarfile.TarError)


@settings
class TorchvisionSet(CachedDataset):
    """A set that torchvision fetches and verifies under ``<data_dir>/raw`` on first use.

    Args:
        source: name of the class in ``torchvision.datasets``; it must hold its images in ``data``
            and its labels in ``targets`` or ``labels``, and take ``train=`` or ``split="train" |
            "test"``.
        class_names: one per class; None takes torchvision's own, or numbers if it has none.
    """

    source: str
    class_names: Sequence[str] | None = None

    def arrays(self) -> Prepared:
        """Return both splits from the prepared form, which is made if missing.

        Raises:
            DataError: the file was made from another source, or has other class names.
        """
        data = super().arrays()
        if data.source not in (None, self.source):
            content = f"torchvision's {data.source}, but dataset.source={self.source}"
        elif self.class_names and tuple(self.class_names) != data.class_names:
            ours, theirs = (", ".join(names) for names in (self.class_names, data.class_names))
            content = f"the classes {theirs}, but dataset.class_names=[{ours}]"
        else:
            return data
        raise DataError(
            f"{self.file} holds {content}; give this set another dataset.name, or remove the file "
            "to prepare it again."
        )

    def make(self) -> Prepared:
        """Download both splits and return them, checked."""
        arrays: dict[str, Any] = {"source": np.array(self.source)}
        names = self.class_names
        for split in ("train", "test"):
            content = self._fetch(split)
            names = names or getattr(content, "classes", None)
            labels = getattr(content, "targets", getattr(content, "labels", None))
            if labels is None or not hasattr(content, "data"):
                raise self._unusable
            images = np.asarray(content.data)
            if images.ndim == 4 and images.shape[1] == 3:  # SVHN and STL-10 have channels first
                images = images.transpose(0, 2, 3, 1)
            arrays[f"{split}_images"] = images
            arrays[f"{split}_labels"] = np.asarray(labels).astype(np.int64)
        if names:
            arrays["class_names"] = np.array(list(names))
        return check_prepared(arrays)

    @property
    def _unusable(self) -> ConfigError:
        return ConfigError(
            f"dataset.source={self.source!r} cannot be used; allowed: classes of "
            "torchvision.datasets that take download= and train= or split=, and hold data and "
            "targets or labels, as CIFAR10. Use dataset=image_folder or dataset=npz instead."
        )

    def _fetch(self, split: str) -> Any:
        from torchvision import datasets  # slow to import

        maker = getattr(datasets, self.source, None)
        if maker is None:
            hint = did_you_mean(self.source, datasets.__all__)
            raise ConfigError(
                f"dataset.source={self.source!r} is not a data set of torchvision.datasets.{hint}"
            )
        raw = self.file.parent / "raw" / self.name
        choice: dict[str, Any] = {"split": split}
        try:
            signature = inspect.signature(maker)
            if "train" in signature.parameters:
                choice = {"train": split == "train"}
            elif any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values()):
                raise self._unusable  # EMNIST's splits are others, ImageNet has no download
            signature.bind(raw, download=True, **choice)
        except TypeError:
            raise self._unusable from None
        log.info("%s: fetching the %s split with torchvision", self.name, split)
        with fetching(self):
            raw.mkdir(parents=True, exist_ok=True)
            return maker(raw, download=True, **choice)


@contextlib.contextmanager
def fetching(dataset: CachedDataset) -> Iterator[None]:
    """Turn any failure of a download by torchvision into a :class:`DataError` with advice."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # torchvision prints mirrors that fail
            yield
    except _FETCH_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{dataset.file} does not exist and {dataset.name} could not be fetched ({reason}). "
            f"{dataset.elsewhere}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)

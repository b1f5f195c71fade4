"""Classification sets that torchvision downloads and holds in memory: MNIST, CIFAR, SVHN and the like."""

import contextlib
import http.client
import inspect
import io
import logging
import socket
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcond.data.base import CachedDataset
from dcond.data.prepared import READ_ERRORS, Prepared, check_prepared
from dcond.errors import ConfigError, DataError, did_you_mean

log = logging.getLogger(__name__)

SILENCE_S = 30.0  # a server that says nothing for so long is taken for absent
_FETCH_ERRORS = (*READ_ERRORS, http.client.HTTPException, tarfile.TarError)


@dataclass(frozen=True, kw_only=True)
class TorchvisionSet(CachedDataset):
    """Fetched and checksummed by torchvision under ``<data_dir>/raw`` on first use, then kept in the prepared form.

    Args:
        source: name of the class in ``torchvision.datasets``; it must hold its images in ``data``
            and its labels in ``targets`` or ``labels``, and take ``train=`` or ``split="train" |
            "test"``.
        class_names: one per class; None takes torchvision's own, or numbers where it has none.
    """

    source: str
    class_names: Sequence[str] | None = None

    def arrays(self) -> Prepared:
        """Return both splits from the prepared form, made if missing, which must be of this source if it says so."""
        data = super().arrays()
        if data.source not in (None, self.source):
            raise DataError(
                f"{self.file} holds torchvision's {data.source}, but dataset.source={self.source}; give this set a "
                "dataset.name of its own, or remove the file to prepare it anew."
            )
        return data

    def make(self) -> Prepared:
        """Download both splits and return them, checked."""
        train, test = self._fetch(train=True), self._fetch(train=False)
        names = self.class_names or getattr(train, "classes", None)
        arrays: dict[str, NDArray[np.generic]] = {
            "train_images": _images(train),
            "train_labels": _labels(train),
            "test_images": _images(test),
            "test_labels": _labels(test),
            "source": np.array(self.source),
        }
        if names:
            arrays["class_names"] = np.array(list(names))
        return check_prepared(arrays)

    def _fetch(self, *, train: bool) -> Any:
        from torchvision import (
            datasets,  # takes seconds to import, and only an unprepared set needs it
        )

        maker = getattr(datasets, self.source, None)
        if maker is None:
            hint = did_you_mean(self.source, datasets.__all__)
            raise ConfigError(
                f"dataset.source={self.source!r} is not the name of a set in torchvision.datasets.{hint}"
            )
        choice: dict[str, Any] = {"split": "train" if train else "test"}
        if "train" in inspect.signature(maker).parameters:
            choice = {"train": train}
        raw = self.file.parent / "raw" / self.name
        log.info(
            "%s: fetching the %s split with torchvision", self.name, "training" if train else "test"
        )
        with fetching(self):
            raw.mkdir(parents=True, exist_ok=True)
            return maker(raw, download=True, **choice)


@contextlib.contextmanager
def fetching(dataset: CachedDataset) -> Iterator[None]:
    """Turn whatever goes wrong in a download by torchvision into one :class:`DataError` with the way out."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        with contextlib.redirect_stdout(
            io.StringIO()
        ):  # torchvision prints every mirror that fails
            yield
    except _FETCH_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{dataset.file} does not exist and {dataset.name} could not be fetched ({reason}). {dataset.elsewhere}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _images(source: Any) -> NDArray[np.uint8]:
    images: NDArray[np.uint8] = np.asarray(source.data)
    if images.ndim == 4 and images.shape[1] == 3:  # SVHN and STL-10 keep channels first
        images = images.transpose(0, 2, 3, 1)
    return images


def _labels(source: Any) -> NDArray[np.int64]:
    labels = source.targets if hasattr(source, "targets") else source.labels
    return np.asarray(labels).astype(np.int64)

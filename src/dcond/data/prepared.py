"""The prepared form of a data set: ``<data_dir>/<name>.npz`` with uint8 images, labels and class names."""

import pickle
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcond.data.validate import as_class_names, as_images, as_labels, check_classes, check_no_class_empty
from dcond.errors import DataError
from dcond.paths import write_atomically

# Whatever numpy and zipfile raise on a file that is damaged or is none of theirs.
READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
)


@dataclass
class Prepared:
    """Both splits in memory: uint8 images (n, h, w, c), int64 labels (n,), and one name per class."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]


def check_prepared(arrays: dict[str, NDArray[np.generic]]) -> Prepared:
    """Check everything that is promised of a data set and return it.

    Args:
        arrays: by the names of :class:`Prepared`; ``class_names`` may be missing. Taken out one by one, so that at
            most one split is held twice while it is converted.

    Raises:
        DataError: an array is missing or breaks a rule of :mod:`dcond.data.validate`, or the splits do not fit.
    """
    needed = ("train_images", "train_labels", "test_images", "test_labels")
    missing = [key for key in needed if key not in arrays]
    if missing:
        raise DataError(f"{', '.join(missing)} missing; needed: {', '.join(needed)} (and class_names, if any).")
    train_images = as_images(arrays.pop("train_images"), "train_images")
    test_images = as_images(arrays.pop("test_images"), "test_images")
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"training images are {train_images.shape[1:]} and test images {test_images.shape[1:]} "
            "(height, width, channels); both splits must have the same."
        )
    train_labels = as_labels(arrays.pop("train_labels"), "train_labels", len(train_images))
    test_labels = as_labels(arrays.pop("test_labels"), "test_labels", len(test_images))
    class_names = as_class_names(arrays.pop("class_names", None), train_labels)
    check_classes(train_labels, "train_labels", class_names)
    check_classes(test_labels, "test_labels", class_names)
    check_no_class_empty(train_labels, class_names)
    return Prepared(train_images, train_labels, test_images, test_labels, class_names)


def read_prepared(path: Path) -> Prepared:
    """Read a prepared file, or a user's npz of the same keys, and check it.

    Nothing is unpickled. Float images in [0, 1] and grey images without a channel axis are accepted.

    Raises:
        DataError: the file is missing, damaged, no npz, or its content breaks a rule; the message names the file.
    """
    try:
        if not zipfile.is_zipfile(path):  # numpy would take it for a pickle, and advise to open it unsafely
            path.stat()
            raise DataError(f"{path} is not an npz file, or only the first part of one; write or copy it again.")
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {key: loaded[key] for key in Prepared.__dataclass_fields__ if key in loaded}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give the path of an npz file.") from None
    except READ_ERRORS as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as an npz file ({reason}); write or copy it again.") from error
    try:
        return check_prepared(arrays)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def write_prepared(path: Path, data: Prepared) -> None:
    """Write a prepared file whole or not at all; folders are made as needed.

    Raises:
        DataError: the folder cannot be written to, or the disk is full.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # by name, savez would add a second suffix
            # Not compressed: CIFAR-10 then opens in a fifth of a second instead of two.
            np.savez(
                file,
                train_images=data.train_images,
                train_labels=data.train_labels,
                test_images=data.test_images,
                test_labels=data.test_labels,
                class_names=np.array(data.class_names),
            )

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error}); free some space or choose another data folder.") from error

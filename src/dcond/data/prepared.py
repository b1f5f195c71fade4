"""The prepared form of a data set: ``<data_dir>/<name>.npz`` with uint8 images, labels and class names."""

import pickle
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dcond.data.npz_images import open_member
from dcond.data.validate import (
    Images,
    as_class_names,
    as_images,
    as_labels,
    check_classes,
    check_no_class_empty,
)
from dcond.errors import DataError
from dcond.paths import write_atomically

KEYS = (
    "train_images",
    "train_labels",
    "test_images",
    "test_labels",
    "class_names",
    "resize",
    "source",
)
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


ALL_AT_ONCE = "the npz file is compressed, or its images are no 8-bit pixels; save uint8 arrays with numpy.savez"
WRITE_BYTES = 2**25  # of images, at a time


@dataclass
class Prepared:
    """Both splits: uint8 images (n, h, w, c), int64 labels (n,), and one name per class.

    ``in_memory`` says why the images are held whole; empty where they are read when they are
    indexed. ``resize`` is the rule that brought them to their size, ``source`` what torchvision
    calls the set; None where not known, or there is none.
    """

    train_images: Images
    train_labels: NDArray[np.int64]
    test_images: Images
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    in_memory: str = "it is made in memory"
    resize: str | None = None
    source: str | None = None


def check_prepared(arrays: dict[str, Any], in_memory: str = "it is made in memory") -> Prepared:
    """Check everything that is promised of a data set and return it.

    Args:
        arrays: by the names of :class:`Prepared`; ``class_names`` and ``resize`` may be missing.
            Taken out one by one, so that at most one split is held twice while it is converted.
            uint8 images are not looked at, nor read.
        in_memory: see :class:`Prepared`.

    Raises:
        DataError: an array is missing or breaks a rule of :mod:`dcond.data.validate`, or the splits
            do not fit.
    """
    needed = ("train_images", "train_labels", "test_images", "test_labels")
    missing = [key for key in needed if key not in arrays]
    if missing:
        raise DataError(
            f"{', '.join(missing)} missing; needed: {', '.join(needed)} (and class_names, if any)."
        )
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
    said = {key: _text(arrays.pop(key, None)) for key in ("resize", "source")}
    return Prepared(
        train_images, train_labels, test_images, test_labels, class_names, in_memory, **said
    )


def _text(array: Any) -> str | None:
    return str(array) if array is not None and array.ndim == 0 and array.dtype.kind == "U" else None


def read_prepared(path: Path, *, on_disk: bool = False) -> Prepared:
    """Read a prepared file, or a user's npz of the same keys, and check it.

    Nothing is unpickled. Float images in [0, 1] and grey images without a channel axis are
    accepted.

    Args:
        path: the file.
        on_disk: leave the images of both splits on disk until they are indexed, where the file
            allows it.

    Raises:
        DataError: the file is missing, damaged, no npz, or its content breaks a rule; the message
            names the file.
    """
    try:
        if not zipfile.is_zipfile(
            path
        ):  # numpy would take it for a pickle, and advise to open it unsafely
            path.stat()
            raise DataError(
                f"{path} is not an npz file, or only the first part of one; write or copy it again."
            )
        images = _on_disk(path) if on_disk else {}
        with np.load(path, allow_pickle=False) as loaded:
            arrays = images | {
                key: _plain(path, loaded, key)
                for key in KEYS
                if key in loaded and key not in images
            }
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give the path of an npz file.") from None
    except READ_ERRORS as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} cannot be read as an npz file ({reason}); write or copy it again."
        ) from error
    try:
        return check_prepared(arrays, "" if images else ALL_AT_ONCE)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _plain(path: Path, loaded: Any, key: str) -> Any:
    """Return an array of a file that is open."""
    try:
        return loaded[key]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        raise DataError(
            f"{path}: {key} holds Python objects, which are not read; save texts as "
            "np.array([...], dtype=str), images and labels as numbers."
        ) from error


def _on_disk(path: Path) -> dict[str, Any]:
    """Return the images of both splits as they lie in the file, or nothing where those of one must be read whole."""
    with zipfile.ZipFile(path) as archive:
        there = set(archive.namelist())
    images = {
        key: open_member(path, key)
        for key in KEYS
        if key.endswith("images") and f"{key}.npy" in there
    }
    return images if len(images) == 2 and all(images.values()) else {}


def write_prepared(path: Path, data: Prepared) -> None:
    """Write a prepared file whole or not at all; folders are made as needed.

    Raises:
        DataError: the folder cannot be written to, or the disk is full.
    """

    def write(temporary: Path) -> None:
        # Not compressed: CIFAR-10 then opens in a fifth of a second instead of two, and images can
        # stay on disk.
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for key in (key for key in KEYS if getattr(data, key) is not None):
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    _write_array(member, getattr(data, key), images=key.endswith("images"))

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
    except OSError as error:
        raise DataError(
            f"cannot write {path} ({error}); free some space or choose another data folder."
        ) from error


def _write_array(member: IO[bytes], array: Any, *, images: bool) -> None:
    """Write an array as numpy's ``save`` does; images a part at a time, however many there are."""
    if not images:
        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        return
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, array.shape))}
    np.lib.format.write_array_header_1_0(member, header)
    step = max(1, WRITE_BYTES // int(np.prod(array.shape[1:])))
    for begin in range(0, len(array), step):
        member.write(np.ascontiguousarray(array[begin : begin + step]).data)

"""The prepared form of a data set: ``<data_dir>/<name>.npz`` with images, labels and names."""

import logging
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    check_from_zero,
    missing_classes,
    part_size,
)
from dcond.errors import READ_ERRORS, DataError
from dcond.paths import file_kind, write_atomically

log = logging.getLogger(__name__)

NEEDED = ("train_images", "train_labels", "test_images", "test_labels")
KEYS = (*NEEDED, "class_names", "resize", "source")
VALIDATION = ("val_images", "val_labels")
MADE_IN_MEMORY = "it is made in memory"
READ_WHOLE = (
    "the npz file is compressed, or its images are not 8-bit pixels; "
    "save uint8 arrays with numpy.savez"
)


@dataclass
class Prepared:
    """Both splits: uint8 images (n, h, w, c), int64 labels (n,), and one name per class.

    Args:
        train_images: an array, or images that are read when they are indexed.
        train_labels: class indices.
        test_images: as ``train_images``.
        test_labels: class indices.
        class_names: one per class.
        in_memory: why the images are held in memory; empty if they are read when indexed.
        resize: the rule that brought the images to their size; None if unknown.
        source: torchvision's name of the set; None if unknown or from elsewhere.
    """

    train_images: Images
    train_labels: NDArray[np.int64]
    test_images: Images
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    in_memory: str = MADE_IN_MEMORY
    resize: str | None = None
    source: str | None = None


def check_prepared(
    arrays: dict[str, Any], in_memory: str = MADE_IN_MEMORY, *, some_classes: bool = False
) -> Prepared:
    """Check all that a data set must fulfil and return it.

    Args:
        arrays: by the names of :class:`Prepared`; ``class_names``, ``resize`` and ``source`` are
            optional. Entries are removed one by one, so that at most one split is held twice while
            it is converted. uint8 images are not read.
        in_memory: see :class:`Prepared`.
        some_classes: only some classes will be used: others may lack training images.

    Raises:
        DataError: an array is missing or breaks a rule of :mod:`dcond.data.validate`, or the splits
            do not match.
    """
    if missing := [key for key in NEEDED if key not in arrays]:
        raise DataError(
            f"{', '.join(missing)} missing; needed: {', '.join(NEEDED)} (class_names is optional)."
        )
    train_images = as_images(arrays.pop("train_images"), "train_images")
    test_images = as_images(arrays.pop("test_images"), "test_images")
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"training images are {train_images.shape[1:]} and test images "
            f"{test_images.shape[1:]} (height, width, channels); both splits must have the same."
        )
    train_labels = as_labels(arrays.pop("train_labels"), "train_labels", len(train_images))
    test_labels = as_labels(arrays.pop("test_labels"), "test_labels", len(test_images))
    names = arrays.pop("class_names", None)
    known = np.concatenate([train_labels, test_labels]) if some_classes else train_labels
    if not some_classes:
        check_from_zero(known, 0 if names is None else names.size)
    class_names = as_class_names(names, known, some_classes=some_classes)
    check_classes(train_labels, "train_labels", class_names)
    check_classes(test_labels, "test_labels", class_names)
    if not some_classes:
        check_training_classes(train_labels, class_names)
    origin = {key: _text(arrays.pop(key, None)) for key in ("resize", "source")}
    return Prepared(
        train_images, train_labels, test_images, test_labels, class_names, in_memory, **origin
    )


def check_training_classes(labels: NDArray[np.int64], class_names: tuple[str, ...]) -> None:
    """Raise :class:`DataError` if a class has no training image."""
    if empty := missing_classes(labels, class_names):
        raise DataError(
            f"no training image for class {empty}; add images, remove the class and number the "
            "others 0, 1, 2, ..., or choose the classes: dataset.classes=[A,B]."
        )


def _text(array: Any) -> str | None:
    return str(array) if array is not None and array.ndim == 0 and array.dtype.kind == "U" else None


def warn_of_classes(name: str, data: Prepared) -> None:
    """Warn of a single class, of classes without test images, or with equal training images."""
    if len(data.class_names) == 1:
        log.warning(
            "%s has one class, %r: every accuracy is 100 %%; of an image folder give the folder "
            "that holds the class folders",
            *(name, data.class_names[0]),
        )
    if missing := missing_classes(data.test_labels, data.class_names):
        log.warning("%s: no test image of class %s", name, missing)
    counts = np.bincount(data.train_labels, minlength=len(data.class_names))
    order = np.argsort(data.train_labels, kind="stable")
    for class_name, rows in zip(
        data.class_names, np.split(order, counts.cumsum()[:-1]), strict=True
    ):
        first = data.train_images[rows[:1]]
        equal = ((data.train_images[rows[i : i + 1]] == first).all() for i in range(1, len(rows)))
        if len(rows) > 1 and all(equal):  # reads two images of most classes
            log.warning("%s: all training images of class %r are equal", name, class_name)


def read_prepared(path: Path, *, some_classes: bool = False) -> Prepared:
    """Read a prepared file, or a user's npz with the same keys, and check it.

    Nothing is unpickled. Images are read when they are indexed, if the file allows it. Float images
    in [0, 1] and grey images without a channel axis are accepted, and a validation split where
    there is no test split.

    Args:
        path: the file.
        some_classes: see :func:`check_prepared`.

    Raises:
        DataError: the file is missing, damaged, not an npz, or its content breaks a rule; the
            message names the file.
    """
    with _reading(path):
        with zipfile.ZipFile(path) as archive:
            names = {name[:-4] for name in archive.namelist() if name.endswith(".npy")}
        others, split = [key for key in VALIDATION if key in names], "test"
        if others and not {"test_images", "test_labels"} & names:
            split = "val"
        keys = [key.replace("test", split) for key in KEYS]
        images = _images_on_disk(path, names & {"train_images", f"{split}_images"})
        arrays = images | _load(path, [key for key in keys if key not in images])
    if others:
        use = "the test split" if split == "val" else "not used"
        log.info("%s: %s are %s", path, ", ".join(others), use)
    arrays = {key.replace(split, "test"): array for key, array in arrays.items()}
    try:
        in_memory = "" if images else READ_WHOLE
        return check_prepared(arrays, in_memory, some_classes=some_classes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def read_npz(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Return those of the arrays ``keys`` that an npz file has.

    Args:
        path: the file.
        keys: names of arrays.

    Raises:
        DataError: the file cannot be read: it is missing, damaged or not an npz, or holds Python
            objects.
    """
    with _reading(path):
        return _load(path, keys)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Check that a file is an npz, and turn what fails within the block into one line."""
    try:
        if path.is_dir():
            is_zip, kind = False, "a folder, for dataset=image_folder"
        else:
            with path.open("rb") as file:  # is_zipfile(path) hides why it cannot be opened
                is_zip, kind = zipfile.is_zipfile(file), file_kind(path)
        if not is_zip:  # numpy would read it as a pickle
            raise DataError(
                f"{path} is not an npz file{kind and f': it is {kind}'}; write or copy it again."
            )
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give the path of an npz file.") from None
    except PermissionError as cause:
        raise DataError(
            f"{path} cannot be read ({cause.strerror}); allow it (chmod +r) or copy the file."
        ) from cause
    except READ_ERRORS as cause:
        reason = " ".join(str(cause).split())
        raise DataError(
            f"{path} cannot be read as an npz file ({reason}); write or copy it again."
        ) from cause


def _load(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as loaded:
        return {key: _array(path, loaded, key) for key in keys if key in loaded}


def _array(path: Path, loaded: Any, key: str) -> Any:
    try:
        return loaded[key]
    except ValueError as cause:
        if "Object arrays" not in str(cause):
            raise
        raise DataError(
            f"{path}: {key} holds Python objects, which are not read; save texts as "
            "np.array([...], dtype=str), images and labels as numbers."
        ) from cause


def _images_on_disk(path: Path, keys: set[str]) -> dict[str, Any]:
    """Return the images of both splits, read on demand; empty if either must be read whole."""
    images = {key: open_member(path, key) for key in keys}
    return images if len(images) == 2 and all(images.values()) else {}


def write_prepared(path: Path, data: Prepared) -> None:
    """Write a prepared file atomically; its folder is created.

    Raises:
        DataError: the folder cannot be written to, or the disk is full.
    """

    def write(temporary: Path) -> None:
        # Not compressed: opens five to ten times faster, and images can stay on disk.
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
    """Write an array in numpy's format; images in parts, so that memory does not limit them."""
    if not images:
        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        return
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, array.shape))}
    np.lib.format.write_array_header_1_0(member, header)
    step = part_size(array.shape)
    for begin in range(0, len(array), step):
        member.write(np.ascontiguousarray(array[begin : begin + step]).data)

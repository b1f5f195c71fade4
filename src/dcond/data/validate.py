"""Checks that arrays of unknown origin fulfil what dcond assumes of images and labels."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dcond.errors import DataError

PART_BYTES = 2**25  # of images, read or written at a time
MANY_CLASSES = 100_000


class Images(Protocol):
    """uint8 images (n, h, w, c): an array, or images that are read when they are indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, h, w, c)."""
        ...

    def __len__(self) -> int:
        """Return n."""
        ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """Return the images of a slice, or of rows int64 (m,)."""
        ...


def part_size(shape: Sequence[int]) -> int:
    """Return how many images of an array (n, ...) are read or written at a time."""
    return max(1, PART_BYTES // math.prod(shape[1:]))


def as_images(array: Any, what: str) -> Images:
    """Return images as uint8 (n, h, w, c) with c 1 or 3.

    Args:
        array: uint8 in [0, 255], returned without a copy and not read, or floating point in [0, 1],
            rounded to the nearest of 256 levels; (n, h, w), (n, h, w, 1) or (n, h, w, 3).
        what: name of the array in messages.

    Raises:
        DataError: another shape or type, no image, or a value that is not finite or out of range.
    """
    if len(array.shape) == 3:
        array = array[..., None]
    shape = array.shape
    if len(shape) != 4 or shape[-1] not in (1, 3):
        channels_first = len(shape) == 4 and shape[1] in (1, 3)
        hint = " Use transpose(0, 2, 3, 1)." if channels_first else ""
        raise DataError(
            f"{what} has shape {shape}; allowed: (n, h, w), (n, h, w, 1) and (n, h, w, 3).{hint}"
        )
    if math.prod(shape) == 0:
        raise DataError(f"{what} is empty (shape {shape}); each split needs at least one image.")
    if array.dtype == np.uint8:
        images: Images = array
        return images
    if array.dtype.kind == "f":
        return _from_unit_range(array, what)
    raise DataError(
        f"{what} has type {array.dtype}; allowed: uint8 with values 0 to 255, or floating point "
        "with values 0 to 1. Bring them to 0 to 1 by the largest value that they can have, as "
        "images / 4095 for 12 bits; astype('uint8') alone would wrap values above 255."
    )


def _from_unit_range(array: NDArray[np.generic], what: str) -> NDArray[np.uint8]:
    images = np.empty(array.shape, np.uint8)
    step = part_size((*array.shape, 8))  # bytes of float64
    for start in range(0, len(array), step):
        part = array[start : start + step].astype(np.float64)
        finite = np.isfinite(part).all(axis=(1, 2, 3))
        if not finite.all():
            raise DataError(
                f"{what} holds NaN or an infinite value, first in image "
                f"{start + int(np.argmin(finite))}; remove or repair that image."
            )
        low, high = part.min(), part.max()
        if low < 0 or high > 1:
            scale = (
                "Use (images - low) / (high - low), with one low and one high for all images"
                if low < 0
                else "Divide by the largest possible value"
            )
            raise DataError(
                f"{what} is floating point with values from {low:g} to {high:g}; allowed: 0 to 1. "
                f"{scale}, or save uint8 with values 0 to 255."
            )
        images[start : start + step] = np.rint(part * 255)
    return images


def as_labels(array: NDArray[np.generic], what: str, count: int) -> NDArray[np.int64]:
    """Return ``count`` labels, (n,) or (n, 1), as int64 (n,).

    Raises:
        DataError: another shape, not of an integer type, negative, or not one per image.
    """
    if array.ndim == 2 and array.shape[1] == 1:  # as MedMNIST stores them
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        one_hot = (
            " For one-hot labels use labels.argmax(1); several classes of an image are refused."
        )
        several = one_hot if array.ndim == 2 else ""
        raise DataError(
            f"{what} has type {array.dtype} and shape {array.shape}; allowed: one integer per "
            f"image, shape (n,).{several}"
        )
    if len(array) != count:
        raise DataError(
            f"{what} holds {len(array)} labels for {count} images; give one label per image."
        )
    labels = array.astype(np.int64)
    if labels.min() < 0:
        row = int(labels.argmin())
        raise DataError(f"{what}[{row}] is {labels[row]}; labels count from 0.")
    return labels


def as_class_names(
    array: NDArray[np.generic] | None, labels: NDArray[np.int64], *, some_classes: bool
) -> tuple[str, ...]:
    """Return one name per class; without an array "0", "1", ... up to the largest label.

    Args:
        array: the names.
        labels: of the training images, with ``some_classes`` of all.
        some_classes: whether classes may have no image: a client has a few of many.

    Raises:
        DataError: the names are not text, or missing and the labels cannot be class indices.
    """
    if array is None:
        classes = int(labels.max()) + 1
        if some_classes and classes > MANY_CLASSES:
            raise DataError(
                f"the largest label is {classes - 1}; allowed: up to {MANY_CLASSES - 1:,}. Number "
                "the classes 0, 1, 2, ..."
            )
        if not some_classes and classes > len(labels):
            raise DataError(
                f"the largest training label is {classes - 1}, but there are only "
                f"{len(labels)} training images; number the classes 0, 1, 2, ... with no gap."
            )
        return tuple(str(label) for label in range(classes))
    if array.ndim != 1 or array.dtype.kind != "U":
        raise DataError(
            f"class_names has type {array.dtype} and shape {array.shape}; allowed: one text per "
            "class, as numpy.array(['cat', 'dog'])."
        )
    return tuple(str(name) for name in array)


def check_from_zero(labels: NDArray[np.int64], classes: int) -> None:
    """Raise :class:`DataError` for training labels that count from 1 instead of 0."""
    low, high = int(labels.min()), int(labels.max())
    if low == 1 and high == max(classes, len(np.unique(labels))):
        raise DataError(
            f"train_labels go from 1 to {high}, but labels count from 0; subtract 1 from all "
            "labels."
        )


def check_classes(labels: NDArray[np.int64], what: str, class_names: tuple[str, ...]) -> None:
    """Raise :class:`DataError` if a label (not negative) is not an index of a class."""
    classes = len(class_names)
    if labels.max() >= classes:
        row = int(labels.argmax())
        raise DataError(
            f"{what}[{row}] is {labels[row]}; allowed: 0 to {classes - 1}, for {classes} classes."
        )


def missing_classes(labels: NDArray[np.int64], class_names: tuple[str, ...]) -> str:
    """Return the classes without images, at most five by name; empty if there is none."""
    counts = np.bincount(labels, minlength=len(class_names))
    empty = [f"{name!r} ({label})" for label, name in enumerate(class_names) if counts[label] == 0]
    more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
    return ", ".join(empty[:5]) + more

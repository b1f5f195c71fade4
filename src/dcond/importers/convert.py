"""Fitting what a public file holds to a data set: pixels, labels and classes as dcond has them, or one clear line.

Nothing is guessed: where a file and its layout leave something open, the line says which option to
pass.
"""

import logging
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from dcond.data.statistics import Statistics
from dcond.errors import DataError, UnsupportedError
from dcond.importers.class_matching import class_order
from dcond.importers.raw_set import RawSet
from dcond.types import RealData, SyntheticSet
from dcond.whitening import Whitening, fit_whitening

log = logging.getLogger(__name__)

OUTSIDE = 0.5  # how far stray pixels of a set that is clipped now and then may leave [0, 1]
LARGEST_PIXEL = 8.0  # above it, "pixels in [0, 1]" are surely counted to 255


class ReadOptions(NamedTuple):
    """How the command line says that a file is to be read; see :class:`~dcond.importers.source.Source`."""

    normalised: bool | None = None
    zca: bool = False
    factor: int | None = None
    logits: bool = False
    statistics: Statistics | None = None
    option: str = "synthetic"


class Pixels(NamedTuple):
    """Images in pixel space, with what networks see instead of them, in words too."""

    images: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    whitening: Whitening | None
    read_as: str
    words: str


def fit(found: RawSet, reading: ReadOptions, real: RealData) -> tuple[SyntheticSet, str]:
    """Return the set as dcond has it, and in words how it was read.

    Raises:
        DataError: labels, classes or image size are not those of the data set.
        UnsupportedError: something cannot be known; says what to pass.
    """
    _check_shape(found, real)
    factor = _factor(found, reading)
    labels, order = _labels(found, reading, real)
    pixels = _pixels(found, reading, real)
    rate = {} if found.learned_lr is None else {"learned_lr": repr(found.learned_lr)}
    synthetic = SyntheticSet(
        images=pixels.images[order.to(pixels.images.device)].cpu(),
        labels=labels[order],
        class_names=real.class_names,
        ipc=len(labels) // len(real.class_names),
        mean=pixels.mean,
        std=pixels.std,
        factor=factor,
        align_corners=found.align_corners,
        whitening=pixels.whitening,
        metadata={
            "method": found.path.stem,
            "dataset": real.name,
            "layout": found.layout,
            "read_as": pixels.read_as,
        }
        | rate,
    )
    packed = "" if factor == 1 else f", factor {factor}"
    learned = (
        "" if found.learned_lr is None else f"; learnt with evaluation.lr={found.learned_lr:g}"
    )
    return synthetic, f"{found.layout}, {pixels.words}{packed}{learned}"


def _check_shape(found: RawSet, real: RealData) -> None:
    got, wanted = tuple(found.images.shape[1:]), tuple(real.train.images.shape[1:])
    if got != wanted:
        raise DataError(
            f"{found.path} ({found.layout}) holds images of {got} (channels, height, width), data set "
            f"{real.name!r} has {wanted}; evaluate it on the data set it was made from (dataset=NAME)."
        )


def _factor(found: RawSet, reading: ReadOptions) -> int:
    factor = found.factor if reading.factor is None else reading.factor
    if factor is None:
        raise UnsupportedError(
            f"{found.path} ({found.layout}) does not hold its multi-formation factor; pass {reading.option}.factor=2 "
            "(as most of these sets have), another one, or 1 where an image is an image."
        )
    side = min(found.images.shape[-2:])
    if factor > side:
        raise DataError(
            f"{found.path}: factor={factor} does not fit images of {side} px; pass {reading.option}.factor."
        )
    return factor


def _labels(found: RawSet, reading: ReadOptions, real: RealData) -> tuple[Tensor, Tensor]:
    """Return the labels, hard or soft, and the order of the rows that makes the set class-major."""
    labels, k = found.labels.detach(), len(real.class_names)
    whole = labels.ndim == 1 and bool((labels == labels.round()).all())
    if labels.ndim == 1 and not whole:
        raise DataError(f"{found.path}: labels (n,) must be whole numbers.")
    columns = labels.shape[1] if labels.ndim == 2 else None
    if columns not in (None, k):
        raise DataError(
            f"{found.path} has labels for {columns} classes, data set {real.name!r} has {k}."
        )
    place = None if found.class_names is None else class_order(found.path, found.class_names, real)
    if labels.ndim == 2:
        return _soft(found, reading, place, k), torch.arange(len(labels))
    labels = labels.long()
    if int(labels.min()) < 0 or int(labels.max()) >= k:
        raise DataError(
            f"{found.path} has labels from {int(labels.min())} to {int(labels.max())}; data set {real.name!r} has "
            f"{k} classes, numbered 0 to {k - 1}."
        )
    if place is not None:
        labels = place[labels]
    counts = torch.bincount(labels, minlength=k)
    if len(counts.unique()) > 1:
        raise DataError(
            f"{found.path} holds {int(counts.min())} to {int(counts.max())} images per class of {real.name!r}; "
            "every class must have the same number."
        )
    return labels, torch.argsort(labels, stable=True)


def _soft(found: RawSet, reading: ReadOptions, place: Tensor | None, k: int) -> Tensor:
    """Return soft labels as probabilities (n, k); rows keep their order."""
    labels = found.labels.detach().float()
    if len(labels) % k or not bool(torch.isfinite(labels).all()):
        raise DataError(
            f"{found.path}: soft labels must be finite, and their number a multiple of {k} classes."
        )
    if reading.logits:
        labels = labels.softmax(1)
    elif float(labels.min()) < -1e-3 or float((labels.sum(1) - 1).abs().max()) > 1e-2:
        raise UnsupportedError(
            f"{found.path}: the soft labels are no probabilities (rows sum to {float(labels.sum(1).min()):.2f} "
            f"and up); pass {reading.option}.logits=true for logits (DATM stores these)."
        )
    if place is not None:
        labels = labels[:, torch.argsort(place)]
    return labels


def _pixels(found: RawSet, reading: ReadOptions, real: RealData) -> Pixels:
    images = found.images.detach()
    if images.dtype == torch.uint8:
        if reading.normalised or reading.zca:
            what = "normalised" if reading.normalised else "zca"
            raise DataError(
                f"{found.path} holds 8-bit pixels, which leave out {reading.option}.{what}=true."
            )
        return Pixels(images.float() / 255, real.mean, real.std, None, "pixels", "8-bit pixels")
    if not images.is_floating_point() or not bool(torch.isfinite(images).all()):
        raise DataError(
            f"{found.path}: images must be uint8 or finite floating point; got {images.dtype}."
        )
    images = images.float()
    if reading.zca:
        log.info("fitting ZCA on %d images of %d numbers each", len(real.train), images[0].numel())
        whitening = fit_whitening(real.train.take(torch.arange(len(real.train))))
        flat = (0.0,) * images.shape[1], (1.0,) * images.shape[1]
        pixels = whitening.undo(images.to(real.device))
        return Pixels(
            pixels, *flat, whitening, "zca", f"ZCA-whitened as {real.name}'s training images"
        )
    if not _normalised(found, reading, images):
        return Pixels(images, real.mean, real.std, None, "pixels", "pixels in [0, 1]")
    mean, std = _statistics(found, reading, real)
    spec = replace(real.spec, mean=mean, std=std)
    words = f"normalised by mean {', '.join(f'{x:.4g}' for x in mean)} and std {', '.join(f'{x:.4g}' for x in std)}"
    return Pixels(spec.denormalise(images), mean, std, None, "normalised", words)


def _normalised(found: RawSet, reading: ReadOptions, images: Tensor) -> bool:
    low, high = (float(x) for x in images.aminmax())
    if reading.normalised is not None:
        if not reading.normalised and high > LARGEST_PIXEL:
            raise DataError(
                f"{found.path} has values from {low:.3g} to {high:.3g}; pixels count from 0 to 1, or as uint8."
            )
        return reading.normalised
    in_box, far_out = low >= 0 and high <= 1, low < -OUTSIDE or high > 1 + OUTSIDE
    if found.normalised is not None and not (in_box if found.normalised else far_out):
        return found.normalised
    claim = {
        None: "does not say whether its images are normalised",
        True: "is a layout of normalised images",
    }.get(found.normalised, "is a layout of pixels in [0, 1]")
    raise UnsupportedError(
        f"{found.path} ({found.layout}) {claim}, and its values go from {low:.2f} to {high:.2f}; pass "
        f"{reading.option}.normalised=true for (x - mean) / std, {reading.option}.normalised=false for pixels in "
        f"[0, 1], or {reading.option}.zca=true for whitened images."
    )


def _statistics(found: RawSet, reading: ReadOptions, real: RealData) -> Statistics:
    channels = found.images.shape[1]
    known = reading.statistics or found.statistics(real.name)
    if known is None:
        values = [
            f"{reading.option}.{key}=[{','.join(f'{x:.4f}' for x in of)}]" for key, of in _own(real)
        ]
        raise UnsupportedError(
            f"{found.path} is normalised, and no constants are published for {real.name!r}; pass the ones it was made "
            f"with, such as the data set's own: {' '.join(values)}."
        )
    mean, std = known
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise DataError(
            f"{reading.option}.mean and .std must hold {channels} number(s) each, std above 0."
        )
    return mean, std


def _own(real: RealData) -> list[tuple[str, tuple[float, ...]]]:
    return [("mean", real.mean), ("std", real.std)]

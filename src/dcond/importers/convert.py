"""Conversion of a public file's content for a data set: pixels, labels and classes.

Nothing is guessed: if the file and its layout leave something open, the error says which option to
pass.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from dcond.class_matching import class_order
from dcond.data.class_subset import subset_name
from dcond.data.statistics import Statistics, zca
from dcond.errors import DataError, UnsupportedError, require
from dcond.importers.raw_set import RawSet
from dcond.settings import PositiveInt, settings
from dcond.types import RealData, SyntheticSet
from dcond.whitening import Whitening

log = logging.getLogger(__name__)

OUTSIDE = 0.5  # how far stray pixels of sets that are clipped irregularly may leave [0, 1]
LARGEST_PIXEL = 8.0  # above it, "pixels in [0, 1]" must be pixels up to 255


@settings
class ReadOptions:
    """How a file of a public layout is read, as far as the file does not say.

    Args:
        normalised: true: stored as (x - mean) / std; false: pixels in [0, 1]; None: as in the
            layout.
        zca: the images are ZCA-whitened; the whitening is fitted on the real training set.
        factor: multi-formation factor of images that are still packed; None: the file's.
        logits: soft labels are logits, converted to probabilities by a softmax (DATM).
        mean: of the normalisation; None: the file's own, else the constants of the layout's code.
            Implies ``normalised``.
        std: likewise.
        option: prefix of these options in messages.

    Raises:
        ConfigError: options that exclude each other.
    """

    normalised: bool | None = None
    zca: bool = False
    factor: PositiveInt | None = None
    logits: bool = False
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    option: str = "synthetic"

    def __post_init__(self) -> None:
        name = self.option
        require(
            (self.mean is None) == (self.std is None),
            f"{name}.mean and {name}.std go together; give both.",
        )
        for key, values in (("mean", self.mean), ("std", self.std)):
            require(
                values is None or all(_is_number(x) and (key == "mean" or x > 0) for x in values),
                f"{name}.{key}={values} must hold finite numbers{' above 0' * (key == 'std')}.",
            )
        require(
            self.normalised is not False or self.mean is None,
            f"{name}.normalised=false does not use {name}.mean and {name}.std; remove them.",
        )
        require(
            not self.zca or (self.normalised is None and self.mean is None),
            f"{name}.zca=true replaces {name}.normalised, mean and std; remove these.",
        )


def _is_number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


class Pixels(NamedTuple):
    """Images in pixel space, the normalisation that networks see, and how they were read."""

    images: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    whitening: Whitening | None
    read_as: str
    description: str


def convert(raw: RawSet, options: ReadOptions, real: RealData) -> tuple[SyntheticSet, str]:
    """Return the set as dcond has it, and a description of how it was read.

    Raises:
        DataError: labels, classes or image size are not those of the data set.
        UnsupportedError: something is unknown; the message says what to pass.
    """
    shape, expected = tuple(raw.images.shape[1:]), tuple(real.train.images.shape[1:])
    if shape != expected:
        raise DataError(
            f"{raw.path} ({raw.layout}) holds images of {shape} (channels, height, width), data "
            f"set {real.name!r} has {expected}; evaluate it on the data set it was made from, "
            "with the same options (dataset=NAME dataset.size=PIXELS)."
        )
    factor = _factor(raw, options)
    labels, order = _labels(raw, options, real)
    pixels = _pixels(raw, options, real)
    description = f"{raw.layout}, {pixels.description}"
    metadata = {
        "method": raw.path.stem,
        "dataset": real.name,
        "layout": raw.layout,
        "read_as": pixels.read_as,
    }
    if factor != 1:
        description += f", factor {factor}"
    if raw.learned_lr is not None:
        description += f"; learned with evaluation.lr={raw.learned_lr:g}"
    synthetic = SyntheticSet(
        images=pixels.images[order.to(pixels.images.device)].cpu(),
        labels=labels[order],
        class_names=real.class_names,
        ipc=max(1, len(labels) // len(real.class_names)),
        mean=pixels.mean,
        std=pixels.std,
        factor=factor,
        align_corners=raw.align_corners,
        whitening=pixels.whitening,
        learned_lr=raw.learned_lr,
        metadata=metadata,
    )
    return synthetic, description


def _factor(raw: RawSet, options: ReadOptions) -> int:
    factor = raw.factor if options.factor is None else options.factor
    if factor is None:
        raise UnsupportedError(
            f"{raw.path} ({raw.layout}) does not hold its multi-formation factor; pass "
            f"{options.option}.factor=2 (as most of these sets have), another one, or 1 if images "
            "are not packed."
        )
    side = min(raw.images.shape[-2:])
    if factor > side:
        raise DataError(
            f"{raw.path}: factor={factor} does not fit images of {side} px; pass another "
            f"{options.option}.factor."
        )
    return factor


def _labels(raw: RawSet, options: ReadOptions, real: RealData) -> tuple[Tensor, Tensor]:
    """Return the labels, hard or soft, and the order of rows that makes the set class-major."""
    labels, k = _numbers(raw, options), len(real.class_names)
    if labels.ndim == 2 and labels.shape[1] != k:
        raise DataError(
            f"{raw.path} has labels for {labels.shape[1]} classes, data set {real.name!r} has {k}."
        )
    place = None if raw.class_names is None else class_order(raw.path, raw.class_names, real)
    if labels.ndim == 2:
        return _soft(raw, options, place, k), torch.arange(len(labels))
    labels = labels.long()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= k:
        raise DataError(
            f"{raw.path} has labels from {low} to {high}; data set {real.name!r} has {k} classes, "
            f"numbered 0 to {k - 1}."
        )
    if place is not None:
        labels = place[labels]
    counts = torch.bincount(labels, minlength=k)
    if int(counts.min()) == 0:
        empty = [real.class_names[c] for c in torch.nonzero(counts == 0).flatten().tolist()]
        raise DataError(
            f"{raw.path} has no image of {len(empty)} of the {k} classes of {real.name!r} "
            f"({', '.join(empty[:3])}{', ...' * (len(empty) > 3)}); add some, or choose the others "
            "by dataset.classes."
        )
    if len(counts.unique()) > 1:
        log.info(
            "%s: %d to %d images per class; the random images are as many of each",
            raw.path,
            int(counts.min()),
            int(counts.max()),
        )
    return labels, torch.argsort(labels, stable=True)


def _numbers(raw: RawSet, options: ReadOptions) -> Tensor:
    """Return the labels as stored; those of one dimension are whole numbers."""
    labels = raw.labels.detach()
    if labels.dtype == torch.bool:
        labels = labels.long()
    if labels.is_complex():
        raise DataError(f"{raw.path}: labels must be real numbers; got {labels.dtype}.")
    if labels.ndim == 1 and options.logits:
        raise DataError(f"{raw.path} has hard labels, which excludes {options.option}.logits.")
    if labels.ndim == 1 and bool((labels != labels.round()).any()):
        raise DataError(f"{raw.path}: labels (n,) must be whole numbers.")
    return labels


def _soft(raw: RawSet, options: ReadOptions, place: Tensor | None, k: int) -> Tensor:
    """Return soft labels as probabilities (n, k); rows keep their order."""
    labels = raw.labels.detach().float()
    if len(labels) % k or not bool(torch.isfinite(labels).all()):
        raise DataError(
            f"{raw.path}: soft labels must be finite, and their number a multiple of {k} classes."
        )
    if options.logits:
        labels = labels.softmax(1)
    elif float(labels.min()) < -1e-3 or float((labels.sum(1) - 1).abs().max()) > 1e-2:
        raise UnsupportedError(
            f"{raw.path}: the soft labels are not probabilities (smallest sum of a row "
            f"{float(labels.sum(1).min()):.2f}); pass {options.option}.logits=true for logits "
            "(DATM stores these)."
        )
    return labels if place is None else labels[:, torch.argsort(place)]


def _pixels(raw: RawSet, options: ReadOptions, real: RealData) -> Pixels:
    images = raw.images.detach()
    own = (real.mean, real.std, real.whitening)
    if raw.statistics is not None:  # those of the set itself
        own = (*raw.statistics, None)
    if images.dtype == torch.uint8:
        for name in ("normalised", "zca", "mean"):
            if getattr(options, name):
                raise DataError(
                    f"{raw.path} holds 8-bit pixels, which excludes {options.option}.{name}; "
                    "remove it."
                )
        return Pixels(images.float() / 255, *own, "pixels", "8-bit pixels")
    if not images.is_floating_point() or not bool(torch.isfinite(images).all()):
        raise DataError(
            f"{raw.path}: images must be uint8 or finite floating point; got {images.dtype}."
        )
    images = images.float()
    if options.zca:
        log.info("fitting ZCA on %d images of %d values each", len(real.train), images[0].numel())
        whitening = zca(real.train, f"omit {options.option}.zca=true")
        channels = images.shape[1]
        pixels = whitening.undo(images.to(real.device))
        description = f"ZCA-whitened like the training images of {real.name}"
        return Pixels(pixels, (0.0,) * channels, (1.0,) * channels, whitening, "zca", description)
    if not _normalised(raw, options, images):
        return Pixels(images, *own, "pixels", "pixels in [0, 1]")
    mean, std = _statistics(raw, options, real)
    pixels = replace(real.spec, mean=mean, std=std, whitening=None).denormalise(images)
    values = [", ".join(f"{x:.4g}" for x in each) for each in (mean, std)]
    description = f"normalised by mean {values[0]} and std {values[1]}"
    return Pixels(pixels, mean, std, None, "normalised", description)


def _normalised(raw: RawSet, options: ReadOptions, images: Tensor) -> bool:
    low, high = (float(x) for x in images.aminmax())
    normalised = True if options.mean is not None else options.normalised
    if normalised is not None:
        if not normalised and high > LARGEST_PIXEL:
            raise DataError(
                f"{raw.path} has values from {low:.3g} to {high:.3g}; pixels are in [0, 1], or "
                "uint8."
            )
        return normalised
    in_box, far_out = low >= 0 and high <= 1, low < -OUTSIDE or high > 1 + OUTSIDE
    if raw.normalised is not None and not (in_box if raw.normalised else far_out):
        return raw.normalised
    claim = {
        None: "does not say whether its images are normalised",
        True: "is a layout of normalised images",
        False: "is a layout of pixels in [0, 1]",
    }[raw.normalised]
    name = options.option
    raise UnsupportedError(
        f"{raw.path} ({raw.layout}) {claim}, and its values go from {low:.2f} to {high:.2f}; pass "
        f"{name}.normalised=true for (x - mean) / std, {name}.normalised=false for pixels in "
        f"[0, 1], or {name}.zca=true for whitened images."
    )


def _statistics(raw: RawSet, options: ReadOptions, real: RealData) -> Statistics:
    channels, name = raw.images.shape[1], options.option
    if options.mean is not None and options.std is not None:  # both or neither
        mean, std = tuple(map(float, options.mean)), tuple(map(float, options.std))
    elif raw.statistics is not None:
        mean, std = raw.statistics
    else:
        names = {each: (each, subset_name(each, real.class_names)) for each in raw.constants}
        published = (each for each, own in names.items() if real.name in own)
        known = raw.constants.get(next(published, ""))
        if known is None:
            own = [
                f"{name}.{key}=[{','.join(f'{x:.4f}' for x in values)}]"
                for key, values in (("mean", real.mean), ("std", real.std))
            ]
            raise UnsupportedError(
                f"{raw.path} is normalised, and no constants are published for {real.name!r}; pass "
                f"those it was made with, such as the data set's own: {' '.join(own)}."
            )
        mean, std = known
    if len(mean) != channels or len(std) != channels:
        raise DataError(f"{name}.mean and .std must hold {channels} number(s) each.")
    return mean, std

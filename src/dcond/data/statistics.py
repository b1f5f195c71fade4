"""Mean and standard deviation of a training split, per channel, in [0, 1] pixel units; and ZCA."""

import logging
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from dcond.data.validate import part_size
from dcond.device import free_bytes
from dcond.errors import DataError
from dcond.rng import generator
from dcond.types import Split
from dcond.whitening import Whitening, fit_whitening

log = logging.getLogger(__name__)

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std, one value per channel

SAMPLE = 10_000  # training images that stats=sample reads
STD_FLOOR = 1 / 255  # one level, the smallest difference: a constant channel is not divided by 0
NARROW = 64  # levels
DARK = 16 / 255  # three standard deviations above the mean

_IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# The constants in the public code of DC, DSA and DM. Their CIFAR-10 and SVHN stds are means of
# per-image stds, smaller than the per-pixel std: published learning rates in normalised space
# belong to these values.
LEGACY: dict[str, Statistics] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny_imagenet": _IMAGENET,
}


def zca(split: Split, instead: str = "dataset.stats=pixel") -> Whitening:
    """Fit ZCA on a training split, see :func:`~dcond.whitening.fit_whitening`.

    Args:
        split: the images.
        instead: what to do where the memory is too small for it.

    Raises:
        DataError: the covariance and its eigenvectors exceed the free memory.
    """
    values = math.prod(split.images.shape[1:])
    needed, free = 4 * 8 * values**2, free_bytes(split.device)  # float64, with eigh's own copies
    if free is not None and needed > free:
        raise DataError(
            f"ZCA of images of {values:,} values needs {needed / 1e9:.1f} GB of memory; "
            f"{free / 1e9:.1f} GB are free. Choose a smaller dataset.size, or {instead}."
        )
    return fit_whitening(split.take(torch.arange(len(split))))


def statistics(split: Split, stats: str, name: str, hint: str = "") -> Statistics:
    """Return mean and std per channel of a training split.

    Args:
        split: the images.
        stats: "pixel" measures all of them; "sample" at most 10,000, the same in every run;
            "legacy" takes published constants.
        name: of the data set.
        hint: what to do about images that use a small part of the range.

    Raises:
        DataError: ``legacy`` constants have another number of channels than the images.
    """
    channels = split.images.shape[1]
    if stats == "legacy":
        mean, std = LEGACY[name]
        if len(mean) != channels:
            raise DataError(
                f"dataset.stats=legacy has {len(mean)} channel(s) for {name!r}, but the images "
                f"have {channels}; use dataset.stats=pixel."
            )
        return mean, std
    if stats == "sample" and len(split) > SAMPLE:
        rows = torch.randperm(len(split), generator=generator(0, "statistics"))[:SAMPLE]
        split = split.part(rows.sort().values)
    parts = split.batches(part_size(split.images.shape))
    counts = level_counts((images.cpu() for images, _ in parts), channels)
    mean, std = moments(counts)
    used = counts.sum(0).nonzero().flatten().tolist()
    low, high = used[0], used[-1]
    dark = max(mean) + 3 * max(std) < DARK
    if 0 < high - low < NARROW and (hint or not dark):
        log.warning(
            f"{name}: training images use the levels {low} to {high} of 0 to 255, a small part of "
            f"the range{hint}"
        )
    elif dark:
        log.warning(
            f"{name}: training images are nearly black (mean {max(mean):.4f}, std {max(std):.4f} "
            "of [0, 1]); if their pixels were 0 and 1, multiply them by 255, or save them as floats"
        )
    return mean, std


def level_counts(parts: Iterable[Tensor], channels: int) -> Tensor:
    """Return how many pixels of each channel have each level, int64 (c, 256)."""
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    for part in parts:
        for channel in range(channels):
            counts[channel] += torch.bincount(part[:, channel].reshape(-1), minlength=256)
    return counts


def moments(counts: Tensor) -> Statistics:
    """Return mean and population std of each channel: exact for any number of images."""
    level = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for count in counts:
        share = count.double() / count.sum()
        mean = (share * level).sum()
        means.append(mean.item())
        stds.append(max((share * (level - mean) ** 2).sum().sqrt().item(), STD_FLOOR))
    return tuple(means), tuple(stds)

"""Mean and standard deviation of a training split, per channel, in [0, 1] pixel units."""

import torch
from torch import Tensor

from dcond.errors import DataError, one_of, require

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std, one value per channel

CHUNK = 4096  # images counted together
# A channel that never changes would be divided by 0; one grey level is the smallest difference pixels can show.
STD_FLOOR = 1 / 255

_IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# The constants in the public code of DC, DSA and DM. Their CIFAR-10 and SVHN stds are means of per-image stds, smaller
# than the per-pixel std: published learning rates in normalised space belong to these values.
LEGACY: dict[str, Statistics] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny_imagenet": _IMAGENET,
}


def check_stats(stats: str, name: str) -> None:
    """Raise :class:`ConfigError` unless ``stats`` is offered for the data set ``name``."""
    one_of("dataset.stats", stats, ("pixel", "legacy"))
    require(
        stats == "pixel" or name in LEGACY,
        f"dataset.stats=legacy has no published constants for {name!r}; allowed: {', '.join(LEGACY)}. "
        "Use dataset.stats=pixel.",
    )


def statistics(images: Tensor, stats: str, name: str) -> Statistics:
    """Return mean and std of uint8 images (n, c, h, w), per channel: measured (``pixel``) or published (``legacy``).

    Raises:
        DataError: ``legacy`` constants have another number of channels than the images.
    """
    if stats == "pixel":
        return measured(images)
    mean, std = LEGACY[name]
    if len(mean) != images.shape[1]:
        raise DataError(
            f"dataset.stats=legacy has {len(mean)} channel(s) for {name!r}, the images {images.shape[1]}; "
            "use dataset.stats=pixel."
        )
    return mean, std


def measured(images: Tensor) -> Statistics:
    """Return mean and population std over all pixels of each channel of uint8 (n, c, h, w).

    From counts of the 256 levels, so exact however many images there are, in little memory.
    """
    level = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = torch.zeros(256, dtype=torch.int64)
        for part in torch.split(images[:, channel], CHUNK):
            counts += torch.bincount(part.reshape(-1), minlength=256)
        share = counts.double() / counts.sum()
        mean = (share * level).sum()
        means.append(mean.item())
        stds.append(max((share * (level - mean) ** 2).sum().sqrt().item(), STD_FLOOR))
    return tuple(means), tuple(stds)

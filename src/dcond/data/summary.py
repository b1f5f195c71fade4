"""What there is to know of a data set at a glance."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dcond.types import RealData


@dataclass(frozen=True)
class Summary:
    """Sizes and counts of a loaded data set; mean and std per channel in [0, 1] pixel units."""

    name: str
    train: int
    test: int
    channels: int
    height: int
    width: int
    class_names: tuple[str, ...]
    train_counts: tuple[int, ...]  # training images of each class
    test_counts: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size_bytes: int  # of all images
    in_memory: bool  # or left on disk


def summarise(real: RealData) -> Summary:
    """Count what a data set holds."""
    classes = len(real.class_names)
    splits = (real.train, real.test)
    train_counts, test_counts = (
        torch.bincount(split.labels.cpu(), minlength=classes).tolist() for split in splits
    )
    size_bytes = sum(math.prod(split.images.shape) for split in splits)
    spec = real.spec
    return Summary(
        real.name,
        len(real.train),
        len(real.test),
        spec.channels,
        spec.height,
        spec.width,
        real.class_names,
        tuple(train_counts),
        tuple(test_counts),
        real.mean,
        real.std,
        size_bytes,
        isinstance(real.train.images, Tensor),
    )

"""Sizes and counts of a data set."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dcond.types import RealData, Split


@dataclass(frozen=True)
class Summary:
    """Counts of a loaded data set."""

    real: RealData
    train_counts: tuple[int, ...]  # training images of each class
    test_counts: tuple[int, ...]
    size_bytes: int  # of all images
    in_memory: bool  # or on disk


def summarise(real: RealData) -> Summary:
    """Count the images of a data set."""
    train, test = real.train, real.test
    size_bytes = sum(math.prod(split.images.shape) for split in (train, test))
    in_memory = isinstance(train.images, Tensor)
    return Summary(real, _counts(train, real), _counts(test, real), size_bytes, in_memory)


def _counts(split: Split, real: RealData) -> tuple[int, ...]:
    return tuple(torch.bincount(split.labels.cpu(), minlength=len(real.class_names)).tolist())

"""Real and synthetic images in float64, of any number of classes."""

import torch
from torch import Tensor

from dcond.types import RealData, Split, SyntheticSet


class Double(RealData):
    """Real images in float64."""

    def pixels(self, rows: Tensor) -> Tensor:
        return super().pixels(rows).double()


def double_data(classes: int, per_class: int, side: int = 8) -> Double:
    """Make grey noise images, ``per_class`` of each class, labels 0, 1, ..., 0, 1, ..."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat(per_class)
    images = torch.randint(256, (len(labels), 1, side, side), generator=rng, dtype=torch.uint8)
    names = tuple(str(c) for c in range(classes))
    return Double("double", Split(images, labels), Split(images, labels), names, (0.5,), (0.3,))


def start(real: RealData, ipc: int = 2, factor: int = 1, seed: int = 1) -> SyntheticSet:
    """Make a synthetic set of noise for real images."""
    classes = len(real.class_names)
    shape = (classes * ipc, *real.train.images.shape[1:])
    images = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return SyntheticSet.from_images(images, real, factor=factor)

"""Sets in every public layout, written as the public code writes them, of known pixels."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dcond.data.statistics import LEGACY
from dcond.importers import Source
from dcond.types import RealData, SyntheticSet

MEAN, STD = LEGACY["mnist"]


@dataclass
class Known:
    """Two images of each of three classes, class-major: pixels in [0, 1], the same normalised,
    labels.
    """

    pixels: Tensor
    labels: Tensor

    @property
    def normalised(self) -> Tensor:
        return (self.pixels - MEAN[0]) / STD[0]

    def same(self, synthetic: SyntheticSet, *, tolerance: float = 1e-6) -> bool:
        images = torch.allclose(synthetic.images, self.pixels, atol=tolerance)
        return images and torch.equal(synthetic.labels, self.labels)


@pytest.fixture
def known() -> Known:
    rng = torch.Generator().manual_seed(1)
    return Known(torch.rand(6, 1, 8, 8, generator=rng), torch.tensor([0, 0, 1, 1, 2, 2]))


@pytest.fixture
def mnist(toy) -> RealData:
    """The toy data under the name of one whose constants are published."""
    return replace(toy, name="mnist")


@pytest.fixture
def load(mnist):
    """Read a set and fit it to the data."""

    def run(path: Path, real: RealData = mnist, **options: object) -> SyntheticSet:
        source = Source(path=str(path), **options)
        return source.fitted(source.read(), real)

    return run

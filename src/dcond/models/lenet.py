"""LeNet-5 with ReLU and max-pooling."""

from dataclasses import dataclass

from torch import nn

from dcond.models.base import Network, Recipe
from dcond.models.staged import Staged, multiple_of
from dcond.types import ImageSpec


@dataclass(frozen=True, kw_only=True)
class LeNet(Recipe):
    """conv5 (6), pool, conv5 (16), pool, linear 120, linear 84, linear; ReLU; the convolutions are not padded.

    The normalised image is zero-padded to a multiple of 16: 28 px become 32, which equals the
    padding of 2 in the DC authors' first convolution, and 8 px become 16, the smallest side the two
    convolutions can read. embed: the 84 units. features: the map after each pooling.

    Source: DC (arXiv 2006.05929), networks.py of the authors' code.
    """

    def module(self, spec: ImageSpec) -> Network:
        """Make the module for these images."""
        canvas = multiple_of(16, spec)
        height, width = (((side - 4) // 2 - 4) // 2 for side in canvas)
        stages = [
            nn.Sequential(nn.Conv2d(c, d, 5), nn.ReLU(), nn.MaxPool2d(2))
            for c, d in ((spec.channels, 6), (6, 16))
        ]
        neck = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
        )
        return Staged(stages, neck, nn.Linear(84, spec.classes), canvas)

"""AlexNet at native resolution."""

from dataclasses import dataclass

from torch import nn

from dcond.errors import one_of
from dcond.models.base import Network, Recipe
from dcond.models.staged import Staged, multiple_of, norm_layer
from dcond.types import ImageSpec


@dataclass(frozen=True, kw_only=True)
class AlexNet(Recipe):
    """conv5 (128), pool, conv5 (192), pool, conv3 (256), conv3 (192), conv3 (192), pool, linear; ReLU, max-pooling.

    The normalised image is zero-padded to a multiple of 8 (28 px become 32). embed: the flattened
    last map. features: the map after each pooling.

    Args:
        norm: after each convolution: none (as published), batch, instance or group.

    Source: DC (arXiv 2006.05929), networks.py of the authors' code.
    """

    norm: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(f"{self.name}: norm", self.norm, ("none", "batch", "instance", "group"))

    def module(self, spec: ImageSpec) -> Network:
        """Make the module for these images."""
        height, width = canvas = multiple_of(8, spec)
        stages = [
            nn.Sequential(*self._layer(spec.channels, 128, 5), nn.MaxPool2d(2)),
            nn.Sequential(*self._layer(128, 192, 5), nn.MaxPool2d(2)),
            nn.Sequential(
                *self._layer(192, 256, 3),
                *self._layer(256, 192, 3),
                *self._layer(192, 192, 3),
                nn.MaxPool2d(2),
            ),
        ]
        return Staged(
            stages, nn.Flatten(), nn.Linear(192 * height * width // 64, spec.classes), canvas
        )

    def _layer(self, channels: int, width: int, kernel: int) -> list[nn.Module]:
        convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
        return [convolution, norm_layer(self.norm, width), nn.ReLU()]

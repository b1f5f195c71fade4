"""VGG-11 at native resolution."""

from dataclasses import dataclass

from torch import nn

from dcond.errors import one_of
from dcond.models.base import Network, Recipe
from dcond.models.staged import Staged, multiple_of, norm_layer
from dcond.types import ImageSpec

WIDTHS = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # convolutions between the poolings


@dataclass(frozen=True, kw_only=True)
class VGG11(Recipe):
    """Eight [conv3, norm, ReLU] of 64 to 512 channels, five max-poolings, the spatial mean, one linear layer.

    The normalised image is zero-padded to a multiple of 32, so the last convolutions see at least
    2×2 pixels (on one pixel an instance norm would return its bias alone). embed: the 512 means.
    features: the map after each pooling.

    Args:
        norm: instance (default), batch, group or none.

    Source: DC (arXiv 2006.05929), networks.py of the authors' code; there the head fails above 32
    px.
    """

    norm: str = "instance"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(f"{self.name}: norm", self.norm, ("instance", "batch", "group", "none"))

    def module(self, spec: ImageSpec) -> Network:
        """Make the module for these images."""
        stages, channels = [], spec.channels
        for widths in WIDTHS:
            layers: list[nn.Module] = []
            for width in widths:
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1),
                    norm_layer(self.norm, width),
                    nn.ReLU(),
                ]
                channels = width
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        neck = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Staged(
            stages, neck, nn.Linear(channels, spec.classes), multiple_of(2 ** len(WIDTHS), spec)
        )

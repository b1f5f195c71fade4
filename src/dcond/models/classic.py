"""LeNet-5, AlexNet, VGG-11 and the MLP of the DC authors' code (arXiv 2006.05929, networks.py)."""

from typing import Literal

from torch import nn

from dcond.errors import require
from dcond.models.base import Network, Recipe
from dcond.models.staged import Staged, multiple_of, norm_layer
from dcond.settings import PositiveInt, check_value, settings
from dcond.types import ImageSpec

VGG_WIDTHS = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # convolutions between poolings


@settings
class MLP(Recipe):
    """Flattened pixels, hidden layers with ReLU, one linear layer.

    embed: the last hidden layer after its ReLU. features: each hidden layer as a map of 1×1 pixels.

    Args:
        hidden: width of each hidden layer.
    """

    hidden: tuple[int, ...] = (128, 128)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # YAML gives a list
        require(
            len(self.hidden) > 0,
            f"{self.name}: hidden is empty; give at least one width, such as [128, 128].",
        )
        for width in self.hidden:
            check_value(f"{self.name}: hidden width", width, PositiveInt)

    def module(self, spec: ImageSpec) -> Network:
        """Build the module for these images."""
        widths = (spec.channels * spec.height * spec.width, *self.hidden)
        stages = [
            nn.Sequential(nn.Flatten(), nn.Linear(d, e), nn.ReLU(), nn.Unflatten(1, (e, 1, 1)))
            for d, e in zip(widths, self.hidden, strict=False)
        ]
        head = nn.Linear(widths[-1], spec.classes)
        return Staged(stages, nn.Flatten(), head, spec.size)


@settings
class LeNet(Recipe):
    """conv5 (6), pool, conv5 (16), pool, linear 120, linear 84, linear; ReLU, max-pooling.

    The convolutions are not padded. The normalised image is zero-padded to a multiple of 16: 28 px
    become 32, which equals the padding of 2 in the DC authors' first convolution, and 8 px become
    16, the smallest side that the two convolutions can read. embed: the 84 units. features: the map
    after each pooling.
    """

    def module(self, spec: ImageSpec) -> Network:
        """Build the module for these images."""
        canvas = multiple_of(16, spec)
        height, width = (((side - 4) // 2 - 4) // 2 for side in canvas)
        stages = [
            nn.Sequential(nn.Conv2d(c, d, 5), nn.ReLU(), nn.MaxPool2d(2))
            for c, d in ((spec.channels, 6), (6, 16))
        ]
        units = nn.Linear(16 * height * width, 120)
        neck = nn.Sequential(nn.Flatten(), units, nn.ReLU(), nn.Linear(120, 84), nn.ReLU())
        return Staged(stages, neck, nn.Linear(84, spec.classes), canvas)


@settings
class AlexNet(Recipe):
    """conv5 (128), pool, conv5 (192), pool, conv3 (256), conv3 (192), conv3 (192), pool, linear.

    ReLU and max-pooling. The normalised image is zero-padded to a multiple of 8 (28 px become 32).
    embed: the flattened last map. features: the map after each pooling.

    Args:
        norm: after each convolution: none (as published), batch, instance or group.
    """

    norm: Literal["none", "batch", "instance", "group"] = "none"

    def module(self, spec: ImageSpec) -> Network:
        """Build the module for these images."""
        height, width = canvas = multiple_of(8, spec)
        stages = [
            nn.Sequential(*conv_block(spec.channels, 128, 5, self.norm), nn.MaxPool2d(2)),
            nn.Sequential(*conv_block(128, 192, 5, self.norm), nn.MaxPool2d(2)),
            nn.Sequential(
                *conv_block(192, 256, 3, self.norm),
                *conv_block(256, 192, 3, self.norm),
                *conv_block(192, 192, 3, self.norm),
                nn.MaxPool2d(2),
            ),
        ]
        head = nn.Linear(192 * height * width // 64, spec.classes)
        return Staged(stages, nn.Flatten(), head, canvas)


@settings
class VGG11(Recipe):
    """Eight [conv3, norm, ReLU] of 64 to 512 channels, five max-poolings, spatial mean, linear.

    The normalised image is zero-padded to a multiple of 32, so that the last convolutions see at
    least 2×2 pixels (on one pixel an instance norm would return its bias alone); the authors' code
    fails above 32 px instead. embed: the 512 means. features: the map after each pooling.

    Args:
        norm: after each convolution: instance, batch, group or none.
    """

    norm: Literal["instance", "batch", "group", "none"] = "instance"

    def module(self, spec: ImageSpec) -> Network:
        """Build the module for these images."""
        stages, channels = [], spec.channels
        for widths in VGG_WIDTHS:
            layers: list[nn.Module] = []
            for width in widths:
                layers += conv_block(channels, width, 3, self.norm)
                channels = width
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        neck = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        head = nn.Linear(channels, spec.classes)
        return Staged(stages, neck, head, multiple_of(2 ** len(VGG_WIDTHS), spec))


def conv_block(channels: int, width: int, kernel: int, norm: str) -> list[nn.Module]:
    """Return a convolution that keeps the size, its normalisation, and ReLU."""
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
    return [convolution, norm_layer(norm, width), nn.ReLU()]

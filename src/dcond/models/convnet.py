"""ConvNet-D-W, the field's standard network."""

from math import ceil, log2
from typing import Literal

from torch import nn

from dcond.errors import require
from dcond.models.base import Network, Recipe
from dcond.models.staged import Staged, check_groups, multiple_of, norm_layer
from dcond.settings import PositiveInt, settings
from dcond.types import ImageSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


@settings
class ConvNet(Recipe):
    """D blocks of [3×3 convolution, norm, activation, 2×2 pooling], then one linear layer.

    The normalised image is zero-padded to a multiple of 2^D, so 28 px become 32 at D = 3. The DC
    authors' code does the same by a wider padding of the first convolution for one-channel images;
    here the side of the image decides. embed: the flattened last map. features: the map after each
    pooling.

    Args:
        depth: D ≥ 1; None derives it from the shorter side, see :func:`auto_depth`.
        width: channels W of every block.
        norm: none, batch, layer (over c, h, w), instance (scale and shift per channel), or group (4
            groups).
        activation: relu, leaky_relu (slope 0.01), silu (the field's "swish"), or sigmoid.
        pooling: avg, max, or none (maps keep their size, and nothing is padded).

    Raises:
        ConfigError: a width that the groups do not divide; on building, a depth too large for the
            images.

    Source: DC (arXiv 2006.05929), networks.py of the authors' code.
    """

    depth: PositiveInt | None = None
    width: PositiveInt = 128
    norm: Literal["none", "batch", "layer", "instance", "group"] = "instance"
    activation: Literal["relu", "leaky_relu", "silu", "sigmoid"] = "relu"
    pooling: Literal["avg", "max", "none"] = "avg"

    def __post_init__(self) -> None:
        check_groups(self.name, self.norm, self.width)

    def module(self, spec: ImageSpec) -> Network:
        """Build the module for these images."""
        side = min(spec.size)
        depth, largest = self.depth or auto_depth(side), int(log2(side))
        halving = self.pooling != "none"
        require(
            not halving or depth <= largest,
            f"{self.name}: depth={depth} is too large for {spec.height}x{spec.width} images; "
            f"the largest depth with pooling is {largest}.",
        )
        height, width = canvas = multiple_of(2**depth if halving else 1, spec)
        stages = []
        for block in range(depth):
            stages.append(self._block(self.width if block else spec.channels, height, width))
            if halving:
                height, width = height // 2, width // 2
        head = nn.Linear(self.width * height * width, spec.classes)
        return Staged(stages, nn.Flatten(), head, canvas)

    def _block(self, channels: int, height: int, width: int) -> nn.Module:
        layers: list[nn.Module] = [
            nn.Conv2d(channels, self.width, 3, padding=1),
            nn.LayerNorm([self.width, height, width])
            if self.norm == "layer"
            else norm_layer(self.norm, self.width),
            ACTIVATIONS[self.activation](),
        ]
        if self.pooling != "none":
            layers.append(nn.AvgPool2d(2) if self.pooling == "avg" else nn.MaxPool2d(2))
        return nn.Sequential(*layers)


def auto_depth(side: int) -> int:
    """Return the field's depth for a shorter side: 3 at 28 and 32 px, 4 at 64, 5 at 128.

    From 28 px on a map of about 4×4 remains: ⌈log₂ side⌉ − 2. Smaller images get as many blocks, up
    to 3, as leave 2×2 pixels: 3 at 16 px, 2 at 8.
    """
    return max(1, ceil(log2(side)) - 2, min(3, int(log2(side)) - 1))

"""ConvNet-D-W, the field's standard network."""

from dataclasses import dataclass
from math import ceil, log2

from torch import nn

from dcond.errors import one_of, require, whole_number
from dcond.models.base import Network, Recipe
from dcond.models.staged import GROUPS, Staged, multiple_of, norm_layer
from dcond.types import ImageSpec

NORMS = ("none", "batch", "layer", "instance", "group")
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}
POOLINGS: dict[str, type[nn.Module] | None] = {
    "avg": nn.AvgPool2d,
    "max": nn.MaxPool2d,
    "none": None,
}


@dataclass(frozen=True, kw_only=True)
class ConvNet(Recipe):
    """D blocks of [3×3 convolution, norm, activation, 2×2 pooling], then one linear layer.

    The normalised image is zero-padded to a multiple of 2^D, so 28 px become 32 at D = 3. The DC
    authors' code gets the same from a wider padding of the first convolution, which it ties to one
    channel; here the image's side decides. embed: the flattened last map. features: the map after
    each pooling.

    Args:
        depth: D ≥ 1; None takes it from the shorter side, see :func:`auto_depth`.
        width: channels W of every block.
        norm: none, batch, layer (over c, h, w), instance (scale and shift per channel), or group (4
            groups).
        activation: relu, leaky_relu (slope 0.01), silu (the field's "swish"), or sigmoid.
        pooling: avg, max, or none (the map keeps its size, and nothing is padded).

    Raises:
        ConfigError: an unknown word, or a depth that pools the image away.

    Source: DC (arXiv 2006.05929), networks.py of the authors' code.
    """

    depth: int | None = None
    width: int = 128
    norm: str = "instance"
    activation: str = "relu"
    pooling: str = "avg"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth is not None:
            whole_number(f"{self.name}: depth", self.depth)
        whole_number(f"{self.name}: width", self.width)
        one_of(f"{self.name}: norm", self.norm, NORMS)
        one_of(f"{self.name}: activation", self.activation, ACTIVATIONS)
        one_of(f"{self.name}: pooling", self.pooling, POOLINGS)
        require(
            self.norm != "group" or self.width % GROUPS == 0,
            f"{self.name}: width={self.width} does not divide into the {GROUPS} groups of norm=group; "
            f"take a multiple of {GROUPS}.",
        )

    def module(self, spec: ImageSpec) -> Network:
        """Make the module for these images."""
        side = min(spec.height, spec.width)
        depth = self.depth or auto_depth(side)
        halves = self.pooling != "none"
        self._check_fits(depth, side, spec)
        height, width = canvas = (
            multiple_of(2**depth, spec) if halves else (spec.height, spec.width)
        )
        stages: list[nn.Module] = []
        for block in range(depth):
            size = (height >> block, width >> block) if halves else (height, width)
            stages.append(self._block(self.width if block else spec.channels, size))
        if halves:
            height, width = height >> depth, width >> depth
        return Staged(
            stages, nn.Flatten(), nn.Linear(self.width * height * width, spec.classes), canvas
        )

    def _check_fits(self, depth: int, side: int, spec: ImageSpec) -> None:
        largest = int(log2(side))
        require(
            self.pooling == "none" or depth <= largest,
            f"{self.name}: depth={depth} is too large for {spec.height}x{spec.width} images; "
            f"the largest depth with pooling is {largest}.",
        )

    def _block(self, channels: int, size: tuple[int, int]) -> nn.Module:
        norm = (
            nn.LayerNorm([self.width, *size])
            if self.norm == "layer"
            else norm_layer(self.norm, self.width)
        )
        layers = [
            nn.Conv2d(channels, self.width, 3, padding=1),
            norm,
            ACTIVATIONS[self.activation](),
        ]
        pool = POOLINGS[self.pooling]
        return nn.Sequential(*layers, *([pool(2)] if pool else []))


def auto_depth(side: int) -> int:
    """Return the field's depth for a shorter side: 3 at 28 and 32 px, 4 at 64, 5 at 128.

    From 28 px on a map of about 4×4 is left: ⌈log₂ side⌉ − 2. Smaller images get as many blocks, up
    to 3, as leave 2×2: 3 at 16 px, 2 at 8.
    """
    return max(1, ceil(log2(side)) - 2, min(3, int(log2(side)) - 1))

"""Residual networks of basic blocks: ResNet-18, its AP variant, ResNetAP-10, and small ones."""

from math import sqrt
from typing import Literal

from torch import Tensor, nn

from dcond.errors import require
from dcond.models.base import Network, Recipe
from dcond.models.staged import Staged, check_groups, norm_layer
from dcond.settings import PositiveInt, check_value, settings
from dcond.types import ImageSpec


@settings
class ResNet(Recipe):
    """A 3×3 stem, stages of basic blocks, one linear layer.

    From stage to stage the width doubles and the side halves.

    ResNet-18: the defaults. ResNet18_AP: downsample=avg_pool, head=flatten. ResNetAP-10 of IDC:
    blocks [1, 1, 1, 1], downsample=avg_pool, stem=by_size, initialisation=he_out. Smaller images
    are zero-padded until the last stage sees at least 2×2 pixels (on one pixel an instance norm
    would return its bias alone). embed: the head's input. features: the stem and each stage.

    Args:
        blocks: basic blocks per stage.
        width: channels of the stem and the first stage.
        norm: instance (scale and shift per channel), batch or group.
        downsample: strided convolutions (stride), or plain ones followed by 2×2 average pooling
            (avg_pool).
        head: before the linear layer, the spatial mean (mean) or the whole map (flatten).
        stem: conv3 for every size (plain); or by_size: conv3 up to 64 px, conv3 and pooling by 2 up
            to 128 px, else conv7 and pooling by 4.
        initialisation: PyTorch's (default), or convolutions drawn from
            N(0, 2 / (kernel² · channels out)) (he_out).

    Sources: DC (arXiv 2006.05929) and IDC (arXiv 2205.14959), the authors' code.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    width: PositiveInt = 64
    norm: Literal["instance", "batch", "group"] = "instance"
    downsample: Literal["stride", "avg_pool"] = "stride"
    head: Literal["mean", "flatten"] = "mean"
    stem: Literal["plain", "by_size"] = "plain"
    initialisation: Literal["default", "he_out"] = "default"

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))  # YAML gives a list
        require(len(self.blocks) > 0, f"{self.name}: blocks is empty; ResNet-18 has [2, 2, 2, 2].")
        for count in self.blocks:
            check_value(f"{self.name}: blocks per stage", count, PositiveInt)
        check_groups(self.name, self.norm, self.width)

    def module(self, spec: ImageSpec) -> Network:
        """Build the module for these images."""
        stem, shrink = self._stem(spec)
        smallest = shrink * 2 ** len(self.blocks)
        canvas = (max(spec.height, smallest), max(spec.width, smallest))
        stages, channels = [stem], self.width
        for index, count in enumerate(self.blocks):
            width = self.width << index
            first = BasicBlock(channels, width, self.norm, self.downsample if index else "none")
            rest = [BasicBlock(width, width, self.norm, "none") for _ in range(count - 1)]
            stages.append(nn.Sequential(first, *rest))
            channels = width
        neck, pixels = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 1
        if self.head == "flatten":
            parts = 2 ** (len(self.blocks) - 1)
            extra = 0 if self.downsample == "avg_pool" else parts - 1  # strides round up
            height, width = ((side // shrink + extra) // parts for side in canvas)
            neck, pixels = nn.Sequential(nn.Flatten()), height * width
        network = Staged(stages, neck, nn.Linear(channels * pixels, spec.classes), canvas)
        if self.initialisation == "he_out":
            network.apply(he_out)
        return network

    def _stem(self, spec: ImageSpec) -> tuple[nn.Module, int]:
        """Return the stem and the factor by which it shrinks the sides."""
        side = max(spec.size)
        kernel, shrink = 3, 1
        if self.stem == "by_size" and side > 64:
            kernel, shrink = (3, 2) if side <= 128 else (7, 4)
        convolution = nn.Conv2d(spec.channels, self.width, kernel, padding=kernel // 2, bias=False)
        layers: list[nn.Module] = [convolution, norm_layer(self.norm, self.width), nn.ReLU()]
        if shrink > 1:
            layers.append(nn.AvgPool2d(shrink))
        return nn.Sequential(*layers), shrink


class BasicBlock(nn.Module):
    """relu(norm(conv3(relu(norm(conv3(x))))) + shortcut(x)).

    If channels or size change, the shortcut is a 1×1 convolution and a normalisation.

    Args:
        channels: of the input.
        width: channels of the output.
        norm: see :func:`norm_layer`.
        downsample: halve the side by stride, by average pooling after the first convolution
            (avg_pool), or not (none).
    """

    def __init__(self, channels: int, width: int, norm: str, downsample: str):
        super().__init__()
        stride = 2 if downsample == "stride" else 1
        pool = [nn.AvgPool2d(2)] if downsample == "avg_pool" else []
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            norm_layer(norm, width),
            nn.ReLU(),
            *pool,
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            norm_layer(norm, width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if downsample != "none" or channels != width:
            projection = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, *pool, norm_layer(norm, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to (n, width, h or h/2, w or w/2)."""
        return nn.functional.relu(self.body(x) + self.shortcut(x))


def he_out(module: nn.Module) -> None:
    """Draw the weights of convolutions from N(0, 2 / (kernel² · channels out)), as IDC does."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] ** 2 * module.out_channels
        nn.init.normal_(module.weight, std=sqrt(2 / fan_out))

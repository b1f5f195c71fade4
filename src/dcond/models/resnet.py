"""Residual networks of basic blocks at native resolution: ResNet-18, its AP variant, ResNetAP-10, small ones."""

from dataclasses import dataclass
from math import sqrt

from torch import Tensor, nn

from dcond.errors import one_of, require, whole_number
from dcond.models.base import Network, Recipe
from dcond.models.staged import GROUPS, Staged, norm_layer
from dcond.types import ImageSpec


@dataclass(frozen=True, kw_only=True)
class ResNet(Recipe):
    """A 3×3 stem, stages of basic blocks whose width doubles and side halves from stage to stage, one linear layer.

    ResNet-18: the defaults. ResNet18_AP: downsample=avg_pool, head=flatten. ResNetAP-10 of IDC:
    blocks [1, 1, 1, 1], downsample=avg_pool, stem=by_size, initialisation=he_out. An image smaller
    than 2 to the power of the number of stages is zero-padded to that side, so the last stage sees
    at least 2×2 pixels (on one pixel an instance norm would return its bias alone). embed: the
    head's input. features: the stem and each stage.

    Args:
        blocks: basic blocks per stage.
        width: channels of the stem and the first stage.
        norm: instance (scale and shift per channel), batch or group.
        downsample: strided convolutions (stride), or plain ones followed by 2×2 average pooling
            (avg_pool).
        head: spatial mean (mean) or the whole map (flatten) before the linear layer.
        stem: conv3 for every size (plain); or by_size: conv3 up to 64 px, conv3 and pooling by 2 up
            to 128 px, else conv7 and pooling by 4.
        initialisation: PyTorch's (default), or convolutions from N(0, 2 / (kernel² · channels out))
            (he_out).

    Sources: DC (arXiv 2006.05929) and IDC (arXiv 2205.14959), the authors' code.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    norm: str = "instance"
    downsample: str = "stride"
    head: str = "mean"
    stem: str = "plain"
    initialisation: str = "default"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "blocks", tuple(self.blocks))  # a YAML list arrives as a list
        require(len(self.blocks) > 0, f"{self.name}: blocks is empty; ResNet-18 has [2, 2, 2, 2].")
        for count in self.blocks:
            whole_number(f"{self.name}: blocks per stage", count)
        whole_number(f"{self.name}: width", self.width)
        one_of(f"{self.name}: norm", self.norm, ("instance", "batch", "group"))
        one_of(f"{self.name}: downsample", self.downsample, ("stride", "avg_pool"))
        one_of(f"{self.name}: head", self.head, ("mean", "flatten"))
        one_of(f"{self.name}: stem", self.stem, ("plain", "by_size"))
        one_of(f"{self.name}: initialisation", self.initialisation, ("default", "he_out"))
        require(
            self.norm != "group" or self.width % GROUPS == 0,
            f"{self.name}: width={self.width} does not divide into the {GROUPS} groups of norm=group; "
            f"take a multiple of {GROUPS}.",
        )

    def module(self, spec: ImageSpec) -> Network:
        """Make the module for these images."""
        stem, shrink = self._stem(spec)
        smallest = shrink * 2 ** len(self.blocks)
        canvas = (max(spec.height, smallest), max(spec.width, smallest))
        stages, channels = [stem], self.width
        for index, count in enumerate(self.blocks):
            width = self.width << index
            firsts = [BasicBlock(channels, width, self.norm, self.downsample if index else "none")]
            rest = [BasicBlock(width, width, self.norm, "none") for _ in range(count - 1)]
            stages.append(nn.Sequential(*firsts, *rest))
            channels = width
        neck, pixels = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 1
        if self.head == "flatten":
            height, width = (self._last_side(side // shrink) for side in canvas)
            neck, pixels = nn.Sequential(nn.Flatten()), height * width
        network = Staged(stages, neck, nn.Linear(channels * pixels, spec.classes), canvas)
        if self.initialisation == "he_out":
            network.apply(he_out)
        return network

    def _stem(self, spec: ImageSpec) -> tuple[nn.Module, int]:
        """Return the stem and the factor by which it shrinks the image."""
        side = max(spec.height, spec.width)
        kernel, shrink = 3, 1
        if self.stem == "by_size" and side > 64:
            kernel, shrink = (3, 2) if side <= 128 else (7, 4)
        convolution = nn.Conv2d(spec.channels, self.width, kernel, padding=kernel // 2, bias=False)
        pool = [nn.AvgPool2d(shrink)] if shrink > 1 else []
        return nn.Sequential(
            convolution, norm_layer(self.norm, self.width), nn.ReLU(), *pool
        ), shrink

    def _last_side(self, side: int) -> int:
        for _ in self.blocks[1:]:
            side = side // 2 if self.downsample == "avg_pool" else -(-side // 2)
        return side


class BasicBlock(nn.Module):
    """relu(norm(conv3(relu(norm(conv3(x))))) + shortcut(x)); where the size changes the shortcut is a conv1 and norm.

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
    """Draw a convolution's weights from N(0, 2 / (kernel² · channels out)), as IDC's ResNetAP does."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(
            module.weight, std=sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
        )

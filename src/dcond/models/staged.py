"""A network as a list of stages, a neck and a linear head: the base of most recipes."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dcond.errors import require
from dcond.models.base import Network
from dcond.types import Features, ImageSpec

GROUPS = 4  # of norm=group, as in the DC authors' networks


class Staged(Network):
    """Zero-pad to a canvas, run the stages, flatten by the neck, classify.

    Images are padded in normalised space, so the frame has the data set's mean colour. They are
    centred; an odd remainder goes to the bottom and right.

    Args:
        stages: each maps (n, c, h, w) to (n, c', h', w'); the output of each is a tap.
        neck: maps the last stage's output to (n, d).
        head: the last linear layer, d to k.
        canvas: height and width that the stages see, at least those of the image.
    """

    def __init__(
        self, stages: Sequence[nn.Module], neck: nn.Module, head: nn.Linear, canvas: tuple[int, int]
    ):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.neck = neck
        self.head = head
        self.canvas = canvas

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the output of every stage, shallow to deep."""
        x = centre_pad(x, self.canvas)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def embed(self, x: Tensor) -> Tensor:
        """Return the features below the last linear layer: (n, d)."""
        embedding: Tensor = self.neck(self.maps(x)[-1])
        return embedding

    def features(self, x: Tensor) -> list[Features]:
        """Return every stage's output; its spatial mean is the semantic part."""
        return taps_of(self.maps(x))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, k)."""
        logits: Tensor = self.head(self.embed(x))
        return logits

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Features]]:
        """Return logits and taps in one pass."""
        maps = self.maps(x)
        return self.head(self.neck(maps[-1])), taps_of(maps)


def taps_of(maps: Sequence[Tensor]) -> list[Features]:
    """Return a tap for every map (n, d, h, w); its spatial mean is the semantic part."""
    return [Features(spatial.mean((2, 3)), spatial) for spatial in maps]


def centre_pad(x: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Zero-pad (n, c, h, w) to the canvas (height, width), the image in the middle."""
    rows, cols = canvas[0] - x.shape[-2], canvas[1] - x.shape[-1]
    if rows == cols == 0:
        return x
    return F.pad(x, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2))


def multiple_of(step: int, spec: ImageSpec) -> tuple[int, int]:
    """Return the smallest canvas that holds the image and has multiples of ``step`` as sides."""
    return -(-spec.height // step) * step, -(-spec.width // step) * step


def norm_layer(kind: str, channels: int) -> nn.Module:
    """Return a normalisation for (n, channels, h, w): none, batch, instance or group.

    "instance" is a group norm of one channel per group with scale and shift, as in the DC authors'
    code; ``nn.InstanceNorm2d`` has no parameters by default.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(channels if kind == "instance" else GROUPS, channels)


def check_groups(name: str, norm: str, width: int) -> None:
    """Raise :class:`ConfigError` for norm=group if the width is not a multiple of the groups."""
    require(
        norm != "group" or width % GROUPS == 0,
        f"{name}: width={width} is not a multiple of {GROUPS}, the number of groups of norm=group; "
        f"take a multiple of {GROUPS}.",
    )

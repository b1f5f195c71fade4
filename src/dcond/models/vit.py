"""A vision transformer at native resolution, trained from scratch."""

from functools import partial
from math import ceil, log2
from typing import Any

from torch import nn

from dcond.errors import require
from dcond.models.base import Network, Recipe
from dcond.models.staged import centre_pad, multiple_of
from dcond.models.timm_network import TimmNetwork, unfuse_attention
from dcond.settings import PositiveInt, settings
from dcond.types import ImageSpec


@settings
class ViT(Recipe):
    """timm's pre-norm vision transformer with a class token and learned positions, no dropout.

    The normalised image is zero-padded to a multiple of the patch. embed: the class token after the
    last norm. features: per block, before the last norm, the class token (semantic) and the grid of
    patches (spatial).

    Args:
        patch: side of a patch in px; None derives it from the shorter side, see :func:`auto_patch`.
        depth: number of blocks.
        width: size of a token; a multiple of ``heads``.
        heads: attention heads per block.
        fused_attention: True uses PyTorch's fused attention: faster, but it cannot be
            differentiated twice, which gradient matching needs.

    Initialisation: linear layers from N(0, 1 / inputs), positions from N(0, 1). timm's own (all at
    0.02, meant for long schedules with AdamW) stays at chance level in 300 SGD steps at learning
    rates of 0.003 to 0.1 on 10 or 100 digits.

    Source: ViT (arXiv 2010.11929); patch 4 at 32 px is the field's choice for small images.
    """

    patch: PositiveInt | None = None
    depth: PositiveInt = 6
    width: PositiveInt = 192
    heads: PositiveInt = 3
    fused_attention: bool = False

    def __post_init__(self) -> None:
        require(
            self.width % self.heads == 0,
            f"{self.name}: width={self.width} is not a multiple of heads={self.heads}; change one.",
        )

    def module(self, spec: ImageSpec) -> Network:
        """Build the module for these images."""
        from timm.models.vision_transformer import VisionTransformer  # slow to import

        patch = self.patch or auto_patch(min(spec.size))
        canvas = multiple_of(patch, spec)
        body: Any = VisionTransformer(
            img_size=canvas,
            patch_size=patch,
            in_chans=spec.channels,
            num_classes=spec.classes,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.heads,
        )
        body.apply(keep_variance)
        nn.init.normal_(body.pos_embed)
        if not self.fused_attention:
            unfuse_attention(body)
        return TimmNetwork(body, partial(centre_pad, canvas=canvas))


def keep_variance(module: nn.Module) -> None:
    """Draw a linear layer's weights from N(0, 1 / inputs)."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)


def auto_patch(side: int) -> int:
    """Return the patch for about 8×8 tokens: 4 at a shorter side of 28 and 32 px, 8 at 64.

    Images keep patch 4 down to 16 px (4×4 tokens) and have patch 2 below.
    """
    return max(2 if side < 16 else 4, 1 << max(0, ceil(log2(side)) - 3))

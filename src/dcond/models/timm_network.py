"""Networks of the timm library, pretrained or not."""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcond.errors import ConfigError, UnsupportedError, one_of, require, whole_number
from dcond.models.base import Network, Recipe
from dcond.models.timm_weights import check_architecture, published
from dcond.types import Features, ImageSpec


@dataclass(frozen=True, kw_only=True)
class Timm(Recipe):
    """Any timm network by name; images are resized to its own input size (bilinear, align_corners False).

    A grey image is repeated over three channels for pretrained weights; else the network is made
    with the images' channels. embed: timm's pre-logits, flattened. features: timm's
    ``forward_intermediates``: every block of a transformer before the last norm, every stage of a
    convolutional network. (For timm's ResNets the stem's tap lies before its max-pooling, where
    HMDC's public code taps after it.) semantic: the class token where there is one, else the
    spatial mean.

    Args:
        architecture: timm's name, with the tag of the weights after a dot.
        pretrained: start from published weights with a fresh head; timm downloads them once.
        checkpoint: a file of weights to read instead of downloading (pretrained only).
        input_size: side in px the images are resized to; None takes the network's own.
        input_stats: what pretrained weights see: images normalised by the checkpoint's mean and std
            (checkpoint), or by the data set's as they come (dataset; HMDC's public code). Without
            pretrained weights always the latter.
        fused_attention: True uses PyTorch's fused attention: faster, but it cannot be
            differentiated twice, which gradient matching needs.

    Raises:
        ConfigError: an unknown name or tag, weights that cannot be fetched, or images that are
            neither grey nor colour for pretrained weights.
    """

    architecture: str
    pretrained: bool = False
    checkpoint: str | None = None
    input_size: int | None = None
    input_stats: str = "checkpoint"
    fused_attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(f"{self.name}: input_stats", self.input_stats, ("checkpoint", "dataset"))
        if self.input_size is not None:
            whole_number(f"{self.name}: input_size", self.input_size)
        require(
            self.pretrained or self.checkpoint is None,
            f"{self.name}: checkpoint={self.checkpoint} is read only with pretrained=true; set it, or drop checkpoint.",
        )
        check_architecture(
            self.name, self.architecture, self.pretrained and self.checkpoint is None
        )

    def fetch(self) -> None:
        """Download published weights, or read the file of them, once."""
        super().fetch()
        if self.pretrained:
            published(self.name, self.architecture, classes=1, checkpoint=self.checkpoint)

    def by_content(self) -> Self:
        """Return the recipe with hashes in the place of paths, the checkpoint's too."""
        recipe = super().by_content()
        if self.checkpoint is None:
            return recipe
        try:
            with open(self.checkpoint, "rb") as file:
                return replace(recipe, checkpoint=hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise ConfigError(
                f"{self.name}: checkpoint={self.checkpoint} cannot be read ({error.strerror}); name a file of weights, "
                "or set checkpoint=null."
            ) from error

    def module(self, spec: ImageSpec) -> Network:
        """Make the module for these images; pretrained weights are read anew each time."""
        require(
            not self.pretrained or spec.channels in (1, 3),
            f"{self.name}: pretrained weights need images of 1 or 3 channels; these have {spec.channels}. "
            f"Set pretrained=false.",
        )
        body = self._body(spec)
        if not self.fused_attention:
            unfuse_attention(body)
        size = self.input_size or body.pretrained_cfg["input_size"][-1]
        if size != body.pretrained_cfg["input_size"][-1] and hasattr(body, "set_input_size"):
            body.set_input_size(img_size=(size, size))
        return TimmNetwork(body, Adapt(size, *self._restandardise(body.pretrained_cfg, spec)))

    def _restandardise(self, published: Any, spec: ImageSpec) -> tuple[Tensor, Tensor]:
        """Return the scale and shift, per channel of the input, from the data set's statistics to the network's."""
        channels = 3 if self.pretrained else spec.channels
        if not self.pretrained or self.input_stats == "dataset":
            return torch.ones(channels), torch.zeros(channels)
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        own_mean, own_std = torch.tensor(published["mean"]), torch.tensor(published["std"])
        return std / own_std, (mean - own_mean) / own_std

    def _body(self, spec: ImageSpec) -> Any:
        import timm

        if not self.pretrained:
            return timm.create_model(
                self.architecture, in_chans=spec.channels, num_classes=spec.classes
            )
        return published(
            self.name, self.architecture, classes=spec.classes, checkpoint=self.checkpoint
        )


class Adapt(nn.Module):
    """Turn normalised images into what a timm network wants: scale and shift per channel, then resize.

    Args:
        size: side of the square the images are resized to.
        scale: one per channel of the output; three of them repeat a grey image.
        shift: added after scaling; as many.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, size: int, scale: Tensor, shift: Tensor):
        super().__init__()
        self.size = (size, size)
        self.register_buffer("scale", scale.view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w), normalised by the data set's statistics, to (n, c or 3, size, size)."""
        x = x * self.scale + self.shift  # a single channel broadcasts to three
        if x.shape[-2:] == self.size:
            return x
        return F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)


class TimmNetwork(Network):
    """A timm network behind dcond's three calls.

    Args:
        body: the timm network.
        prepare: maps normalised images at the data set's size to what ``body`` takes.
    """

    def __init__(self, body: Any, prepare: Callable[[Tensor], Tensor]):
        super().__init__()
        self.body = body
        self.prepare = prepare

    def embed(self, x: Tensor) -> Tensor:
        """Return timm's pre-logits, flattened: (n, d)."""
        maps = self.body.forward_features(self.prepare(x))
        embedding: Tensor = self.body.forward_head(maps, pre_logits=True)
        return embedding.flatten(1)

    def features(self, x: Tensor) -> list[Features]:
        """Return one tap per block or stage.

        Raises:
            UnsupportedError: timm offers no intermediate features for this network.
        """
        return self._taps(self._intermediates(x, intermediates_only=True))

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Features]]:
        """Return logits and taps in one pass; errors as :meth:`features`."""
        maps, taps = self._intermediates(x)
        return self.body.forward_head(maps), self._taps(taps)

    def _intermediates(self, x: Tensor, **words: bool) -> Any:
        call = getattr(self.body, "forward_intermediates", None)
        if call is None:
            raise UnsupportedError(
                f"timm's {type(self.body).__name__} has no forward_intermediates, so it has no taps; "
                f"use another network where a method reads features."
            )
        if "return_prefix_tokens" in inspect.signature(call).parameters and self._has_class_token:
            words["return_prefix_tokens"] = True
        return call(self.prepare(x), **words)

    def _taps(self, found: Any) -> list[Features]:
        pairs = [tap if isinstance(tap, tuple) else (tap, None) for tap in found]
        return [
            Features(grid.mean((2, 3)) if tokens is None else tokens[:, 0], grid)
            for grid, tokens in pairs
        ]

    @property
    def _has_class_token(self) -> bool:
        return getattr(self.body, "cls_token", None) is not None

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, k)."""
        logits: Tensor = self.body(self.prepare(x))
        return logits


def unfuse_attention(body: nn.Module) -> None:
    """Make every attention of a timm network take the plain path, which can be differentiated twice."""
    for module in body.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]  # timm's flag: a plain bool

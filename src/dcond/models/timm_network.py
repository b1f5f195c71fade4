"""Networks of the timm library, pretrained or not."""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcond.errors import ConfigError, UnsupportedError, first_line, require
from dcond.models.base import Network, Recipe
from dcond.models.timm_weights import check_architecture, published_network, silenced
from dcond.paths import expand_home
from dcond.settings import PositiveInt, settings
from dcond.types import Features, ImageSpec


@settings
class Timm(Recipe):
    """Any timm network by name; images are resized to its input size (bilinear, not aligned).

    With pretrained weights a grey image is repeated over three channels; otherwise the network has
    the channels of the images. embed: timm's pre-logits, flattened. features: timm's
    ``forward_intermediates``: every block of a transformer before the last norm, every stage of a
    convolutional network. (For timm's ResNets the tap of the stem is before its max-pooling;
    HMDC's public code taps after it.) semantic: the class token if there is one, otherwise
    the spatial mean.

    Args:
        architecture: timm's name, with the tag of the weights after a dot.
        pretrained: start from published weights with a new head; timm downloads them once.
        checkpoint: a file of weights to read instead of downloading (pretrained only).
        input_size: side in px the images are resized to; None takes the network's own. Some
            networks take no other.
        input_stats: with pretrained weights, images are normalised by the mean and std of the
            checkpoint (checkpoint) or of the data set (dataset; HMDC's public code). Without
            pretrained weights by those of the data set.
        fused_attention: True uses PyTorch's fused attention: faster, but it cannot be
            differentiated twice, which gradient matching needs.

    Raises:
        ConfigError: an unknown name or tag, weights that cannot be fetched, an input size that the
            network does not take, or images that are neither grey nor colour for pretrained
            weights.
    """

    architecture: str
    pretrained: bool = False
    checkpoint: str | None = None
    input_size: PositiveInt | None = None
    input_stats: Literal["checkpoint", "dataset"] = "checkpoint"
    fused_attention: bool = False

    def __post_init__(self) -> None:
        require(
            self.pretrained or self.checkpoint is None,
            f"{self.name}: checkpoint={self.checkpoint} is read only with pretrained=true; "
            "set pretrained=true or checkpoint=null.",
        )
        download = self.pretrained and self.checkpoint is None
        check_architecture(self.name, self.architecture, download)

    @property
    def pretrained_weights(self) -> bool:
        """Whether the weights are published ones or a file's."""
        return self.pretrained or super().pretrained_weights

    def fetch(self) -> None:
        """Download the published weights, or read their file."""
        super().fetch()
        if self.pretrained:
            self._pretrained(classes=1)

    def by_content(self) -> Self:
        """Return the recipe with hashes in place of paths, the checkpoint's too."""
        recipe = super().by_content()
        if self.checkpoint is None:
            return recipe
        try:
            with open(expand_home(self.checkpoint), "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ConfigError(
                f"{self.name}: checkpoint={self.checkpoint} cannot be read ({error.strerror}); "
                "give a file of weights, or set checkpoint=null."
            ) from error
        return replace(recipe, checkpoint=digest)

    def module(self, spec: ImageSpec) -> Network:
        """Build the module for these images; pretrained weights are read again each time."""
        require(
            spec.whitening is None or not self._uses_own_statistics,
            f"{self.name}: input_stats=checkpoint cannot normalise whitened images; set "
            "input_stats=dataset, or choose another dataset.stats than zca.",
        )
        body = self._body(spec)
        if not self.fused_attention:
            unfuse_attention(body)
        published, channels = body.pretrained_cfg, 3 if self.pretrained else spec.channels
        size = self.input_size or published["input_size"][-1]
        if size != published["input_size"][-1]:
            self._resize(body, size, channels)
        self._log_input(published, size, spec)
        adapt = Adapt(size, *self._restandardise(published, spec, channels))
        return TimmNetwork(body, adapt, size)

    def _resize(self, body: Any, size: int, channels: int) -> None:
        """Give a network another input size, and try it once.

        Raises:
            ConfigError: it takes its own size only, or this one is too small.
        """
        own = body.pretrained_cfg["input_size"][-1]
        try:
            if hasattr(body, "set_input_size"):
                with silenced("timm"):
                    body.set_input_size(img_size=(size, size))
            if self.is_first(f"input {channels}x{size}"):
                with torch.no_grad():
                    body.eval()(torch.zeros(1, channels, size, size))
        except Exception as error:  # timm and torch raise many kinds of errors
            raise ConfigError(
                f"{self.name}: {self.architecture} does not take images of {size} px "
                f"({first_line(error)}); choose another input_size, or null for its own {own} px."
            ) from error
        body.train()

    @property
    def _uses_own_statistics(self) -> bool:
        return self.pretrained and self.input_stats == "checkpoint"

    def _log_input(self, published: Any, size: int, spec: ImageSpec) -> None:
        whose, mean, std = "data set", spec.mean, spec.std
        if self._uses_own_statistics:
            whose, mean, std = "checkpoint", published["mean"], published["std"]
        values = [", ".join(f"{x:.4g}" for x in each) for each in (mean, std)]
        self.log_once(
            f"{self.name}: images of {spec.height} x {spec.width} px are brought to {size} x {size}"
            f" and normalised by the {whose}'s mean ({values[0]}) and std ({values[1]})"
        )

    def _restandardise(
        self, published: Any, spec: ImageSpec, channels: int
    ) -> tuple[Tensor, Tensor]:
        """Return scale and shift, per input channel, from the data set's to the network's units."""
        if not self._uses_own_statistics:
            return torch.ones(channels), torch.zeros(channels)
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        own_mean, own_std = torch.tensor(published["mean"]), torch.tensor(published["std"])
        return std / own_std, (mean - own_mean) / own_std

    def _body(self, spec: ImageSpec) -> Any:
        import timm

        n, k = spec.channels, spec.classes
        if not self.pretrained:
            return timm.create_model(self.architecture, in_chans=n, num_classes=k)
        require(
            n in (1, 3),
            f"{self.name}: pretrained weights need images of 1 or 3 channels; these have {n}. "
            "Set pretrained=false.",
        )
        return self._pretrained(k)

    def _pretrained(self, classes: int) -> Any:
        if self.checkpoint is None:
            self.log_once(f"{self.name}: {self.architecture} is read from timm's cache, or fetched")
        return published_network(self.name, self.architecture, classes, self.checkpoint)


class Adapt(nn.Module):
    """Prepare normalised images for a timm network: scale and shift each channel, then resize.

    Args:
        size: side of the square the images are resized to.
        scale: one value per output channel; three values repeat a grey image.
        shift: is added after scaling; as many values.
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
    """Adapter from a timm network to :class:`Network`.

    Args:
        body: the timm network.
        prepare: maps normalised images at the data set's size to the input of ``body``.
        input_side: of what ``prepare`` returns, in pixels; 0: that of the images.
    """

    def __init__(self, body: Any, prepare: Callable[[Tensor], Tensor], input_side: int = 0):
        super().__init__()
        self.input_side = input_side
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

    def _intermediates(self, x: Tensor, **options: bool) -> Any:
        call = getattr(self.body, "forward_intermediates", None)
        if call is None:
            raise UnsupportedError(
                f"timm's {type(self.body).__name__} has no forward_intermediates, so it has no "
                "taps; use another network for methods that read features."
            )
        has_class_token = getattr(self.body, "cls_token", None) is not None
        if has_class_token and "return_prefix_tokens" in inspect.signature(call).parameters:
            options["return_prefix_tokens"] = True
        return call(self.prepare(x), **options)

    def _taps(self, taps: Any) -> list[Features]:
        pairs = [tap if isinstance(tap, tuple) else (tap, None) for tap in taps]
        return [
            Features(grid.mean((2, 3)) if tokens is None else tokens[:, 0], grid)
            for grid, tokens in pairs
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, k)."""
        logits: Tensor = self.body(self.prepare(x))
        return logits


def unfuse_attention(body: nn.Module) -> None:
    """Use the plain attention of a timm network, which can be differentiated twice."""
    for module in body.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]  # timm's flag: a plain bool

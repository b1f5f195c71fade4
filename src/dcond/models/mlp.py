"""A multi-layer perceptron on the pixels."""

from dataclasses import dataclass

from torch import nn

from dcond.errors import require, whole_number
from dcond.models.base import Network, Recipe
from dcond.models.staged import Staged
from dcond.types import ImageSpec


@dataclass(frozen=True, kw_only=True)
class MLP(Recipe):
    """Flattened pixels, hidden layers with ReLU, one linear layer.

    embed: the last hidden layer after its ReLU. features: each hidden layer as a map of 1×1 pixels.

    Args:
        hidden: width of each hidden layer.

    Source: DC (arXiv 2006.05929), networks.py of the authors' code: 128, 128.
    """

    hidden: tuple[int, ...] = (128, 128)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "hidden", tuple(self.hidden))  # a YAML list arrives as a list
        require(
            len(self.hidden) > 0,
            f"{self.name}: hidden is empty; name at least one width, such as [128, 128].",
        )
        for width in self.hidden:
            whole_number(f"{self.name}: hidden width", width)

    def module(self, spec: ImageSpec) -> Network:
        """Make the module for these images."""
        widths = (spec.channels * spec.height * spec.width, *self.hidden)
        stages = [
            nn.Sequential(nn.Flatten(), nn.Linear(d, e), nn.ReLU(), nn.Unflatten(1, (e, 1, 1)))
            for d, e in zip(widths, self.hidden, strict=False)
        ]
        return Staged(
            stages, nn.Flatten(), nn.Linear(widths[-1], spec.classes), (spec.height, spec.width)
        )

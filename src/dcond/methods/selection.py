"""Selection: the synthetic set is a choice of real images."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dcond.errors import require
from dcond.init import FromReal, Rule
from dcond.methods.base import NoState
from dcond.rng import Streams
from dcond.types import RealData, SyntheticSet


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Real images chosen by a rule: random, herding, k-center or k-means; nothing is optimised.

    Args:
        rule: which images of each class (see :mod:`dcond.init.rules`).
        factor: f > 1 chooses f² times as many and stores them shrunken.
    """

    rule: Rule
    factor: int = 1
    steps: int = 0

    def __post_init__(self) -> None:
        require(
            self.steps == 0,
            f"method.steps={self.steps}: a selection takes no steps; leave it at 0.",
        )
        require(
            self.factor >= 1, f"method.factor={self.factor} is out of range; allowed: 1 or more."
        )

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> NoState:
        """Choose the images and store them."""
        chosen = FromReal(rule=self.rule)(
            real, synthetic.ipc, self.factor, rng
        )  # may train a network: not in no_grad
        with torch.no_grad():
            synthetic.images.copy_(chosen)
        return NoState()

    def step(self, real: RealData, synthetic: SyntheticSet, state: Any) -> dict[str, Tensor]:
        """Never called: there is nothing to do."""
        raise AssertionError("a selection has no steps")

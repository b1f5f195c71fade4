"""A queue of networks of different ages, each trained on real images for a few steps at a time."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dcond.models import Network, Recipe
from dcond.types import ImageSpec


class NetworkQueue:
    """Networks of one kind, first in, first out, that take turns in one module.

    The module holds the weights of one member at a time, so it is compiled once. Of every member
    its weights, the state of its optimiser and its accuracy are kept.

    Args:
        network: the module.
        forward: its logits in training.
        make_optimiser: makes the optimiser of its weights.
        size: maximum number of members; a new one replaces the oldest.

    Example:
        >>> queue = NetworkQueue(network, network, lambda: torch.optim.SGD(...), size=100)
        >>> queue.push(recipe, real.spec, rng.networks)
        >>> queue.train(0, 10, draw)
        >>> accuracy = queue.load(0)
    """

    def __init__(
        self,
        network: Network,
        forward: Callable[[Tensor], Tensor],
        make_optimiser: Callable[[], torch.optim.Optimizer],
        size: int,
    ):
        self.network, self.size = network, size
        self._forward, self._make_optimiser = forward, make_optimiser
        self._members: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._members)

    def push(self, recipe: Recipe, spec: ImageSpec, rng: torch.Generator) -> None:
        """Add a new random network, of accuracy 0; drop the oldest if there are too many."""
        recipe.reset(self.network, spec, rng)
        self._members.append(self._stored(self._make_optimiser(), 0.0, 0))
        del self._members[: -self.size]

    def load(self, index: int) -> float:
        """Load a member's weights into the module; return its running accuracy.

        That is the fraction of right answers in its trainings, each batch before its own step,
        since the member joined or the accuracies were forgotten; 0 before its first training.
        """
        self.network.load_state_dict(self._members[index]["weights"])
        return float(self._members[index]["accuracy"])

    def forget_accuracies(self) -> None:
        """Set the accuracy of every member to 0, until its next training."""
        self._members = [{**member, "accuracy": 0.0, "seen": 0} for member in self._members]

    def train(self, index: int, steps: int, draw: Callable[[], tuple[Tensor, Tensor]]) -> None:
        """Train a member on cross-entropy.

        Args:
            index: of the member.
            steps: training steps, at least one.
            draw: returns the images (n, c, h, w), normalised, and labels (n,) of a step.
        """
        self.load(index)
        optimiser = self._make_optimiser()
        # An optimiser changes the state that it has loaded in place.
        optimiser.load_state_dict(copy.deepcopy(self._members[index]["optimiser"]))
        was_training = self.network.training
        self.network.train().requires_grad_(True)
        before = self._members[index].get("seen", 0)  # images; older checkpoints do not have it
        correct = torch.zeros((), device=next(self.network.parameters()).device)
        seen = before
        for _ in range(steps):
            images, labels = draw()
            logits = self._forward(images)
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(logits, labels).backward()
            optimiser.step()
            correct += (logits.detach().argmax(1) == labels).sum()
            seen += len(labels)
        self.network.requires_grad_(False).train(was_training)
        total = before * self._members[index]["accuracy"] + float(correct)
        self._members[index] = self._stored(optimiser, total / seen, seen)

    def state_dict(self) -> dict[str, Any]:
        """Return all members."""
        return {"members": self._members}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._members = list(state["members"])

    def _stored(
        self, optimiser: torch.optim.Optimizer, accuracy: float, seen: int
    ) -> dict[str, Any]:
        return {
            "weights": {name: x.detach().clone() for name, x in self.network.state_dict().items()},
            "optimiser": optimiser.state_dict(),
            "accuracy": accuracy,
            "seen": seen,
        }

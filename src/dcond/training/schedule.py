"""How a network is trained: passes, optimiser, the drops of its rate, augmentation."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dcond.augment import DiffAug
from dcond.device import to_device
from dcond.errors import one_of, require, whole_number
from dcond.training.steps import SoftLabels, training_step


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What evaluation protocols and teachers have in common.

    Args:
        epochs: passes over the images.
        batch: images per step; the last batch of an epoch may be smaller.
        optimiser: "sgd" or "adamw".
        momentum: of SGD, from 0 up to 1.
        weight_decay: of the optimiser; >= 0.
        lr_milestones: fractions of the epochs after which the rate is multiplied by ``lr_gamma``.
        lr_gamma: that factor, above 0 and at most 1.
        reset_optimizer_at_drop: start a new optimiser at each drop, momentum lost, as the DC family's code
            does.
        augment: augmentation of the training images; None for none.
        cutmix_p: chance of CutMix per batch.
    """

    where: ClassVar[str] = "evaluation"  # how the command line calls it

    epochs: int
    batch: int = 256
    optimiser: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_milestones: tuple[float, ...] = (0.5,)
    lr_gamma: float = 0.1
    reset_optimizer_at_drop: bool = False
    augment: DiffAug | None = None
    cutmix_p: float = 0.0

    def __post_init__(self) -> None:
        for field in ("epochs", "batch"):
            whole_number(f"{self.where}.{field}", getattr(self, field))
        one_of(f"{self.where}.optimiser", self.optimiser, ("sgd", "adamw"))
        for field, inside, allowed in (
            ("momentum", 0 <= self.momentum < 1, "0 up to, not including, 1"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("lr_gamma", 0 < self.lr_gamma <= 1, "above 0, up to 1"),
        ):
            require(
                inside,
                f"{self.where}.{field}={getattr(self, field)} is out of range; allowed: {allowed}.",
            )
        inside = 0 <= self.cutmix_p <= 1
        require(inside, f"{self.where}.cutmix_p={self.cutmix_p} is out of range; allowed: 0 to 1.")
        inside = all(0 < fraction < 1 for fraction in self.lr_milestones)
        require(
            inside,
            f"{self.where}.lr_milestones={list(self.lr_milestones)}: fractions of the epochs lie between 0 and 1.",
        )

    @property
    def augments(self) -> bool:
        """Whether there is any augmentation, CutMix included."""
        return self.cutmix_p > 0 or (self.augment is not None and len(self.augment.ops) > 0)

    def settings(self, *aside: str) -> str:
        """Write every setting, also the augmentation's, which has no text form, but for those that are set aside."""
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in aside
        }
        augment = values.pop("augment")
        return repr(
            values | {"augment": None if augment is None else sorted(vars(augment).items())}
        )

    def run(
        self,
        groups: list[dict[str, Any]],
        epoch: Callable[[torch.optim.Optimizer], None],
        after: Callable[[int], None] = lambda number: None,
    ) -> None:
        """Train for all epochs, with the drops.

        Args:
            groups: what an optimiser is made of.
            epoch: one pass with it.
            after: told the number of epochs done, after each.
        """
        optimiser = self.make_optimiser(groups)
        drops = {max(1, round(fraction * self.epochs)) for fraction in self.lr_milestones}
        for number in range(self.epochs):
            if number in drops:
                optimiser = self._dropped(optimiser)
            epoch(optimiser)
            after(number + 1)

    def epoch(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        images: Tensor,
        labels: Tensor,
        rng: torch.Generator,
        soft: SoftLabels | None = None,
    ) -> None:
        """Take a network once through images (n, c, h, w), normalised; arguments as in ``training_step``."""
        network.train()  # a look at the test set leaves it in evaluation mode
        how: dict[str, Any] = {
            "augment": self.augment,
            "cutmix_p": self.cutmix_p,
            "rng": rng,
            "soft": soft,
        }
        order = to_device(torch.randperm(len(images), generator=rng), images.device)
        for rows in order.split(self.batch):
            training_step(network, optimiser, images[rows], labels[rows], **how)

    def make_optimiser(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return a new optimiser of these parameters and rates."""
        if self.optimiser == "adamw":
            return torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        return torch.optim.SGD(groups, momentum=self.momentum, weight_decay=self.weight_decay)

    def _dropped(self, optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Return the optimiser at the next rate: the same, or a new one."""
        for group in optimiser.param_groups:
            group["lr"] *= self.lr_gamma
        if not self.reset_optimizer_at_drop:
            return optimiser
        return self.make_optimiser(
            [{"params": group["params"], "lr": group["lr"]} for group in optimiser.param_groups]
        )

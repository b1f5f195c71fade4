"""Training schedules: epochs, optimiser, learning rate milestones, augmentation."""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from dcond.augment import DiffAug
from dcond.cache import own_code
from dcond.device import to_device
from dcond.errors import require
from dcond.log import counted
from dcond.settings import Fraction, Momentum, NonNegativeFloat, PositiveInt, comparable, settings
from dcond.training.steps import SoftLabels, training_step


@settings
class Schedule:
    """The settings that evaluation protocols and teachers share.

    Args:
        epochs: passes over the images.
        batch: images per step; the last batch of an epoch may be smaller.
        optimiser: "sgd" or "adamw".
        momentum: momentum of SGD.
        weight_decay: weight decay of the optimiser.
        lr_milestones: fractions of the epochs, each in (0, 1), after which the learning rate is
            multiplied by ``lr_gamma``; several that round to one epoch count once.
        lr_gamma: that factor, in (0, 1].
        lr_schedule: "steps", the milestones; or "half_cosine": in epoch e of E, from 0, the rate is
            multiplied by (1 + cos(π e / 2E)) / 2, so that it ends at half of its value (RDED), and
            the milestones are not used.
        reset_optimizer_at_drop: make a new optimiser, without momentum, at each milestone, as the
            code of the DC family does.
        augment: augmentation of the training images; None for none.
        cutmix_p: probability of CutMix per batch.
    """

    epochs: PositiveInt
    batch: PositiveInt = 256
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: Momentum = 0.9
    weight_decay: NonNegativeFloat = 5e-4
    lr_milestones: tuple[float, ...] = (0.5,)
    lr_gamma: Annotated[float, Gt(0), Le(1)] = 0.1
    lr_schedule: Literal["steps", "half_cosine"] = "steps"
    reset_optimizer_at_drop: bool = False
    augment: DiffAug | None = None
    cutmix_p: Fraction = 0.0

    def __post_init__(self) -> None:
        require(
            all(0 < fraction < 1 for fraction in self.lr_milestones),
            f"{type(self).__name__}.lr_milestones={list(self.lr_milestones)} is out of range; "
            "allowed: fractions of the epochs above 0, below 1.",
        )

    @property
    def augments(self) -> bool:
        """Whether there is any augmentation, including CutMix."""
        return self.cutmix_p > 0 or (self.augment is not None and len(self.augment.ops) > 0)

    def run(
        self,
        groups: list[dict[str, Any]],
        epoch: Callable[[torch.optim.Optimizer], None],
        after: Callable[[int], None] = lambda number: None,
        what: str | None = None,
    ) -> None:
        """Train for all epochs, reducing the learning rate at the milestones.

        Args:
            groups: parameter groups of the optimiser, each with its learning rate.
            epoch: trains one epoch with the given optimiser.
            after: called after each epoch with the number of epochs done.
            what: begins a log line of the epochs done, every ten seconds; None for no lines.
        """
        optimiser = self.make_optimiser(groups)
        milestones = {max(1, round(fraction * self.epochs)) for fraction in self.lr_milestones}
        first = [group["lr"] for group in optimiser.param_groups]
        for number in range(self.epochs) if what is None else counted(self.epochs, what):
            if self.lr_schedule == "half_cosine":
                for group, lr in zip(optimiser.param_groups, first, strict=True):
                    group["lr"] = lr * (1 + math.cos(math.pi * number / (2 * self.epochs))) / 2
            elif number in milestones:
                optimiser = self._reduce_lr(optimiser)
            epoch(optimiser)
            after(number + 1)

    def epoch(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        images: Callable[[Tensor], Tensor],
        labels: Tensor,
        rng: torch.Generator,
        soft: SoftLabels | None = None,
    ) -> None:
        """Train a network for one epoch.

        Args:
            network: in any mode.
            optimiser: of its parameters.
            images: ``images(rows)`` returns the images of rows (int64): (len(rows), c, h, w),
                normalised.
            labels: int64 (n,) or soft float32 (n, k).
            rng: CPU generator of all draws.
            soft: see :func:`~dcond.training.steps.training_step`.
        """
        if not network.training:  # a test leaves it in evaluation mode
            network.train()
        options: dict[str, Any] = {
            "augment": self.augment,
            "cutmix_p": self.cutmix_p,
            "rng": rng,
            "soft": soft,
        }
        order = to_device(torch.randperm(len(labels), generator=rng), labels.device)
        for rows in order.split(self.batch):
            training_step(network, optimiser, images(rows), labels[rows], **options)

    def make_optimiser(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return a new optimiser of these parameter groups."""
        if self.optimiser == "adamw":
            return torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        return torch.optim.SGD(groups, momentum=self.momentum, weight_decay=self.weight_decay)

    def _reduce_lr(self, optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Return the optimiser for the next learning rate: the same or a new one."""
        for group in optimiser.param_groups:
            group["lr"] *= self.lr_gamma
        if not self.reset_optimizer_at_drop:
            return optimiser
        return self.make_optimiser(
            [{"params": group["params"], "lr": group["lr"]} for group in optimiser.param_groups]
        )


def describe(part: Any, *excluded: str) -> str:
    """Return the settings of a schedule or protocol as text, except those named ``excluded``.

    Equal settings give equal texts, whether they came from YAML or from Python.
    """
    names = [field.name for field in fields(part) if field.name not in excluded]
    values = {name: comparable(part, name) for name in names}
    augment = values.pop("augment", None)
    text = repr(values | {"augment": None if augment is None else sorted(vars(augment).items())})
    return text + own_code(augment)

"""What a step of trajectory matching does for MTT and DATM alike; and learned tensors."""

from typing import Literal, Protocol

import torch
from torch import Tensor

from dcond.augment import DiffAug
from dcond.matching.batches import image_gradient
from dcond.matching.trajectories import Matched, draw_batches, match_trajectory, student_loss
from dcond.models import Network
from dcond.rng import Streams
from dcond.training.experts import Trajectory
from dcond.types import SyntheticSet

Gradient = Literal["exact", "tesla"]
RATE_FLOOR = 1e-6  # of the learned rate, which plain SGD could make negative


class TrajectorySettings(Protocol):
    """The settings of a method that matches trajectories."""

    @property
    def augment(self) -> DiffAug | None:
        """Augmentation of the student's batches, one draw per image."""

    @property
    def student_steps(self) -> int:
        """N, steps of the student."""

    @property
    def expert_epochs(self) -> int:
        """M, epochs of the expert that the student follows."""

    @property
    def batch(self) -> int | None:
        """Images per student step; None for all."""

    @property
    def segment(self) -> int | None:
        """Steps whose graph is held at once; None for all."""

    @property
    def gradient(self) -> Gradient:
        """Whether effects on later steps are followed."""


def trajectory_step(
    method: TrajectorySettings,
    synthetic: SyntheticSet,
    labels: Tensor,
    network: Network,
    expert: Trajectory,
    epoch: int,
    rate: Tensor,
    rng: Streams,
) -> Matched:
    """Return the loss of a student that starts where the expert was after ``epoch`` epochs.

    The gradients are those of the stored images and, if ``labels`` are logits, of these.

    Args:
        method: settings.
        synthetic: the set that the student is trained on.
        labels: int64 (n,), or logits (n, k), of the stored images.
        network: the student; its own weights are not used.
        expert: gives θ_0 and θ*.
        epoch: of θ_0; θ* is ``method.expert_epochs`` later.
        rate: α, the student's learning rate, a scalar tensor.
        rng: streams of the batches and their augmentation.
    """
    images, _ = synthetic.decoded()
    normalised = synthetic.spec.normalise(images)
    x = normalised.detach().requires_grad_()
    leaves, y = [x], labels.detach()
    if labels.ndim == 2:
        y = y.clone().requires_grad_()
        leaves.append(y)
    spec = synthetic.spec
    batches = draw_batches(
        len(x),
        (spec.height, spec.width),
        method.student_steps,
        method.batch or len(x),
        method.augment,
        rng.synthetic,
        rng.augmentation,
    )
    first, last = expert.state(epoch), expert.state(epoch + method.expert_epochs)
    names = [name for name, _ in network.named_parameters()]
    begin, target = ([state[name].to(x.device) for name in names] for state in (first, last))
    matched = match_trajectory(
        student_loss(
            network,
            names,
            {name: first[name].to(x.device) for name, _ in network.named_buffers()},
            x,
            y.repeat(synthetic.factor**2, *[1] * (y.ndim - 1)),
            batches,
            method.augment,
        ),
        begin,
        target,
        rate,
        leaves,
        method.student_steps,
        segment=method.segment,
        direct=method.gradient == "tesla",
    )
    gradient = image_gradient(synthetic, normalised, matched.gradients[0])
    return Matched(matched.loss, [gradient, *matched.gradients[1:]], matched.rate)


class LearnedTensor:
    """SGD with momentum on a tensor of the synthetic set: its labels or its learning rate.

    v ← m · v + g,  x ← x - lr · v, at least ``floor``.

    Args:
        values: changed in place.
        lr: learning rate.
        momentum: m in [0, 1).
        floor: smallest value; None for no limit.
    """

    def __init__(self, values: Tensor, lr: float, momentum: float, floor: float | None = None):
        self.values, self.lr, self.momentum, self.floor = values, lr, momentum, floor
        self.velocity = torch.zeros_like(values)

    def step(self, gradient: Tensor) -> None:
        """Do one step on ``gradient`` = ∂L/∂values."""
        self.velocity.mul_(self.momentum).add_(gradient)
        self.values.sub_(self.velocity, alpha=self.lr)
        if self.floor is not None:
            self.values.clamp_(min=self.floor)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the values and their velocity."""
        return {"values": self.values, "velocity": self.velocity}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` returned, in place: the set holds the values."""
        self.values.copy_(state["values"])
        self.velocity.copy_(state["velocity"])

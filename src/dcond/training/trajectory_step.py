"""What a step of trajectory matching does for MTT and DATM alike; and learned tensors."""

from typing import Literal

import torch
from torch import Tensor

from dcond.augment import DiffAug
from dcond.errors import require
from dcond.matching.batches import image_gradient
from dcond.matching.engine import check_second_derivative
from dcond.matching.trajectories import Matched, draw_batches, match_trajectory, student_loss
from dcond.models import Network, Recipe
from dcond.rng import Streams, generator
from dcond.settings import Momentum, PositiveFloat, PositiveInt, settings
from dcond.training.experts import Experts, Trajectory
from dcond.training.image_optim import PixelBox, Space
from dcond.types import RealData, SyntheticSet

Gradient = Literal["exact", "tesla"]
RATE_FLOOR = 1e-6  # of the learned rate, which plain SGD could make negative


@settings
class TrajectorySettings:
    """The settings that the methods of trajectory matching share.

    Args:
        network: recipe of experts and student.
        experts: how experts are trained; those that the cache lacks are trained first.
        augment: augmentation of the student's batches, one draw per image; None for none.
        steps: image updates.
        student_steps: N, steps of the student.
        expert_epochs: M, epochs of the expert that the student follows.
        max_start_epoch: the student starts after fewer epochs of the expert than this.
        batch: decoded images per student step, without replacement; None for all.
        lr: learning rate of the images, in units of ``space``.
        momentum: momentum of the images and of α.
        rate: first value of α, the student's learning rate.
        lr_rate: learning rate of α.
        segment: student steps whose graph is held at once; None for all. Bounds the memory, and
            changes results by rounding only.
        gradient: "exact", or "tesla" for the approximation of TESLA (arXiv 2211.10586), which
            neglects how a batch acts on later steps.
        factor: multi-formation factor.
        space: units of ``lr``, see :class:`~dcond.training.image_optim.PixelSGD`.
        pixel_box: "project" keeps the images in [0, 1], "free" does not.
    """

    network: Recipe
    experts: Experts
    augment: DiffAug | None = None
    steps: PositiveInt
    student_steps: PositiveInt
    expert_epochs: PositiveInt = 2
    max_start_epoch: PositiveInt = 20
    batch: PositiveInt | None = None
    lr: PositiveFloat = 100.0
    momentum: Momentum = 0.5
    rate: PositiveFloat = 0.01
    lr_rate: PositiveFloat = 1e-5
    segment: PositiveInt | None = None
    gradient: Gradient = "exact"
    factor: PositiveInt = 1
    space: Space = "normalised"
    pixel_box: PixelBox = "project"

    def __post_init__(self) -> None:
        require(
            self.network == self.experts.network,
            f"method.network={self.network.name} is not the experts' network "
            f"{self.experts.network.name}; the student starts from their weights, so make them "
            "equal.",
        )
        last = self.max_start_epoch - 1 + self.expert_epochs
        require(
            last <= self.experts.epochs,
            f"method.max_start_epoch={self.max_start_epoch} and method.expert_epochs="
            f"{self.expert_epochs} need experts of {last} epochs, method.experts.epochs is "
            f"{self.experts.epochs}; change one of them.",
        )

    def student(self, real: RealData) -> Network:
        """Return the network whose weights :func:`trajectory_step` replaces.

        Raises:
            ConfigError: it has no second derivative, which the gradient of the images needs.
        """
        network = self.network.build(real.spec, generator(0, "student"), real.device)
        check_second_derivative(network, real.spec)
        return network


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
        spec.size,
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
            # Buffers that are not saved, such as constants of a normalisation, are the network's.
            {name: first.get(name, own).to(x.device) for name, own in network.named_buffers()},
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

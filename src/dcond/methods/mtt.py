"""MTT: matching training trajectories."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dcond.methods.base import SavedState
from dcond.models import Network
from dcond.rng import Streams
from dcond.settings import PositiveInt, settings
from dcond.training.experts import Trajectory
from dcond.training.image_optim import PixelSGD
from dcond.training.trajectory_step import (
    RATE_FLOOR,
    LearnedTensor,
    TrajectorySettings,
    trajectory_step,
)
from dcond.types import RealData, SyntheticSet


@dataclass
class MTTState(SavedState):
    """The experts, the student's network, and the optimisers of images and learning rate."""

    not_saved: ClassVar = ("experts", "network", "rng")

    experts: list[Trajectory]
    network: Network
    pixels: PixelSGD
    rate: LearnedTensor
    rng: Streams


@settings
class MTT(TrajectorySettings):
    """Match the weights that a student reaches on the synthetic images with an expert's.

    L = ‖θ_N - θ*_{s+M}‖² / ‖θ*_s - θ*_{s+M}‖²

    Each step draws an expert and an epoch s < T, starts a student from the expert's weights θ*_s,
    trains it for N steps of SGD on the augmented synthetic images, and moves the images and the
    student's learning rate α on L. See :mod:`dcond.matching.trajectories`.

    Paper: Cazenavette et al., Dataset distillation by matching training trajectories, arXiv
    2203.11932, algorithm 1. Code: github GeorgeCazenavette/mtt-distillation, distill.py. Differs:
    experts are drawn with replacement; images are projected to [0, 1] by default; α is at least
    1e-6; the graph of the student's steps may be computed in segments.

    T is ``max_start_epoch``. The settings are those of
    :class:`~dcond.training.trajectory_step.TrajectorySettings`.
    """

    student_steps: PositiveInt = 30

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> MTTState:
        """Load or train the experts; make the student's network and the optimisers."""
        network = self.student(real)
        experts = self.experts.load_or_train(real)
        synthetic.learned_lr = torch.tensor(self.rate, device=real.device)
        return MTTState(
            experts,
            network.requires_grad_(False),
            PixelSGD.of(self, synthetic),
            LearnedTensor(synthetic.learned_lr, self.lr_rate, self.momentum, RATE_FLOOR),
            rng,
        )

    def step(self, real: RealData, synthetic: SyntheticSet, state: MTTState) -> dict[str, Tensor]:
        """Update the images and the learning rate once."""
        rng, rate = state.rng, state.rate.values
        expert = state.experts[int(torch.randint(len(state.experts), (), generator=rng.networks))]
        epoch = int(torch.randint(self.max_start_epoch, (), generator=rng.networks))
        matched = trajectory_step(
            self, synthetic, synthetic.labels, state.network, expert, epoch, rate, rng
        )
        state.pixels.step(matched.gradients[0])
        state.pixels.project()
        state.rate.step(matched.rate)
        return {"loss": matched.loss, "rate": rate.clone(), "start_epoch": torch.tensor(epoch)}

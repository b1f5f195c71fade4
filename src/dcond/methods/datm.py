"""DATM: difficulty-aligned trajectory matching, with learned soft labels."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dcond.errors import DataError, require
from dcond.methods.base import SavedState
from dcond.models import Network
from dcond.rng import Streams
from dcond.settings import Momentum, NonNegativeInt, PositiveFloat, PositiveInt, settings
from dcond.training.expert_labels import ExpertLabels
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
class DATMState(SavedState):
    """The experts, the student's network, and the optimisers of images, labels and rate."""

    not_saved: ClassVar = ("experts", "network", "rng")

    experts: list[Trajectory]
    network: Network
    pixels: PixelSGD
    labels: LearnedTensor
    rate: LearnedTensor
    iteration: int
    rng: Streams


@settings
class DATM(TrajectorySettings):
    """Match trajectories of a window of epochs that suits the number of images; learn soft labels.

    As MTT (:mod:`dcond.matching.trajectories`), with three changes. The student starts after
    ``min_start_epoch`` ≤ s < U epochs, where U grows linearly from ``first_max_epoch`` to
    ``max_start_epoch``: late epochs hold what only larger sets can express. The labels are logits
    y, learned with the images; the student's loss is the cross-entropy with softmax(y). Where L is
    above ``loss_limit`` nothing is updated.

    First labels are the mean logits of the experts that classify an image right after
    ``label_epoch`` epochs. Initial images that no expert classifies right are replaced by real
    images of the class that some expert does, whole or shrunken by ``factor``.

    Paper: Guo et al., Towards lossless dataset distillation via difficulty-aligned trajectory
    matching, arXiv 2310.05773. Code: github NUS-HPC-AI-Lab/DATM, distill/DATM.py. Differs: experts
    are trained by plain SGD, unless ``experts.optimiser`` is "gsam"; experts are drawn with
    replacement; an image with a right expert is kept as it is; a class without such images is
    refused, where the code searches for ever; images are projected to [0, 1] by default; α is at
    least 1e-6.

    Args:
        min_start_epoch: smallest s.
        first_max_epoch: first U, above ``min_start_epoch``; None for ``max_start_epoch``, the last.
        growth_steps: image updates after which U has its last value.
        label_epoch: epochs of the experts that make the first labels; None for all.
        lr_labels: learning rate of the labels.
        momentum_labels: momentum of the labels.
        loss_limit: largest L with an update.

    The other settings are those of
    :class:`~dcond.training.trajectory_step.TrajectorySettings`.
    """

    student_steps: PositiveInt = 80
    min_start_epoch: NonNegativeInt = 0
    first_max_epoch: PositiveInt | None = None
    growth_steps: PositiveInt = 1000
    label_epoch: NonNegativeInt | None = None
    lr_labels: PositiveFloat = 2.0
    momentum_labels: Momentum = 0.9
    loss_limit: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            (self.label_epoch or 0) <= self.experts.epochs,
            f"method.label_epoch={self.label_epoch} is out of range; allowed: up to "
            f"method.experts.epochs={self.experts.epochs}, null.",
        )
        require(
            self.min_start_epoch < self.max_start_epoch,
            f"method.min_start_epoch={self.min_start_epoch} is out of range; allowed: below "
            f"method.max_start_epoch={self.max_start_epoch}.",
        )
        first = self.first_max_epoch or self.max_start_epoch
        require(
            self.min_start_epoch < first <= self.max_start_epoch,
            f"method.first_max_epoch={self.first_max_epoch} is out of range; allowed: above "
            f"method.min_start_epoch={self.min_start_epoch}, up to method.max_start_epoch="
            f"{self.max_start_epoch}.",
        )

    def window(self, iteration: int) -> range:
        """Return the start epochs s of an image update, counted from 0."""
        first, last = self.first_max_epoch or self.max_start_epoch, self.max_start_epoch
        upper = min(last, first + int((last - first) * iteration / self.growth_steps))
        return range(self.min_start_epoch, upper)

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> DATMState:
        """Load or train the experts, label the images; make the student and the optimisers.

        Raises:
            DataError: a class has fewer images that an expert classifies right than are needed.
        """
        experts, labels = self._labels(real)
        wrong = labels.replace_wrong(real, synthetic, rng.initialisation)
        worst = max(range(len(wrong)), key=wrong.__getitem__)
        if wrong[worst]:
            raise DataError(
                f"class {real.class_names[worst]!r} of {real.name} has too few images that an "
                f"expert classifies right after {labels.epoch} epochs: {wrong[worst]} of "
                f"{synthetic.ipc} have no label. Use better experts (method.experts.epochs, "
                "method.experts.lr) or a smaller ipc."
            )
        synthetic.labels, _ = labels.of(synthetic)
        synthetic.logits = True
        synthetic.learned_lr = torch.tensor(self.rate, device=real.device)
        return DATMState(
            experts,
            labels.network.train(),
            PixelSGD.of(self, synthetic),
            LearnedTensor(synthetic.labels, self.lr_labels, self.momentum_labels),
            LearnedTensor(synthetic.learned_lr, self.lr_rate, self.momentum, RATE_FLOOR),
            0,
            rng,
        )

    def labelled(self, real: RealData, synthetic: SyntheticSet) -> SyntheticSet:
        """Return a set with first labels: random images for comparison get labels of this kind."""
        if real not in self._known:  # to find its experts, all of its images are hashed
            self._known[real] = self._labels(real)[1]
        return self._known[real].labelled(synthetic)

    def step(self, real: RealData, synthetic: SyntheticSet, state: DATMState) -> dict[str, Tensor]:
        """Update images, labels and learning rate once, unless the loss is above its limit."""
        rng, rate = state.rng, state.rate.values
        window = self.window(state.iteration)
        expert = state.experts[int(torch.randint(len(state.experts), (), generator=rng.networks))]
        epoch = window[int(torch.randint(len(window), (), generator=rng.networks))]
        matched = trajectory_step(
            self, synthetic, state.labels.values, state.network, expert, epoch, rate, rng
        )
        updated = not float(matched.loss) > self.loss_limit  # the loop refuses a loss that is nan
        if updated:
            images, labels = matched.gradients
            state.pixels.step(images)
            state.pixels.project()
            state.labels.step(labels)
            state.rate.step(matched.rate)
        state.iteration += 1
        return {
            "loss": matched.loss,
            "rate": rate.clone(),
            "start_epoch": torch.tensor(epoch),
            "updated": torch.tensor(int(updated)),
        }

    @cached_property
    def _known(self) -> WeakKeyDictionary[RealData, ExpertLabels]:
        """The labels of data sets, as long as these are in use."""
        return WeakKeyDictionary()

    def _labels(self, real: RealData) -> tuple[list[Trajectory], ExpertLabels]:
        network = self.student(real)
        experts = self.experts.load_or_train(real)
        epoch = self.experts.epochs if self.label_epoch is None else self.label_epoch
        return experts, ExpertLabels(network, experts, epoch)

"""HMDC: condensation with any number of unlike networks."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dcond.augment import DiffAug
from dcond.device import to_device
from dcond.distributed import current, run_on_rank0
from dcond.errors import one_of, require, whole_number
from dcond.matching import balance
from dcond.matching.alignment import AXES, FORMS
from dcond.matching.batches import (
    class_features,
    decoded_by_class,
    image_gradient,
    mix_real_within_classes,
    mix_within_classes,
    normalised_by_class,
    siamese_augment,
    subset_per_class,
)
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.distances import squared
from dcond.matching.engine import Engine
from dcond.matching.kmeans import representatives
from dcond.matching.lazy_batch import RealBatch
from dcond.matching.multi_network import match_networks
from dcond.models import Pool
from dcond.rng import Streams
from dcond.training.image_optim import PixelSGD, check_pixel_settings
from dcond.training.joint import Learners
from dcond.types import RealData, SyntheticSet

EMBEDDED = 512  # real images per pass without a graph


@dataclass
class HMDCState:
    """The networks and their alignment, the image steps, and what goes with the images."""

    learners: Learners
    gradients: list[ClassGradients]  # of each network
    step: int
    network_steps: int  # image steps under these networks
    accumulator: Tensor  # A (k, j) of the gradient balance module, one column per loss
    rows: Tensor  # (k, b), the chosen real images
    pixels: PixelSGD
    rng: Streams

    def state_dict(self) -> dict[str, Any]:
        """Return what must be saved."""
        return {
            "learners": self.learners.state_dict(),
            "step": self.step,
            "network_steps": self.network_steps,
            "accumulator": self.accumulator,
            "rows": self.rows,
            "pixels": self.pixels.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.learners.load_state_dict(state["learners"])
        self.step, self.network_steps = state["step"], state["network_steps"]
        self.accumulator = state["accumulator"].to(self.accumulator.device)
        self.rows = state["rows"].to(self.rows.device)
        self.pixels.load_state_dict(state["pixels"])

    @property
    def fast(self) -> AbstractContextManager[object]:
        """The precision of passes that are differentiated once."""
        return self.gradients[0].forward.precision(self.rows.device)


@dataclass(frozen=True, kw_only=True)
class HMDC:
    """Match the gradients of K unlike networks at once, balanced, and those of their mutual distillation.

    L_k = Σ_c ‖∇_θk ℓ_k(S_c) - ∇_θk ℓ_k(B_c)‖², k = 1 ... K;  L_MD+ = Σ_c Σ_k ‖∇_θk L_MD(S_c) - ∇_θk
    L_MD(B_c)‖² S ← S - lr · unit(Σ_j w_cj ∂L_j/∂S), then the networks learn real images with Σ_k
    ℓ_k + L_MD, and P, M learn L_MD.

    K = 1 has no L_MD: single-network gradient matching. Paper: Moon et al., Towards model-agnostic
    dataset condensation by heterogeneous models, arXiv 2409.14538. Code: github KHU-AGI/HMDC.
    Differs: networks are trained whole and start anew whole, each resizes the stored image itself,
    mixed layers are weighted means, one box of CutMix per class and side, any K.
    docs/methods/hmdc.md has all.

    Args:
        pool: the networks; each is trained with its own lr.
        augment: Siamese in matching, per image in training; None for none.
        steps: image updates.
        lr: of the images, in units of ``space``: with ``unit_gradients`` what an image's largest
            pixel moves.
        momentum: of the images.
        schedule: of ``lr``: "constant", or "linear" down to 0 over ``steps``; unit gradients never
            shrink by themselves, so at a constant rate the images never settle.
        steps_per_network: image updates before new networks.
        inner_steps: training steps of the networks, and as many of P and M, between two image
            updates.
        batch_real, batch_synthetic: images per class and step; decoded ones at most.
        batch_train: real images per training step.
        cutmix_real, cutmix_synthetic, cutmix_train: chance of CutMix, in a class's batch or a
            training batch.
        real_selection: "kmeans" takes the real images nearest to ``batch_real`` centroids, in the embedding
            of one network after the other; "random" draws anew in every step.
        select_every: steps between two choices by k-means; new networks choose anew.
        gbm: weigh the losses by the gradient balance module; off: all by 1.
        gbm_every: steps between two samples of it.
        gbm_reduce: the accumulator is the "sum" (public code) or the "max" of the samples.
        unit_gradients: scale the image gradient to a peak of 1 per image and channel.
        distillation: "mean", "pairwise" (see :class:`~dcond.matching.alignment.Alignment`) or
            "none".
        mix_softmax: "source", or "target" as the public code.
        lr_alignment: of Adam on P and M.
        legacy_frozen_convnet: train nothing of a ConvNet but its head, and never reset that (the
            public code's fault).
        factor: multi-formation factor.
        engine: how gradients are computed, and the networks trained.
        space, pixel_box: see :class:`~dcond.training.image_optim.PixelSGD`.
    """

    shares_classes: ClassVar = True

    pool: Pool
    engine: Engine
    augment: DiffAug | None
    steps: int
    lr: float = 5e-3
    momentum: float = 0.5
    schedule: str = "constant"
    steps_per_network: int = 100
    inner_steps: int = 17
    batch_real: int = 128
    batch_synthetic: int = 128
    batch_train: int = 128
    cutmix_real: float = 0.5
    cutmix_synthetic: float = 0.5
    cutmix_train: float = 0.5
    real_selection: str = "kmeans"
    select_every: int = 10
    gbm: bool = True
    gbm_every: int = 10
    gbm_reduce: str = "sum"
    unit_gradients: bool = True
    distillation: str = "mean"
    mix_softmax: str = "source"
    lr_alignment: float = 0.01
    legacy_frozen_convnet: bool = False
    factor: int = 2
    space: str = "normalised"
    pixel_box: str = "project"

    def __post_init__(self) -> None:
        check_pixel_settings(self.lr, self.momentum, self.space, self.pixel_box)
        one_of("method.schedule", self.schedule, ("constant", "linear"))
        one_of("method.real_selection", self.real_selection, ("kmeans", "random"))
        one_of("method.gbm_reduce", self.gbm_reduce, balance.REDUCTIONS)
        one_of("method.distillation", self.distillation, (*FORMS, "none"))
        one_of("method.mix_softmax", self.mix_softmax, AXES)
        require(
            self.lr_alignment > 0,
            f"method.lr_alignment={self.lr_alignment} must be greater than 0.",
        )
        for name in ("cutmix_real", "cutmix_synthetic", "cutmix_train"):
            chance = getattr(self, name)
            require(0 <= chance <= 1, f"method.{name}={chance} is out of range; allowed: 0 to 1.")
        batches = ("batch_real", "batch_synthetic", "batch_train")
        for name in (
            "steps",
            "steps_per_network",
            "inner_steps",
            "select_every",
            "gbm_every",
            "factor",
            *batches,
        ):
            whole_number(f"method.{name}", getattr(self, name))

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> HMDCState:
        """Make the networks, what goes with them, and the pixel optimiser."""
        learners = Learners(
            self.pool,
            real,
            rng,
            form=self.distillation,
            axis=self.mix_softmax,
            lr_alignment=self.lr_alignment,
            frozen_convnet=self.legacy_frozen_convnet,
        )
        images = self.steps * real.spec.classes * self.batch_real
        gradients = [self.engine.bind(network, real.spec, images) for network in learners.networks]
        losses = len(learners.networks) + (learners.alignment is not None)
        accumulator = torch.full((real.spec.classes, losses), balance.START, device=real.device)
        rows = torch.zeros(real.spec.classes, self.batch_real, dtype=torch.long, device=real.device)
        return HMDCState(
            learners, gradients, 0, 0, accumulator, rows, PixelSGD.of(self, synthetic), rng
        )

    def step(self, real: RealData, synthetic: SyntheticSet, state: HMDCState) -> dict[str, Tensor]:
        """Do one image update, and train the networks before the next."""
        if state.network_steps == self.steps_per_network:
            state.learners.renew(real, state.rng)
            state.accumulator.fill_(balance.START)
            state.network_steps = 0
        elif state.network_steps > 0:
            run_on_rank0(lambda: self._train(real, state), state.learners.modules, state.rng)
        batch, images = self._views(real, synthetic, state)  # B_c, S_c
        losses, towards = match_networks(
            state.learners.networks,
            state.gradients,
            state.learners.alignment,
            batch,
            images,
            squared,
            state.fast,
        )
        pulled = [image_gradient(synthetic, images, part, retain_graph=True) for part in towards]
        unit = state.pixels.unit
        gradients = unit * torch.stack(pulled).unflatten(
            1, (-1, synthetic.ipc)
        )  # ∂L_j/∂S, (j, k, n, c, h, w)
        gradient = self._balanced(gradients, state)
        if self.unit_gradients:
            gradient = balance.unit_peaks(gradient)
        left = 1 - state.step / self.steps if self.schedule == "linear" else 1.0
        state.pixels.step(gradient.flatten(0, 1) / unit, self.lr * left)
        state.pixels.project()
        state.step, state.network_steps = state.step + 1, state.network_steps + 1
        names = [*(f"loss_{name}" for name in self.pool.networks), "loss/distillation"]
        named = dict(zip(names, losses, strict=False))  # without L_MD there is one loss less
        return {"loss": torch.stack(losses).sum(), **named}

    def _train(self, real: RealData, state: HMDCState) -> None:
        """Let the networks learn real images, and P and M their features."""
        state.learners.train(
            real,
            state.rng,
            steps=self.inner_steps,
            batch=self.batch_train,
            augment=self.augment,
            cutmix_p=self.cutmix_train,
            fast=state.fast,
        )

    def _views(
        self, real: RealData, synthetic: SyntheticSet, state: HMDCState
    ) -> tuple[RealBatch, Tensor]:
        """Return both sides' class batches (k, b or n, c, h, w), normalised and augmented."""
        rng = state.rng
        if self.real_selection == "random":
            state.rows = to_device(real.draw_per_class(self.batch_real, rng.real), real.device)
        elif state.network_steps % self.select_every == 0:
            run_on_rank0(lambda: self._choose(real, state), [state.rows], rng)
        images = subset_per_class(decoded_by_class(synthetic), self.batch_synthetic, rng.synthetic)
        batch = normalised_by_class(real, current().own(state.rows))
        batch, images = siamese_augment(
            self.augment, batch, real.spec.normalise(images), rng.augmentation
        )  # ω per class
        batch = mix_real_within_classes(batch, self.cutmix_real, rng.augmentation)
        return batch, mix_within_classes(images, self.cutmix_synthetic, rng.augmentation)

    def _choose(self, real: RealData, state: HMDCState) -> None:
        """Choose for every class the images nearest to the centroids, as one network sees them; they take turns."""
        networks = state.learners.networks
        turn = state.network_steps // self.select_every % len(networks)
        chosen = []
        for found in class_features(networks[turn], real, EMBEDDED, state.fast):
            nearest = representatives(found.features, found.places, self.batch_real, state.rng.real)
            chosen.append(found.rows[nearest.cpu()])
        state.rows.copy_(torch.cat(chosen))

    def _balanced(self, gradients: Tensor, state: HMDCState) -> Tensor:
        """Return Σ_j w_cj ∂L_j/∂S of gradients (j, k, n, c, h, w)."""
        if not self.gbm:
            return gradients.sum(0)
        if state.network_steps % self.gbm_every == 0:
            state.accumulator = balance.accumulate(
                state.accumulator, balance.peaks(gradients), self.gbm_reduce
            )
        return torch.einsum("kj,jknchw->knchw", balance.weights(state.accumulator), gradients)

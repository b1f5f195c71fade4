"""HMDC: condensation with any number of different networks."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dcond.device import to_device
from dcond.distributed import current, run_on_rank0
from dcond.matching import balance
from dcond.matching.alignment import Axis
from dcond.matching.batches import (
    image_gradient,
    mix_real_within_classes,
    mix_within_classes,
    normalised_by_class,
    siamese_views,
)
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.distances import squared
from dcond.matching.distillation import Distillation
from dcond.matching.gradients import frozen_batch_norm
from dcond.matching.kmeans import select_rows
from dcond.matching.lazy_batch import RealBatch
from dcond.methods.base import MatchingSettings, SavedState
from dcond.models import Pool
from dcond.rng import Streams
from dcond.settings import Fraction, PositiveFloat, PositiveInt, settings
from dcond.training.image_optim import PixelSGD, Space
from dcond.training.joint import Learners
from dcond.types import RealData, SyntheticSet


@dataclass
class HMDCState(SavedState):
    """The networks and their alignment, the balance of the losses, and the image optimiser."""

    not_saved: ClassVar = ("gradients", "distillation", "rng")

    learners: Learners
    gradients: list[ClassGradients]  # of each network
    distillation: Distillation
    step: int
    network_steps: int  # image steps under these networks
    accumulator: Tensor  # A (k, j) of the gradient balance module, one column per loss
    rows: Tensor  # (k, b), the selected real images
    pixels: PixelSGD
    rng: Streams


@settings
class HMDC(MatchingSettings):
    """Match the gradients of K different networks and of their mutual distillation, balanced.

    L_k = Σ_c ‖∇_θk ℓ_k(S_c) - ∇_θk ℓ_k(B_c)‖², k = 1 ... K

    L_MD+ = Σ_c Σ_k ‖∇_θk L_MD(S_c) - ∇_θk L_MD(B_c)‖²

    S ← S - lr · unit(Σ_j w_cj ∂L_j/∂S), where j runs over all losses

    Then the networks are trained on real images with Σ_k ℓ_k + L_MD, and P, M with L_MD. K = 1 has
    no L_MD: this is single-network gradient matching.

    Paper: Moon et al., Towards model-agnostic dataset condensation by heterogeneous models, arXiv
    2409.14538. Code: github KHU-AGI/HMDC. Differs: whole networks are trained and reset, each
    resizes the stored image itself, mixed layers are weighted means, CutMix is drawn for real and
    synthetic images separately, any K. docs/methods/hmdc.md lists all differences.

    Args:
        pool: the networks; each is trained with its own learning rate.
        lr: learning rate of the images, in units of ``space``. With ``unit_gradients`` it is the
            change of an image's largest pixel per step, before momentum.
        schedule: of ``lr``: "constant", or "linear" down to 0 over ``steps``. Unit gradients do not
            shrink, so the images never settle at a constant rate.
        steps_per_network: image updates before new networks.
        inner_steps: training steps of the networks, and as many of P and M, between two image
            updates.
        batch_real: real images per class and step.
        batch_synthetic: maximum of decoded images per class and step.
        batch_train: real images per training step.
        cutmix_real: probability of CutMix in a class's real batch.
        cutmix_synthetic: probability of CutMix in a class's synthetic batch.
        cutmix_train: probability of CutMix in a training batch.
        real_selection: "kmeans" takes the real images nearest to ``batch_real`` centroids, in the
            embedding of one network after the other; "random" draws new ones in every step.
        select_every: steps between two selections by k-means; new networks select again.
        gbm: weight the losses by the gradient balance module; if false, all weights are 1.
        gbm_every: steps between two samples of the gradient balance module.
        gbm_reduce: its accumulator is the "sum" (public code) or the "max" of the samples.
        unit_gradients: scale the image gradient to a peak of 1 per image and channel.
        distillation: "mean", "pairwise" (see :class:`~dcond.matching.alignment.Alignment`) or
            "none".
        mix_softmax: "source", or "target" as in the public code.
        lr_alignment: learning rate of Adam on P and M.
        legacy_frozen_convnet: train only the head of a ConvNet and never reset it (the public
            code's fault).
        factor: multi-formation factor.
        space: units of ``lr``, see :class:`~dcond.training.image_optim.PixelSGD`.

    The other settings are those of :class:`~dcond.methods.base.MatchingSettings`; the augmentation
    also changes the images that train the networks, one draw per image.
    """

    pool: Pool
    lr: PositiveFloat = 5e-3
    schedule: Literal["constant", "linear"] = "constant"
    steps_per_network: PositiveInt = 100
    inner_steps: PositiveInt = 17
    batch_real: PositiveInt = 128
    batch_synthetic: PositiveInt = 128
    batch_train: PositiveInt = 128
    cutmix_real: Fraction = 0.5
    cutmix_synthetic: Fraction = 0.5
    cutmix_train: Fraction = 0.5
    real_selection: Literal["kmeans", "random"] = "kmeans"
    select_every: PositiveInt = 10
    gbm: bool = True
    gbm_every: PositiveInt = 10
    gbm_reduce: balance.Reduction = "sum"
    unit_gradients: bool = True
    distillation: Literal["mean", "pairwise", "none"] = "mean"
    mix_softmax: Axis = "source"
    lr_alignment: PositiveFloat = 0.01
    legacy_frozen_convnet: bool = False
    factor: PositiveInt = 2
    space: Space = "normalised"

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> HMDCState:
        """Make the networks, their alignment and optimisers, and the optimiser of the images."""
        learners = Learners(
            self.pool,
            real,
            rng,
            form=self.distillation,
            axis=self.mix_softmax,
            lr_alignment=self.lr_alignment,
            frozen_convnet=self.legacy_frozen_convnet,
        )
        classes, device = real.spec.classes, real.device
        passes = self.steps * classes * self.batch_real
        gradients = [self.engine.bind(network, real.spec, passes) for network in learners.networks]
        distillation = self.engine.distillation(learners.networks, real.spec)
        losses = len(learners.networks) + (learners.alignment is not None)
        accumulator = torch.full((classes, losses), balance.START, device=device)
        rows = torch.zeros(classes, self.batch_real, dtype=torch.long, device=device)
        pixels = PixelSGD.of(self, synthetic)
        return HMDCState(learners, gradients, distillation, 0, 0, accumulator, rows, pixels, rng)

    def step(self, real: RealData, synthetic: SyntheticSet, state: HMDCState) -> dict[str, Tensor]:
        """Train the networks (except new ones), then update the images of all classes once."""
        if state.network_steps == self.steps_per_network:
            state.learners.renew(real, state.rng)  # new random θ_k, P and M
            state.accumulator.fill_(balance.START)
            state.network_steps = 0
        elif state.network_steps > 0:
            run_on_rank0(lambda: self._train(real, state), state.learners.modules, state.rng)
        batch, images = self._views(real, synthetic, state)  # B_c, S_c
        losses, parts = self._match(state, batch, images)
        gradients = state.pixels.in_units(  # in which they are balanced
            torch.stack(
                [image_gradient(synthetic, images, part, retain_graph=True) for part in parts]
            )
        )
        # Σ_j w_cj ∂L_j
        gradient = self._balance(gradients.unflatten(1, (-1, synthetic.ipc)), state)
        if self.unit_gradients:
            gradient = balance.unit_peaks(gradient)
        remaining = 1 - state.step / self.steps if self.schedule == "linear" else 1.0
        state.pixels.step(state.pixels.in_pixels(gradient.flatten(0, 1)), self.lr * remaining)
        state.pixels.project()
        state.step, state.network_steps = state.step + 1, state.network_steps + 1
        names = [*(f"loss_{name}" for name in self.pool.networks), "loss/distillation"]
        named = dict(zip(names, losses, strict=False))  # one loss fewer without L_MD
        return {"loss": torch.stack(losses).sum(), **named}

    def _match(
        self, state: HMDCState, real: RealBatch, synthetic: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return every loss L_j, summed over classes, and ∂L_j/∂S, one network's graph at a time.

        L_k = Σ_c ‖∇_θk ℓ_k(S_c) - sg[∇_θk ℓ_k(B_c)]‖² for k = 1 ... K, then L_MD if there is an
        alignment. Both are detached.
        """
        losses, towards, alignment = [], [], state.learners.alignment
        with ExitStack() as frozen:
            for network in state.learners.networks:
                frozen.enter_context(frozen_batch_norm(network, real))
            for own in state.gradients:
                found = own.match(real, synthetic, squared)
                losses.append(found.metrics()["loss"])
                towards.append(found.gradient)
            if alignment is not None:
                within, gradient = state.distillation.match(alignment, real, synthetic, squared)
                losses.append(within.sum())
                towards.append(gradient)
        return losses, towards

    def _train(self, real: RealData, state: HMDCState) -> None:
        """Train the networks on real images, then P and M on the networks' features."""
        state.learners.train(
            real,
            state.rng,
            steps=self.inner_steps,
            batch=self.batch_train,
            augment=self.augment,
            cutmix_p=self.cutmix_train,
            fast=state.distillation.fast,
        )

    def _views(
        self, real: RealData, synthetic: SyntheticSet, state: HMDCState
    ) -> tuple[RealBatch, Tensor]:
        """Return real and synthetic batches (k, b or n, c, h, w), normalised and augmented."""
        rng = state.rng
        if self.real_selection == "random":
            state.rows = to_device(real.draw_per_class(self.batch_real, rng.real), real.device)
        elif state.network_steps % self.select_every == 0:
            run_on_rank0(lambda: self._select(real, state), [state.rows], rng)
        batch = normalised_by_class(real, current().own(state.rows))
        batch, images = siamese_views(self.augment, batch, synthetic, rng, self.batch_synthetic)
        batch = mix_real_within_classes(batch, self.cutmix_real, rng.augmentation)
        return batch, mix_within_classes(images, self.cutmix_synthetic, rng.augmentation)

    def _select(self, real: RealData, state: HMDCState) -> None:
        """Select every class's images nearest to the centroids in one network's embedding.

        The networks take turns.
        """
        networks = state.learners.networks
        turn = state.network_steps // self.select_every % len(networks)
        rows = select_rows(
            networks[turn], real, self.batch_real, state.rng.real, state.distillation.fast
        )
        state.rows.copy_(rows)

    def _balance(self, gradients: Tensor, state: HMDCState) -> Tensor:
        """Return Σ_j w_cj ∂L_j/∂S of gradients (j, k, n, c, h, w)."""
        if not self.gbm:
            return gradients.sum(0)
        if state.network_steps % self.gbm_every == 0:
            peaks = balance.peaks(gradients)
            state.accumulator = balance.accumulate(state.accumulator, peaks, self.gbm_reduce)
        return torch.einsum("kj,jknchw->knchw", balance.weights(state.accumulator), gradients)

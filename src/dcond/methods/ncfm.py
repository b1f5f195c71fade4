"""NCFM: matching of characteristic functions under networks between untrained and trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dcond.device import to_device
from dcond.distributed import current, run_on_rank0
from dcond.errors import require
from dcond.init.rules import Random
from dcond.matching.batches import (
    embed_real,
    image_gradient,
    normalised_by_class,
    refuse_shared_batch_norm,
    siamese_views,
)
from dcond.matching.characteristic import (
    SHARED,
    FrequencySampler,
    characteristic_distance,
    characteristic_functions,
    distance_to_functions,
)
from dcond.matching.feature_matching import ClassFeatureMatching
from dcond.matching.lazy_batch import RealBatch
from dcond.matching.target_bank import TargetBank
from dcond.methods.base import MatchingSettings, SavedState
from dcond.models import Network
from dcond.rng import Streams, seeded_globals
from dcond.settings import NonNegativeFloat, PositiveFloat, PositiveInt, settings
from dcond.training.experts import Experts, Trajectory
from dcond.training.image_optim import PixelAdam, PixelSGD, Space
from dcond.types import RealData, SyntheticSet


@dataclass
class Sampler(SavedState):
    """ψ and its optimiser."""

    network: FrequencySampler
    optimiser: torch.optim.SGD


@dataclass
class NCFMState(SavedState):
    """The experts, the network of the step, ψ, and the optimiser of the images and its schedule."""

    not_saved: ClassVar = ("experts", "network", "width", "features", "rng")

    experts: list[Trajectory]
    network: Network  # its weights are new in every step
    width: int  # d, of its features
    features: ClassFeatureMatching
    bank: TargetBank
    sampler: Sampler | None
    pixels: PixelSGD
    plateau: ReduceLROnPlateau
    rng: Streams


@settings
class NCFM(MatchingSettings):
    """Match characteristic functions of features, and classify the images, under trained networks.

    L = Σ_c D(φ_θ(A_ω(S_c)), φ_θ(A_ω(B_c))) + w · ℓ_θ1(A_ω(S_c)),   θ = λ θ_0 + (1 - λ) θ_1

    D is the distance of characteristic functions at random frequencies
    (:func:`~dcond.matching.characteristic.characteristic_distance`). Every step draws one of the
    experts, with weights θ_0 before and θ_1 after its training on the real images, and λ from
    U(0, 1). With ``sampler=True`` the frequencies come from a network ψ that is trained to
    increase D.

    Paper: Wang et al., Dataset distillation with neural characteristic function: a minmax
    perspective, CVPR 2025. Code: github gszfwsb/NCFM, condenser/Condenser.py. Differs: the public
    loop takes one step of AdamW per class for D and then one per class for ℓ, which also moves the
    images of all other classes; here one step of Adam moves all classes by both, without weight
    decay. All classes share the frequencies of a step, and D and ℓ the augmentation. Real batches
    are random. ψ scales normal frequencies, as in the paper, and has a constant rate.

    Args:
        experts: how the networks are trained; they are cached.
        lr: learning rate of the images, in pixel units: with "adam" about the change of a pixel
            per step.
        optimiser: of the images, "adam" or "sgd".
        patience: ``lr`` is halved after more than this many steps without a lower loss.
        frequencies: F, frequencies per step.
        amplitude: α, weight of the difference of amplitudes; that of phases has 1 - α.
        calibration: w.
        sampler: whether ψ draws the frequencies; if not, they are normal.
        lr_sampler: learning rate of ψ (SGD with momentum 0.5).
        batch_real: real images per class and step.
        real_batch: "random" draws new ones in every step, "first" always takes the first of each
            class, as the public code does.
        targets: real targets that are used in turn, see
            :class:`~dcond.matching.target_bank.TargetBank`; None for new ones in every step, as
            published. Only without ``sampler``.
        factor: multi-formation factor.

    The other settings are those of :class:`~dcond.methods.base.MatchingSettings`; the momentum is
    that of "sgd".
    """

    space: ClassVar[Space] = "pixel"  # the units of ``lr``

    experts: Experts
    lr: PositiveFloat
    optimiser: Literal["adam", "sgd"] = "adam"
    patience: PositiveInt = 500
    frequencies: PositiveInt = 1024
    amplitude: Annotated[float, Ge(0), Lt(1)] = 0.5
    calibration: NonNegativeFloat = 1.0
    sampler: bool = False
    lr_sampler: PositiveFloat = 1e-3
    batch_real: PositiveInt = 1024
    real_batch: Literal["random", "first"] = "random"
    targets: PositiveInt | None = None
    factor: PositiveInt = 2

    def __post_init__(self) -> None:
        require(
            self.targets is None or not self.sampler,
            f"method.targets={self.targets} needs method.sampler=false: frequencies that are "
            "learned differ at every visit; use method.targets=null.",
        )

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> NCFMState:
        """Train the experts that the cache lacks; make ψ and the optimiser of the images."""
        network = self.experts.network.build(real.spec, rng.networks, real.device)
        refuse_shared_batch_norm(network)  # before hours of training
        experts = self.experts.load_or_train(real)
        network.requires_grad_(False)
        bank = TargetBank(self.targets, rng)
        passes = bank.computed(self.steps) * len(real.class_names) * self.batch_real
        ours = self.steps * len(synthetic.images) * self.factor**2
        features = self.engine.features(network, real.spec, passes, ours, bank)
        pixels = self._pixels(synthetic)
        plateau = pixels.halved_on_plateau(self.patience)
        width = embed_real(network, real, 1, torch.zeros(1, dtype=torch.long)).shape[1]
        sampler = self._sampler(width, real, rng) if self.sampler else None
        return NCFMState(experts, network, width, features, bank, sampler, pixels, plateau, rng)

    def step(self, real: RealData, synthetic: SyntheticSet, state: NCFMState) -> dict[str, Tensor]:
        """Update the images of all classes once, and ψ if there is one."""
        rng = state.bank.next_step()
        initial, trained, share = self._draw_network(state.experts, rng)  # θ_0, θ_1, λ
        state.network.load_state_dict(interpolate(initial, trained, share))
        frequencies = self._draw_frequencies(state, rng, real.device)
        if self.real_batch == "random":
            rows = real.draw_per_class(self.batch_real, rng.real)
        else:
            rows = torch.stack(Random(order="first")(real, self.batch_real, rng))
        batch = normalised_by_class(real, current().own(rows))  # B_c
        views, images = siamese_views(self.augment, batch, synthetic, rng)  # A_ω(B_c), A_ω(S_c)
        losses, gradient, slope = self._match(state.features, views, images, frequencies.detach())
        state.network.load_state_dict(trained)
        entropies, entropy_gradient = state.features.cross_entropy(images)  # ℓ_θ1(A_ω(S_c))
        gradient = gradient + self.calibration * entropy_gradient
        loss, entropy = losses.sum(), entropies.sum()
        total = loss + self.calibration * entropy
        state.pixels.step(
            image_gradient(synthetic, images, gradient), float(state.plateau.get_last_lr()[0])
        )
        state.pixels.project()
        self._train_sampler(frequencies, slope, state)
        over_ranks = total.clone()
        current().sum_([over_ranks])
        state.plateau.step(float(over_ranks))
        return {"loss": total, "loss_features": loss, "loss_cross_entropy": entropy}

    def _match(
        self, features: ClassFeatureMatching, real: RealBatch, synthetic: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return D of every class, ∂(Σ_c D)/∂S, and for ψ ∂(Σ_c D)/∂t, (F, d), else zeros."""
        slope = torch.zeros_like(t)
        if not self.sampler:
            functions = partial(characteristic_functions, frequencies=t)
            distance = partial(distance_to_functions, frequencies=t, amplitude=self.amplitude)
            return *features.match(real, synthetic, distance, summary=functions), slope

        def with_slope(syn: Tensor, theirs: Tensor) -> Tensor:
            own = t.clone().requires_grad_()
            found = characteristic_distance(syn, theirs, own, self.amplitude)
            slope.add_(torch.autograd.grad(found.sum(), own, retain_graph=True)[0])
            return found

        return *features.match(real, synthetic, with_slope), slope

    def _draw_network(
        self, experts: list[Trajectory], rng: Streams
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
        """Return the weights of a random expert before and after its training, and λ."""
        expert = experts[int(torch.randint(len(experts), (1,), generator=rng.networks))]
        share = float(torch.rand(1, generator=rng.networks))
        return expert.state(0), expert.state(expert.epochs), share

    def _draw_frequencies(self, state: NCFMState, rng: Streams, device: torch.device) -> Tensor:
        """Return the frequencies (F, d) of a step, with a graph if they come from ψ."""
        noise = torch.randn(self.frequencies, state.width, generator=rng.networks)
        if state.sampler is None:
            return to_device(noise, device)
        scales = math.ceil(self.frequencies / SHARED)
        latent = torch.randn(scales, state.width, generator=rng.networks)
        made: Tensor = state.sampler.network(to_device(noise, device), to_device(latent, device))
        return made

    def _train_sampler(self, frequencies: Tensor, slope: Tensor, state: NCFMState) -> None:
        """Do one step of ψ that increases Σ_c D, whose gradient is ``slope``, (F, d)."""
        sampler = state.sampler
        if sampler is None:
            return

        def ascend() -> None:
            sampler.optimiser.zero_grad()
            frequencies.backward(-slope)
            sampler.optimiser.step()

        current().sum_([slope])
        run_on_rank0(ascend, [sampler.network], state.rng)

    def _sampler(self, width: int, real: RealData, rng: Streams) -> Sampler:
        with seeded_globals(rng.networks):
            network = FrequencySampler(width).to(real.device)
        optimiser = torch.optim.SGD(network.parameters(), lr=self.lr_sampler, momentum=0.5)
        return Sampler(network, optimiser)

    def _pixels(self, synthetic: SyntheticSet) -> PixelSGD:
        if self.optimiser == "adam":
            return PixelAdam(synthetic, lr=self.lr, pixel_box=self.pixel_box)
        return PixelSGD.of(self, synthetic)


def interpolate(
    initial: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return share · initial + (1 - share) · trained of two states, counters of trained."""
    return {
        name: x.lerp(initial[name], share) if x.is_floating_point() else x
        for name, x in trained.items()
    }

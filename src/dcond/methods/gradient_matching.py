"""Gradient matching: DC, DSA and DEGM are settings of one algorithm."""

import logging
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dcond.device import to_device
from dcond.distributed import run_on_rank0
from dcond.errors import require
from dcond.matching.batches import image_gradient, real_by_class, siamese_views
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.dc_loops import MAX_EPOCHS, TABLE, Loops, adapted_epochs, published_loops
from dcond.matching.distances import DistanceName, check_network, get_distance
from dcond.matching.gradients import frozen_batch_norm
from dcond.matching.target_bank import TargetBank
from dcond.methods.base import MatchingSettings, SavedState, TrainsNetworks
from dcond.models import Network, Recipe
from dcond.rng import Streams
from dcond.settings import Momentum, PositiveFloat, PositiveInt, settings
from dcond.training.image_optim import PixelSGD, Space
from dcond.training.steps import training_step
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)


@dataclass
class MatchingState(SavedState):
    """The network being trained, its gradients and optimiser, and the optimiser of the images."""

    not_saved: ClassVar = ("gradients", "rng")

    network: Network
    gradients: ClassGradients
    bank: TargetBank
    optimiser: torch.optim.SGD
    iteration: int  # networks before this one
    network_steps: int  # image steps under this network
    pixels: PixelSGD
    rng: Streams


@settings
class GradientMatching(TrainsNetworks, MatchingSettings):
    """Match loss gradients of synthetic and real images along a training path on the former.

    L = Σ_c D(∇_θ ℓ(A_ω(S_c)), ∇_θ ℓ(A_ω(B_c)))

    Each step updates the images once on L, then trains θ for T epochs on A(S). After K steps a new
    random θ is taken. DC has no augmentation A; DSA shares ω between the real and synthetic images
    of a class. DEGM has three switches: ``levels="both"`` adds k · D of the class-averaged
    gradients, ``distance`` measures angle and magnitude, ``inner`` stops the training of θ before
    it overfits S.

    Paper: Zhao et al., Dataset condensation with gradient matching, arXiv 2006.05929, algorithm 1;
    Zhao and Bilen, Dataset condensation with differentiable Siamese augmentation, arXiv 2102.08259;
    Jiang et al., Delving into effective gradient matching, arXiv 2208.00311. Code: github
    VICO-UoE/DatasetCondensation, main.py; github ZixuanJiang/improved-dataset-condensation.
    Differs: any ipc (see :mod:`dcond.matching.dc_loops`); named random streams; images are
    projected to [0, 1] by default; the reported loss is the sum over classes.

    Args:
        network: recipe of θ. Batch norm uses statistics frozen from real images.
        steps_per_network: K, image updates per network; None for the published value.
        inner_epochs: T, epochs between two updates; None for the published value.
        lr: learning rate of the images, in units of ``space``.
        lr_network: learning rate of θ.
        momentum_network: momentum of θ; the first public release used 0.5.
        batch_real: real images per class and step.
        batch_train: synthetic images per training step of θ.
        distance: D, see :mod:`dcond.matching.distances`.
        levels: "intra" matches class by class, "inter" the class-averaged gradients (of the same
            batches; the authors' ablation draws one mixed batch), "both" their sum, "interleaved"
            one or the other, alternating by network.
        inner: how long θ is trained between two updates: "fixed" for T epochs, "table" or
            "table_old" for the numbers in DEGM's scripts, by the updates so far, "measured" until
            the loss on one batch of real training images rises, 1 to 50 epochs.
        targets: real targets that are used in turn, see
            :class:`~dcond.matching.target_bank.TargetBank`; None for new ones in every step, as
            published. Only for K = 1, where θ is never trained.
        factor: multi-formation factor.
        space: units of ``lr``, see :class:`~dcond.training.image_optim.PixelSGD`.

    The other settings are those of :class:`~dcond.methods.base.MatchingSettings`; the published
    runs make 1,000 · K steps.
    """

    network: Recipe
    steps_per_network: PositiveInt | None = None
    inner_epochs: PositiveInt | None = None
    lr: PositiveFloat = 0.1
    lr_network: PositiveFloat = 0.01
    momentum_network: Momentum = 0.0
    batch_real: PositiveInt = 256
    batch_train: PositiveInt = 256
    distance: DistanceName = "rowwise"
    levels: Literal["intra", "inter", "both", "interleaved"] = "intra"
    inner: Literal["fixed", "table", "table_old", "measured"] = "fixed"
    targets: PositiveInt | None = None
    factor: PositiveInt = 1
    space: Space = "normalised"

    def loops(self, ipc: int) -> Loops:
        """Return K and T for this number of images per class."""
        steps, epochs = published_loops(ipc)
        return Loops(self.steps_per_network or steps, self.inner_epochs or epochs)

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> MatchingState:
        """Make the network, its optimiser and the optimiser of the images."""
        ipc = synthetic.ipc
        steps, epochs = self.loops(ipc)
        if self.inner_epochs is not None and self.inner != "fixed":
            log.warning(
                "method.inner_epochs=%d is not used with method.inner=%s; add method.inner=fixed",
                self.inner_epochs,
                self.inner,
            )
        given = self.steps_per_network and (self.inner_epochs or self.inner != "fixed")
        if ipc not in TABLE and not given:
            trained = f", T = {epochs} epochs" if self.inner == "fixed" else ""
            log.info("no published loops for ipc %d: K = %d image steps%s", ipc, steps, trained)
        require(
            self.targets is None or steps == 1,
            f"method.targets={self.targets} needs method.steps_per_network=1, not {steps}: the "
            "gradients of a network that is trained on the synthetic images cannot be used again; "
            "use method.targets=null.",
        )
        bank = TargetBank(self.targets, rng)
        network = self.network.build(real.spec, bank.streams(0).networks, real.device)
        check_network(self.distance, network)
        passes = bank.computed(self.steps) * len(real.class_names) * self.batch_real
        gradients = self.engine.bind(network, real.spec, passes, bank)
        pixels = PixelSGD.of(self, synthetic)
        return MatchingState(network, gradients, bank, self._optimiser(network), 0, 0, pixels, rng)

    def step(
        self, real: RealData, synthetic: SyntheticSet, state: MatchingState
    ) -> dict[str, Tensor]:
        """Train the network (except a new one), then update the images of all classes once."""
        rng = state.bank.next_step()
        if state.network_steps == self.loops(synthetic.ipc).steps_per_network:
            self.network.reset(state.network, real.spec, rng.networks)  # a new random θ
            state.optimiser = self._optimiser(state.network)
            state.network_steps = 0
            state.iteration += 1
        elif state.network_steps > 0:
            run_on_rank0(lambda: self._train(real, synthetic, state), [state.network], rng)
        within, across = self._levels(state.iteration)
        batch = real_by_class(real, self.batch_real, rng.real)  # B_c
        with frozen_batch_norm(state.network, batch):
            views, images = siamese_views(self.augment, batch, synthetic, rng)  # A_ω(B_c), A_ω(S_c)
            matched = state.gradients.match(
                views, images, get_distance(self.distance), within=within, across=across
            )
        state.pixels.step(image_gradient(synthetic, images, matched.gradient))
        state.pixels.project()
        state.network_steps += 1
        return matched.metrics()

    def _levels(self, iteration: int) -> tuple[bool, bool]:
        """Return whether to match within and across the classes under network ``iteration``."""
        levels = self.levels
        if levels == "interleaved":
            levels = "inter" if iteration % 2 else "intra"
        return levels != "inter", levels != "intra"

    def _train(self, real: RealData, synthetic: SyntheticSet, state: MatchingState) -> None:
        """Train θ on the synthetic set for as long as ``inner`` says."""
        with torch.no_grad():
            images, labels = synthetic.decoded()
            images = synthetic.spec.normalise(images)
        if self.inner == "measured":
            rows = torch.randint(len(real.train), (self.batch_real,), generator=state.rng.real)
            loss = self._loss(real, rows, state.network)
            for _ in range(MAX_EPOCHS):
                self._epoch(images, labels, state)
                previous, loss = loss, self._loss(real, rows, state.network)
                if loss > previous:
                    break
        else:
            if self.inner == "fixed":
                epochs = self.loops(synthetic.ipc).inner_epochs
            else:  # by image steps on this network, from 0
                old = self.inner == "table_old"
                epochs = adapted_epochs(state.network_steps - 1, old=old)
            for _ in range(epochs):
                self._epoch(images, labels, state)

    def _epoch(self, images: Tensor, labels: Tensor, state: MatchingState) -> None:
        """Train θ for one epoch on images (n, c, h, w), normalised."""
        rng = state.rng
        order = to_device(torch.randperm(len(images), generator=rng.synthetic), images.device)
        for rows in order.split(self.batch_train):
            training_step(
                state.gradients.forward,
                state.optimiser,
                images[rows],
                labels[rows],
                augment=self.augment,
                rng=rng.augmentation,
            )

    @staticmethod
    @torch.no_grad()
    def _loss(real: RealData, rows: Tensor, network: Network) -> float:
        """Return the loss on the real training images ``rows``."""
        images, labels = real.batch(rows)
        return float(F.cross_entropy(network(images), labels))

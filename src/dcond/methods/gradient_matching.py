"""Gradient matching: DC, DSA and DEGM are settings of one algorithm."""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dcond.augment import DiffAug
from dcond.device import to_device
from dcond.distributed import run_on_rank0
from dcond.errors import one_of, require, whole_number
from dcond.matching.batches import decoded_by_class, image_gradient, real_by_class, siamese_augment
from dcond.matching.class_gradients import ClassGradients, Matched
from dcond.matching.dc_loops import MOST_EPOCHS, TABLE, Loops, adapted_epochs, published_loops
from dcond.matching.distances import check_network, get_distance
from dcond.matching.engine import Engine
from dcond.matching.gradients import frozen_batch_norm
from dcond.matching.lazy_batch import RealBatch
from dcond.models import Network, Recipe
from dcond.rng import Streams
from dcond.training.image_optim import PixelSGD, check_pixel_settings
from dcond.training.steps import training_step
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)


@dataclass
class MatchingState:
    """The network on its way, its gradients and optimiser, and the pixel optimiser.

    iteration: networks before this one. network_steps: image updates under this one.
    """

    network: Network
    gradients: ClassGradients
    optimiser: torch.optim.SGD
    iteration: int
    network_steps: int
    pixels: PixelSGD
    rng: Streams

    def state_dict(self) -> dict[str, Any]:
        """Return what must be saved."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "iteration": self.iteration,
            "network_steps": self.network_steps,
            "pixels": self.pixels.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.iteration = state["iteration"]
        self.network_steps = state["network_steps"]
        self.pixels.load_state_dict(state["pixels"])


@dataclass(frozen=True, kw_only=True)
class GradientMatching:
    """Make the loss gradient of the synthetic images equal that of real ones, along a training path on the former.

    L = Σ_c D(∇_θ ℓ(A_ω(S_c)), ∇_θ ℓ(A_ω(B_c))), one image step on it, then T epochs of training θ
    on A(S); after K image steps a new random θ. DC has no augmentation A; DSA shares ω between the
    real and synthetic images of a class. DEGM has three switches: ``levels="both"`` adds k · D of
    the class-averaged gradients, ``distance`` measures angle and magnitude, ``inner`` stops the
    training of θ before it overfits S.

    Paper: Zhao et al., Dataset condensation with gradient matching, arXiv 2006.05929, algorithm 1;
    Zhao and Bilen, Dataset condensation with differentiable Siamese augmentation, arXiv 2102.08259;
    Jiang et al., Delving into effective gradient matching, arXiv 2208.00311. Code: github
    VICO-UoE/DatasetCondensation, main.py; github ZixuanJiang/improved-dataset-condensation.
    Differs: any ipc (see :mod:`dcond.matching.dc_loops`), named random streams, images kept in [0,
    1] by default; the loss reported is the sum over classes.

    Args:
        network: recipe of θ. Batch norm is matched with statistics frozen from real images.
        augment: Siamese augmentation (DSA); empty for DC.
        steps: image updates; the published runs make 1,000 · K.
        steps_per_network: K, image updates per network; None takes the published value.
        inner_epochs: T, epochs between two updates; None takes the published value.
        lr: of the images, in units of ``space``.
        momentum: of the images.
        lr_network: of θ.
        momentum_network: of θ; the first public release used 0.5.
        batch_real: real images per class and step.
        batch_train: synthetic images per training step of θ.
        distance: see :mod:`dcond.matching.distances`.
        levels: "intra" matches class by class, "inter" the class-averaged gradients (of the same
            batches, where the authors' ablation draws one mixed batch), "both" the sum,
            "interleaved" takes turns by network.
        inner: how long θ is trained between two updates: "fixed" (T epochs), "table" or "table_old"
            (what DEGM's scripts ship, by the number of updates before), "measured" (until the loss
            on one batch of real training images rises, at least 1 and at most 50 epochs).
        factor: multi-formation factor.
        engine: how class gradients are computed, and θ is trained.
        space, pixel_box: see :class:`~dcond.training.image_optim.PixelSGD`.
    """

    shares_classes: ClassVar = True

    network: Recipe
    engine: Engine
    augment: DiffAug | None
    steps: int
    steps_per_network: int | None = None
    inner_epochs: int | None = None
    lr: float = 0.1
    momentum: float = 0.5
    lr_network: float = 0.01
    momentum_network: float = 0.0
    batch_real: int = 256
    batch_train: int = 256
    distance: str = "rowwise"
    levels: str = "intra"
    inner: str = "fixed"
    factor: int = 1
    space: str = "normalised"
    pixel_box: str = "project"

    def __post_init__(self) -> None:
        check_pixel_settings(self.lr, self.momentum, self.space, self.pixel_box)
        get_distance(self.distance)
        one_of("method.levels", self.levels, ("intra", "inter", "both", "interleaved"))
        one_of("method.inner", self.inner, ("fixed", "table", "table_old", "measured"))
        require(self.lr_network > 0, f"method.lr_network={self.lr_network} must be greater than 0.")
        require(
            0 <= self.momentum_network < 1,
            f"method.momentum_network={self.momentum_network}; allowed: 0 <= m < 1.",
        )
        for name in ("steps", "batch_real", "batch_train", "factor"):
            whole_number(f"method.{name}", getattr(self, name))
        for name in ("steps_per_network", "inner_epochs"):
            if getattr(self, name) is not None:
                whole_number(f"method.{name}", getattr(self, name))

    def loops(self, ipc: int) -> Loops:
        """Return K and T for this many images per class."""
        published = published_loops(ipc)
        return Loops(
            self.steps_per_network or published.steps_per_network,
            self.inner_epochs or published.inner_epochs,
        )

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> MatchingState:
        """Make a network, its optimiser and the pixel optimiser."""
        ipc = synthetic.ipc
        if ipc not in TABLE and not (self.steps_per_network and self.inner_epochs):
            log.info(
                "no published loops for ipc %d: K = %d image steps, T = %d epochs",
                ipc,
                *self.loops(ipc),
            )
        network = self.network.build(real.spec, rng.networks, real.device)
        check_network(self.distance, network)
        gradients = self.engine.bind(
            network, real.spec, self.steps * len(real.class_names) * self.batch_real
        )
        pixels = PixelSGD.of(self, synthetic)
        return MatchingState(network, gradients, self._optimiser(network), 0, 0, pixels, rng)

    def step(
        self, real: RealData, synthetic: SyntheticSet, state: MatchingState
    ) -> dict[str, Tensor]:
        """Do one image update, and train the network before the next."""
        rng = state.rng
        if state.network_steps == self.loops(synthetic.ipc).steps_per_network:
            self.network.reset(state.network, real.spec, rng.networks)  # a new random θ
            state.optimiser = self._optimiser(state.network)
            state.network_steps = 0
            state.iteration += 1
        elif state.network_steps > 0:
            run_on_rank0(lambda: self._train(real, synthetic, state), [state.network], rng)
        batch = real_by_class(real, self.batch_real, rng.real)  # B_c
        decoded = real.spec.normalise(decoded_by_class(synthetic))  # S_c
        with frozen_batch_norm(state.network, batch):
            images = decoded.detach().requires_grad_(True)
            ours_real, ours = siamese_augment(
                self.augment, batch, images, rng.augmentation
            )  # ω per class
            found = self._match(state, ours_real, ours)
        (towards,) = torch.autograd.grad(ours, images, found.gradient)  # through the augmentation
        state.pixels.step(image_gradient(synthetic, decoded, towards))  # through decoding
        state.pixels.project()
        state.network_steps += 1
        return found.metrics()

    def _match(self, state: MatchingState, real: RealBatch, images: Tensor) -> Matched:
        """Match on the levels that are this network's turn."""
        levels = self.levels
        if levels == "interleaved":
            levels = "inter" if state.iteration % 2 else "intra"
        within, across = levels != "inter", levels != "intra"
        return state.gradients.match(
            real, images, get_distance(self.distance), within=within, across=across
        )

    def _train(self, real: RealData, synthetic: SyntheticSet, state: MatchingState) -> None:
        """Train θ on the synthetic set, as long as ``inner`` says."""
        with torch.no_grad():
            images, labels = synthetic.decoded()
            images = synthetic.spec.normalise(images)
        if self.inner == "measured":
            rows = torch.randint(len(real.train), (self.batch_real,), generator=state.rng.real)
            loss = self._loss(real, rows, state.network)
            for _ in range(MOST_EPOCHS):
                self._epoch(images, labels, state)
                before, loss = loss, self._loss(real, rows, state.network)
                if loss > before:
                    break
        else:
            for _ in range(self._epochs(synthetic.ipc, state.network_steps - 1)):
                self._epoch(images, labels, state)

    def _epochs(self, ipc: int, k: int) -> int:
        """Return the epochs after so many image steps on a network, where they are not measured."""
        if self.inner == "fixed":
            return self.loops(ipc).inner_epochs
        return adapted_epochs(k, old=self.inner == "table_old")

    def _epoch(self, images: Tensor, labels: Tensor, state: MatchingState) -> None:
        """Train θ for one epoch on images (n, c, h, w), normalised."""
        rng = state.rng
        for rows in to_device(
            torch.randperm(len(images), generator=rng.synthetic), images.device
        ).split(self.batch_train):
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
        """Return the loss on real training images."""
        labels = real.train.labels[to_device(rows, real.device)]
        return float(F.cross_entropy(network(real.normalised(rows)), labels))

    def _optimiser(self, network: Network) -> torch.optim.SGD:
        return torch.optim.SGD(
            network.parameters(), lr=self.lr_network, momentum=self.momentum_network
        )

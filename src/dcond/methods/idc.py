"""IDC: several images in the place of one, matched by the gradients of networks trained on real images."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dcond.augment import DiffAug
from dcond.device import to_device
from dcond.distributed import run_on_rank0
from dcond.errors import require, whole_number
from dcond.matching.batches import (
    decoded_by_class,
    image_gradient,
    real_by_class,
    siamese_augment,
    subset_per_class,
)
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.distances import check_network, get_distance
from dcond.matching.engine import Engine
from dcond.matching.gradients import frozen_batch_norm
from dcond.models import Network, Recipe
from dcond.rng import Streams
from dcond.training.image_optim import PixelSweep, check_sweep_settings
from dcond.training.steps import training_step
from dcond.types import RealData, SyntheticSet


@dataclass
class IDCState:
    """The network on its way, its gradients and optimiser, the steps it has served, and the pixel optimiser."""

    network: Network
    gradients: ClassGradients
    optimiser: torch.optim.SGD
    uses: int
    pixels: PixelSweep
    rng: Streams

    def state_dict(self) -> dict[str, Any]:
        """Return what must be saved."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "uses": self.uses,
            "pixels": self.pixels.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.uses = state["uses"]
        self.pixels.load_state_dict(state["pixels"])


@dataclass(frozen=True, kw_only=True)
class IDC:
    """Match gradients with respect to convolution weights, along a training path on real images.

    L = Σ_c D(∇_θ ℓ(A_ω(S_c)), ∇_θ ℓ(A_ω(B_c))), S_c decoded from f² shrunken images in each stored
    one, one image step on it, then a piece of an epoch of training θ on real images; every
    ``steps_per_network`` steps a new random θ.

    Paper: Kim et al., Dataset condensation via efficient synthetic-data parameterization, arXiv
    2205.14959. Code: github snu-mllab/Efficient-Dataset-Condensation, condense.py. Differs: the
    sweep over the classes (:class:`~dcond.training.image_optim.PixelSweep`; θ stands still within
    it, so a class's gradient depends on its own images alone); the real images of a training are
    drawn anew every time, not in the order of an epoch; θ is not trained once more before it is
    dropped; batch norm is matched with statistics frozen from real images. Not here: the decoding
    "bound", which caps the decoded images by smaller factors; a random subset does.

    Args:
        network: recipe of θ.
        engine: how class gradients are computed, and θ is trained.
        augment: Siamese augmentation, one draw per class for real and synthetic together; None for
            none.
        train_augment: of the real images that train θ, a draw per image; None for none.
        steps: sweeps over the classes.
        lr: of the images, in units of ``space``, times ipc. It belongs to ``distance`` and to the
            image size: the public rule is lr_img · ipc / 10 · (side / 32)², with lr_img = 5e-3 for
            conv_squared, 1e-4 for conv_l1.
        momentum: of the images.
        distance: see :mod:`dcond.matching.distances`.
        batch_real: real images per class and step.
        batch_synthetic: decoded images per class and step at most; a random subset where there are
            more.
        factor: multi-formation factor; 1 is the paper's IDC-I.
        steps_per_network: steps before a new random network is taken.
        warmup_epochs: epochs on the real images before a new network is first matched.
        train_images: real images θ is trained on between two steps, in whole batches; all where
            there are fewer.
        batch_train: real images per training step of θ.
        lr_network, momentum_network, weight_decay: of θ.
        cutmix_p: chance that a batch of the training of θ is mixed (CutMix).
        sweep: "joint", all classes at once, or "sequential", the public loop.
        space, pixel_box: see :class:`~dcond.training.image_optim.PixelSGD`.
    """

    shares_classes: ClassVar = True

    network: Recipe
    engine: Engine
    augment: DiffAug | None
    train_augment: DiffAug | None
    steps: int
    lr: float = 5e-4
    momentum: float = 0.5
    distance: str = "conv_squared"
    batch_real: int = 64
    batch_synthetic: int = 128
    factor: int = 2
    steps_per_network: int = 100
    warmup_epochs: int = 0
    train_images: int = 500
    batch_train: int = 64
    lr_network: float = 0.01
    momentum_network: float = 0.9
    weight_decay: float = 5e-4
    cutmix_p: float = 0.5
    sweep: str = "joint"
    space: str = "pixel"
    pixel_box: str = "project"

    def __post_init__(self) -> None:
        check_sweep_settings(self)
        get_distance(self.distance)
        for name in (
            "steps",
            "batch_real",
            "batch_synthetic",
            "factor",
            "steps_per_network",
            "train_images",
        ):
            whole_number(f"method.{name}", getattr(self, name))
        whole_number("method.batch_train", self.batch_train)
        require(self.lr_network > 0, f"method.lr_network={self.lr_network} must be greater than 0.")
        require(
            0 <= self.momentum_network < 1,
            f"method.momentum_network={self.momentum_network}; allowed: 0 <= m < 1.",
        )
        require(
            self.weight_decay >= 0, f"method.weight_decay={self.weight_decay} must be 0 or more."
        )
        whole_number("method.warmup_epochs", self.warmup_epochs, least=0)
        require(
            0 <= self.cutmix_p <= 1,
            f"method.cutmix_p={self.cutmix_p} is out of range; it is a chance in [0, 1].",
        )

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> IDCState:
        """Make a network, its optimiser and the pixel optimiser."""
        network = self.network.build(real.spec, rng.networks, real.device)
        check_network(self.distance, network)
        gradients = self.engine.bind(
            network,
            real.spec,
            self.steps * (len(real.class_names) * self.batch_real + self.train_images),
        )
        return IDCState(
            network, gradients, self._optimiser(network), 0, PixelSweep(self, synthetic), rng
        )

    def step(self, real: RealData, synthetic: SyntheticSet, state: IDCState) -> dict[str, Tensor]:
        """Train the network on real images, then do one sweep of image updates over all classes."""
        rng = state.rng
        if state.uses == self.steps_per_network:
            self.network.reset(state.network, real.spec, rng.networks)  # a new random θ
            state.optimiser = self._optimiser(state.network)
            state.uses = 0
        run_on_rank0(lambda: self._train(real, state), [state.network], rng)
        state.uses += 1
        state.pixels.advance()
        batch = real_by_class(real, self.batch_real, rng.real)  # B_c
        images = subset_per_class(
            decoded_by_class(synthetic), self.batch_synthetic, rng.synthetic
        )  # S_c
        ours_real, ours = siamese_augment(
            self.augment, batch, real.spec.normalise(images), rng.augmentation
        )  # ω per class
        with frozen_batch_norm(state.network, batch):
            found = state.gradients.match(ours_real, ours, get_distance(self.distance))
        state.pixels.step(
            image_gradient(synthetic, ours, found.gradient)
        )  # through augmentation and decoding
        state.pixels.project()
        return found.metrics()

    def _train(self, real: RealData, state: IDCState) -> None:
        """Train θ before it is matched: a new one for ``warmup_epochs`` epochs, else for a piece of one."""
        if state.uses > 0:
            self._train_on(
                real, -(-self.train_images // self.batch_train) * self.batch_train, state
            )
        else:
            for _ in range(self.warmup_epochs):
                self._train_on(real, len(real.train), state)

    def _train_on(self, real: RealData, count: int, state: IDCState) -> None:
        """Train θ once on ``count`` random real images."""
        rng = state.rng
        for rows in torch.randperm(len(real.train), generator=rng.real)[:count].split(
            self.batch_train
        ):
            training_step(
                state.gradients.forward,
                state.optimiser,
                real.normalised(rows),
                real.train.labels[to_device(rows, real.device)],
                augment=self.train_augment,
                cutmix_p=self.cutmix_p,
                rng=rng.augmentation,
            )

    def _optimiser(self, network: Network) -> torch.optim.SGD:
        return torch.optim.SGD(
            network.parameters(),
            lr=self.lr_network,
            momentum=self.momentum_network,
            weight_decay=self.weight_decay,
        )

"""IDC: several images stored in one, matched by gradients of networks trained on real images."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dcond.augment import DiffAug
from dcond.distributed import current, run_on_rank0
from dcond.matching.batches import image_gradient, normalised_by_class, siamese_views
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.distances import DistanceName, check_network, get_distance
from dcond.matching.gradients import frozen_batch_norm
from dcond.matching.kmeans import select_rows
from dcond.methods.base import MatchingSettings, SavedState, TrainsNetworks
from dcond.models import Network, Recipe
from dcond.rng import Streams
from dcond.settings import (
    Fraction,
    Momentum,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    settings,
)
from dcond.training.image_optim import PixelSweep, Space, Sweep
from dcond.training.steps import training_step
from dcond.types import RealData, SyntheticSet


@dataclass
class IDCState(SavedState):
    """The network being trained, its gradients and optimiser, and the optimiser of the images."""

    not_saved: ClassVar = ("gradients", "rng")

    network: Network
    gradients: ClassGradients
    optimiser: torch.optim.SGD
    network_steps: int  # image steps under this network
    rows: Tensor  # (k, b), the real images that k-means selected
    pixels: PixelSweep
    rng: Streams


@settings
class IDC(TrainsNetworks, MatchingSettings):
    """Match gradients of convolution weights along a training path on real images.

    L = Σ_c D(∇_θ ℓ(A_ω(S_c)), ∇_θ ℓ(A_ω(B_c))), where S_c is decoded from f² shrunken images in
    each stored one. Each step updates the images once and trains θ on a part of the real images.
    After ``steps_per_network`` steps a new random θ is taken. With ``real_selection="kmeans"`` the
    real images represent their class: this is DREAM.

    Paper: Kim et al., Dataset condensation via efficient synthetic-data parameterization, arXiv
    2205.14959. Code: github snu-mllab/Efficient-Dataset-Condensation, condense.py. Differs: the
    sweep over the classes (:class:`~dcond.training.image_optim.PixelSweep`; θ does not change
    within it, so a class's gradient depends on its own images only); the real images that train θ
    are drawn anew every time, not in the order of an epoch; θ is not trained once more before it is
    replaced; batch norm uses statistics frozen from real images. Not implemented: the decoding
    "bound", which limits the decoded images by smaller factors; a random subset does this here.
    DREAM: Liu et al., Efficient dataset distillation by representative matching, arXiv 2302.14416;
    code: github lyq312318224/DREAM, condense.py.

    Args:
        network: recipe of θ.
        train_augment: augmentation of the real images that train θ, one draw per image; None for
            none.
        lr: learning rate of the images, in units of ``space``, times ipc. It depends on
            ``distance`` and the image size: the public rule is lr_img · ipc / 10 · (side / base)²,
            with lr_img = 5e-3 for conv_squared, 1e-4 for conv_l1, and base 28 for MNIST, 224 for
            ImageNet, otherwise 32.
        distance: D, see :mod:`dcond.matching.distances`.
        batch_real: real images per class and step.
        real_selection: "random" draws new ones in every step; "kmeans" takes those nearest to
            ``batch_real`` centroids in the embedding of θ.
        select_every: steps between two selections by k-means; a new θ selects again.
        batch_synthetic: maximum of decoded images per class and step; a random subset if there are
            more.
        factor: multi-formation factor f; 1 is the paper's IDC-I.
        steps_per_network: steps before a new random network is taken.
        warmup_epochs: epochs on the real images before a new network is first matched.
        train_images: real images that train θ between two steps, in whole batches; all images if
            there are fewer.
        batch_train: real images per training step of θ.
        lr_network: learning rate of θ.
        momentum_network: momentum of θ.
        weight_decay: weight decay of θ.
        cutmix_p: probability that a training batch of θ is mixed by CutMix.
        sweep: "joint" for all classes at once, "sequential" for the public loop.
        space: units of ``lr``, see :class:`~dcond.training.image_optim.PixelSGD`.

    The other settings are those of :class:`~dcond.methods.base.MatchingSettings`.
    """

    network: Recipe
    train_augment: DiffAug | None = None
    lr: PositiveFloat = 5e-4
    distance: DistanceName = "conv_squared"
    batch_real: PositiveInt = 64
    real_selection: Literal["random", "kmeans"] = "random"
    select_every: PositiveInt = 10
    batch_synthetic: PositiveInt = 128
    factor: PositiveInt = 2
    steps_per_network: PositiveInt = 100
    warmup_epochs: NonNegativeInt = 0
    train_images: PositiveInt = 500
    batch_train: PositiveInt = 64
    lr_network: PositiveFloat = 0.01
    momentum_network: Momentum = 0.9
    weight_decay: NonNegativeFloat = 5e-4
    cutmix_p: Fraction = 0.5
    sweep: Sweep = "joint"
    space: Space = "pixel"

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> IDCState:
        """Make the network, its optimiser and the optimiser of the images."""
        network = self.network.build(real.spec, rng.networks, real.device)
        check_network(self.distance, network)
        passes = self.steps * (len(real.class_names) * self.batch_real + self.train_images)
        gradients = self.engine.bind(network, real.spec, passes)
        optimiser, pixels = self._optimiser(network), PixelSweep(self, synthetic)
        rows = torch.zeros(
            len(real.class_names), self.batch_real, dtype=torch.long, device=real.device
        )
        return IDCState(network, gradients, optimiser, 0, rows, pixels, rng)

    def step(self, real: RealData, synthetic: SyntheticSet, state: IDCState) -> dict[str, Tensor]:
        """Train the network on real images, then update the images of all classes once."""
        rng = state.rng
        if state.network_steps == self.steps_per_network:
            self.network.reset(state.network, real.spec, rng.networks)  # a new random θ
            state.optimiser = self._optimiser(state.network)
            state.network_steps = 0
        run_on_rank0(lambda: self._train(real, state), [state.network], rng)
        if self.real_selection == "random":
            rows = real.draw_per_class(self.batch_real, rng.real)
        else:
            if state.network_steps % self.select_every == 0:
                run_on_rank0(lambda: self._select(real, state), [state.rows], rng)
            rows = state.rows
        state.network_steps += 1
        state.pixels.advance()
        batch = normalised_by_class(real, current().own(rows))  # B_c
        # A_ω(B_c), A_ω(S_c)
        views, images = siamese_views(self.augment, batch, synthetic, rng, self.batch_synthetic)
        with frozen_batch_norm(state.network, batch):
            matched = state.gradients.match(views, images, get_distance(self.distance))
        state.pixels.step(image_gradient(synthetic, images, matched.gradient))
        state.pixels.project()
        return matched.metrics()

    def _select(self, real: RealData, state: IDCState) -> None:
        """Select every class's images nearest to the centroids in the embedding of θ."""
        fast = state.gradients.forward.precision(real.device)
        state.rows.copy_(select_rows(state.network, real, self.batch_real, state.rng.real, fast))

    def _train(self, real: RealData, state: IDCState) -> None:
        """Train θ: a new one for ``warmup_epochs`` epochs, any other on about ``train_images``."""
        rng, count, epochs = state.rng, len(real.train), self.warmup_epochs
        if state.network_steps > 0:
            count, epochs = -(-self.train_images // self.batch_train) * self.batch_train, 1
        for _ in range(epochs):
            order = torch.randperm(len(real.train), generator=rng.real)[:count]
            for rows in order.split(self.batch_train):
                training_step(
                    state.gradients.forward,
                    state.optimiser,
                    *real.batch(rows),
                    augment=self.train_augment,
                    cutmix_p=self.cutmix_p,
                    rng=rng.augmentation,
                )

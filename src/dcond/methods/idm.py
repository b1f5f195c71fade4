"""IDM: distribution matching under a queue of partly trained networks."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dcond.distributed import run_on_rank0
from dcond.matching.batches import image_gradient, real_by_class, siamese_views
from dcond.matching.feature_matching import ClassFeatureMatching, class_means
from dcond.matching.mmd import mean_distance
from dcond.methods.base import MatchingSettings, SavedState, TrainsNetworks
from dcond.models import Network, Recipe
from dcond.rng import Streams
from dcond.settings import Momentum, NonNegativeFloat, PositiveFloat, PositiveInt, settings
from dcond.training.image_optim import PixelSweep, Space, Sweep
from dcond.training.network_queue import NetworkQueue
from dcond.types import RealData, SyntheticSet


@dataclass
class IDMState(SavedState):
    """The queue of networks, the network of the step, and the optimiser of the images."""

    not_saved: ClassVar = ("network", "features", "rng")  # the network is loaded from the queue

    network: Network
    features: ClassFeatureMatching
    queue: NetworkQueue
    accuracy: Tensor  # of the network of the step, a fraction
    step: int
    pixels: PixelSweep
    rng: Streams


@settings
class IDM(TrainsNetworks, MatchingSettings):
    """Match class means of features, and classify the images, under partly trained networks.

    L = Σ_c ‖ mean φ(A_ω(B_c)) - mean φ(A_ω(S_c)) ‖² + w · acc · ℓ(A_ω(S_c))

    φ and ℓ are the features and the cross-entropy of a network drawn from a queue, in evaluation
    mode, and acc is its running accuracy in training, a fraction. After every step some networks of
    the queue are trained on real images; every ``push_every`` steps a new random one joins and,
    once the queue is full, the oldest leaves.

    Paper: Zhao et al., Improved distribution matching for dataset condensation, CVPR 2023. Code:
    github uitrbn/IDM, IDM_cifar10.py. Differs: acc is a fraction, there a percentage, so its
    ``ce_weight`` 0.5 is 50 here; acc starts anew every ``forget_every`` steps, there whenever the
    images are evaluated; the sweep over the classes
    (:class:`~dcond.training.image_optim.PixelSweep`); images are projected to [0, 1] by default.

    Args:
        network: recipe of the networks.
        lr: learning rate of the images, in units of ``space``, the same at any ipc.
        ce_weight: w.
        batch_real: real images per class and step.
        factor: multi-formation factor.
        queue_start: networks before the first step.
        queue_size: maximum number of networks.
        push_every: steps between two new networks; the first joins before the first step.
        train_networks: networks that are trained after a step.
        inner_steps: training steps of each.
        forget_every: steps after which all accuracies start anew, at 0 until a network is trained
            again; None: never.
        batch_train: real images per training step.
        lr_network: learning rate of the networks.
        momentum_network: momentum of the networks.
        weight_decay: weight decay of the networks.
        sweep: "joint" for all classes at once, "sequential" for the public loop.
        space: units of ``lr``, see :class:`~dcond.training.image_optim.PixelSGD`.

    The other settings are those of :class:`~dcond.methods.base.MatchingSettings`.
    """

    network: Recipe
    lr: PositiveFloat = 0.2
    ce_weight: NonNegativeFloat = 50.0
    batch_real: PositiveInt = 256
    factor: PositiveInt = 2
    queue_start: PositiveInt = 3
    queue_size: PositiveInt = 100
    push_every: PositiveInt = 30
    train_networks: PositiveInt = 2
    inner_steps: PositiveInt = 10
    forget_every: PositiveInt | None = 100
    batch_train: PositiveInt = 256
    lr_network: PositiveFloat = 0.01
    momentum_network: Momentum = 0.9
    weight_decay: NonNegativeFloat = 5e-4
    sweep: Sweep = "joint"
    space: Space = "normalised"

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> IDMState:
        """Make the first networks and the optimiser of the images."""
        network = self.network.build(real.spec, rng.networks, real.device).eval()
        network.requires_grad_(False)
        matched = self.steps * len(real.class_names) * self.batch_real
        ours = self.steps * len(synthetic.images) * self.factor**2
        features = self.engine.features(network, real.spec, matched, ours)
        trained = self.steps * self.train_networks * self.inner_steps * self.batch_train
        forward = self.engine.logits(network, real.spec, trained)
        queue = NetworkQueue(network, forward, lambda: self._optimiser(network), self.queue_size)
        for _ in range(self.queue_start):
            queue.push(self.network, real.spec, rng.networks)
        accuracy = torch.zeros((), device=real.device)
        pixels = PixelSweep(self, synthetic, self.lr)
        return IDMState(network, features, queue, accuracy, 0, pixels, rng)

    def step(self, real: RealData, synthetic: SyntheticSet, state: IDMState) -> dict[str, Tensor]:
        """Train some networks (except at first), then update the images of all classes once."""
        rng = state.rng
        run_on_rank0(lambda: self._next_network(real, state), [state.network, state.accuracy], rng)
        state.step += 1
        state.pixels.advance()
        batch = real_by_class(real, self.batch_real, rng.real)  # B_c
        views, images = siamese_views(self.augment, batch, synthetic, rng)  # A_ω(B_c), A_ω(S_c)
        distances, gradient = state.features.match(
            views, images, mean_distance, summary=class_means
        )
        entropies, entropy_gradient = state.features.cross_entropy(images)  # ℓ(A_ω(S_c))
        weight = self.ce_weight * state.accuracy  # w · acc
        state.pixels.step(image_gradient(synthetic, images, gradient + weight * entropy_gradient))
        state.pixels.project()
        loss, entropy = distances.sum(), entropies.sum()
        return {
            "loss": loss + weight * entropy,
            "loss_features": loss,
            "loss_cross_entropy": entropy,
        }

    def _next_network(self, real: RealData, state: IDMState) -> None:
        """Train some members of the queue, add a new one if it is time, and load a random one."""
        queue, rng = state.queue, state.rng
        if state.step > 0:
            for index in torch.randperm(len(queue), generator=rng.networks)[: self.train_networks]:
                queue.train(int(index), self.inner_steps, lambda: self._draw(real, state))
        if self.forget_every and state.step > 0 and state.step % self.forget_every == 0:
            queue.forget_accuracies()
        if state.step % self.push_every == 0:
            queue.push(self.network, real.spec, rng.networks)
        index = torch.randint(len(queue), (1,), generator=rng.networks)
        state.accuracy.fill_(queue.load(int(index)))

    def _draw(self, real: RealData, state: IDMState) -> tuple[Tensor, Tensor]:
        """Return random real images and their labels for a training step."""
        rows = torch.randperm(len(real.train), generator=state.rng.real)[: self.batch_train]
        return real.batch(rows)

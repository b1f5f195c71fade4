"""Steps class by class, which bench.py and launches.py compare with."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from made_up import embedded
from torch import Tensor

from dcond.augment import DiffAug
from dcond.matching.batches import (
    decoded_by_class,
    real_by_class,
    siamese_augment,
    subset_per_class,
)
from dcond.matching.distances import rowwise
from dcond.matching.gradients import class_gradient
from dcond.matching.mmd import get_kernel, mean_distance, mmd
from dcond.methods.dm import DM
from dcond.methods.gradient_matching import GradientMatching
from dcond.models import Network
from dcond.rng import Streams
from dcond.types import RealData, SyntheticSet


def class_by_class(method: Any, real: Any, synthetic: Any, state: Any) -> None:
    """Run a step of DM or M3D as in the public code, class by class, with dcond's functions."""
    rng, whole = state.rng, 10**9
    method.network.reset(state.network, real.spec, rng.networks)
    images = decoded_by_class(synthetic)
    distance: Callable[..., Any] = mean_distance
    if hasattr(method, "kernel"):
        distance = functools.partial(mmd, kernel=get_kernel(method.kernel))
        images = subset_per_class(images, method.batch_synthetic, rng.synthetic)
    batch, images = real_by_class(real, method.batch_real, rng.real), real.spec.normalise(images)
    losses = []
    for own, synthetic_own in zip(batch.split(1), images.split(1), strict=True):
        real_own, synthetic_own = siamese_augment(
            method.augment, own, synthetic_own, rng.augmentation
        )
        with torch.no_grad():
            target = embedded(state.network, real_own.tensor(), whole)
        ours = embedded(state.network, synthetic_own, whole)
        losses.append(distance(ours, target))
    torch.autograd.grad(torch.cat(losses).sum(), synthetic.images)


def class_loop(
    method: DM | GradientMatching, real: RealData, synthetic: SyntheticSet, rng: Streams
) -> Callable[[], Tensor]:
    """Return a step of DM, DC or DSA as plain PyTorch: a loop over the classes.

    L = Σ_c L_c is added up over the classes and differentiated once, as in the public code (github
    VICO-UoE/DatasetCondensation, main.py and main_DM.py). Images are normalised before the first
    step and never clipped. Every step takes a new network: K = 1, the published value at ipc 1.
    Network, augmentation and the distance of gradients are dcond's, and so are the draws.

    Returns:
        A function that updates its own copy of the images, and returns them and L.
    """
    loss = feature_loss if isinstance(method, DM) else gradient_loss
    augment = method.augment or DiffAug([])
    everything = real.normalised(torch.arange(len(real.train)))
    images = real.spec.normalise(synthetic.images.detach()).requires_grad_()
    optimiser = torch.optim.SGD([images], lr=method.lr, momentum=method.momentum)

    def step() -> tuple[Tensor, Tensor]:
        network = method.network.build(real.spec, rng.networks, real.device)
        rows = real.draw_per_class(method.batch_real, rng.real)
        size = (images.shape[2], images.shape[3])
        draw = augment.draw(len(rows), size, rng.augmentation)
        total = torch.zeros((), device=real.device)
        for label, ours in enumerate(images.split(synthetic.ipc)):
            part = draw.part(label, label + 1)
            pair = [augment.apply(x[None], part)[0] for x in (everything[rows[label]], ours)]
            total = total + loss(network, *pair, label)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        return images.detach(), total.detach()

    return step


def feature_loss(network: Network, real: Tensor, synthetic: Tensor, label: int) -> Tensor:
    """Return DM's loss of one class: ‖mean φ(B_c) - mean φ(S_c)‖²."""
    network.requires_grad_(False)
    difference = network.embed(real).detach().mean(0) - network.embed(synthetic).mean(0)
    return difference.square().sum()


def gradient_loss(network: Network, real: Tensor, synthetic: Tensor, label: int) -> Tensor:
    """Return the loss of DC and DSA of one class: D(∇_θ ℓ(S_c), ∇_θ ℓ(B_c))."""
    theirs = class_gradient(network, real, label)
    return rowwise(class_gradient(network, synthetic, label, create_graph=True), theirs)

"""The plain form of a DM or M3D step, which bench.py compares with: class by class."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from made_up import embedded

from dcond.matching.batches import (
    decoded_by_class,
    real_by_class,
    siamese_augment,
    subset_per_class,
)
from dcond.matching.mmd import get_kernel, mean_distance, mmd


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

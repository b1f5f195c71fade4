"""The plain form of a step that bench.py times beside ours: one class after the other."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from dcond.matching.batches import (
    decoded_by_class,
    embed_by_class,
    real_by_class,
    siamese_augment,
    subset_per_class,
)
from dcond.matching.mmd import get_kernel, mean_distance, mmd


def class_by_class(method: Any, real: Any, synthetic: Any, state: Any) -> None:
    """Do a step of DM or M3D as the public code writes it, with the same functions: one class after the other."""
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
        shown, ours = siamese_augment(method.augment, own, synthetic_own, rng.augmentation)
        with torch.no_grad():
            target = embed_by_class(state.network, shown.tensor(), whole)
        found = embed_by_class(state.network, ours, whole)
        losses.append(distance(found, target))
    torch.autograd.grad(torch.cat(losses).sum(), synthetic.images)

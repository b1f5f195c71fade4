"""Training steps of networks, shared by evaluation, initialisation and methods."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from dcond.augment import DiffAug, cutmix
from dcond.device import to_device


def training_step(
    network: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    *,
    augment: DiffAug | None = None,
    cutmix_p: float = 0.0,
    rng: torch.Generator,
    soft: "SoftLabels | None" = None,
) -> Tensor:
    """Do one optimiser step on cross-entropy and return the detached loss.

    Args:
        network: maps images to logits, in the mode set by the caller.
        optimiser: optimiser of its parameters.
        images: (n, c, h, w), normalised.
        labels: int64 (n,) or soft float32 (n, k).
        augment: augmentation, one draw per image; None for none.
        cutmix_p: probability that the batch is mixed (CutMix, one box per batch).
        rng: CPU generator of all draws.
        soft: labels of another network that replace ``labels``.
    """
    batch = training_batch(images, labels, augment, cutmix_p, rng)
    if soft is not None:
        batch = soft.of(batch)

    def loss() -> Any:
        optimiser.zero_grad(set_to_none=True)
        value = batch.cross_entropy(network(batch.images))
        value.backward()
        return value

    found: Any = optimiser.step(loss)  # GSAM evaluates it twice
    return cast(Tensor, found.detach())


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Augmented images (n, c, h, w), normalised, and their labels: two each if they are mixed."""

    images: Tensor
    labels: Tensor
    partners: Tensor | None = None
    weight: float | Tensor = 1.0  # of ``labels`` against ``partners``
    temperature: float = field(default=1.0, kw_only=True)  # T of soft labels

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """Return the mean of T² · CE(logits / T, labels); T² keeps the scale of the gradients."""
        if self.temperature != 1:
            return self.temperature**2 * F.cross_entropy(logits / self.temperature, self.labels)
        loss = F.cross_entropy(logits, self.labels)
        if self.partners is None:
            return loss
        return self.weight * loss + (1 - self.weight) * F.cross_entropy(logits, self.partners)


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """Labels of augmented batches by another network: softmax(z / T) of its logits z.

    Args:
        logits: maps the student's images (n, c, h, w) to the other network's z (n, k).
        temperature: T > 0.
    """

    logits: Callable[[Tensor], Tensor]
    temperature: float

    @torch.no_grad()
    def of(self, batch: TrainingBatch) -> TrainingBatch:
        """Return the batch with these labels, (n, k), or (r, n, k) for batches of r networks."""
        images = batch.images
        logits = self.logits(images.flatten(0, -4)).unflatten(0, images.shape[:-3])
        return TrainingBatch(
            images, (logits / self.temperature).softmax(-1), temperature=self.temperature
        )


def training_batch(
    images: Tensor, labels: Tensor, augment: DiffAug | None, cutmix_p: float, rng: torch.Generator
) -> TrainingBatch:
    """Augment a batch as :func:`training_step` describes."""
    if augment is not None:
        images = augment.per_image(images, rng)
    mix = cutmix.draw(images.shape, cutmix_p, rng)
    if mix is None:
        return TrainingBatch(images, labels)
    return TrainingBatch(
        cutmix.apply(images, mix), labels, labels[to_device(mix.partner, labels.device)], mix.weight
    )


def training_batches(
    images: Tensor,
    labels: Tensor,
    augment: DiffAug | None,
    cutmix_p: float,
    rngs: Sequence[torch.Generator],
) -> TrainingBatch:
    """Augment the batches of r networks, each as :func:`training_batch` does.

    Args:
        images: (r, n, c, h, w), normalised.
        labels: int64 (r, n) or soft (r, n, k).
        augment: as in :func:`training_step`.
        cutmix_p: as in :func:`training_step`.
        rngs: r generators, one per network.

    Returns:
        A batch whose fields have a first axis r; the weights (r,) if any of the batches is mixed.
    """
    if augment is not None:
        images = augment.per_network(images, rngs)
    n, size = images.shape[1], (images.shape[3], images.shape[4])
    drawn = [cutmix.draw(images.shape[1:], cutmix_p, rng) for rng in rngs]
    if all(mix is None for mix in drawn):
        return TrainingBatch(images, labels)
    mixes = [mix or cutmix.nothing(n, size) for mix in drawn]
    theirs = cutmix.chosen(labels, cutmix.partners(mixes, labels.device))
    weights = to_device(
        torch.tensor([mix.weight for mix in mixes], dtype=images.dtype), images.device
    )
    return TrainingBatch(cutmix.apply_each(images, mixes), labels, theirs, weights)

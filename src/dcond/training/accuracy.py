"""Accuracy of one network, or of several stacked ones, on test images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dcond.device import scaled_batch_size
from dcond.types import ImageSpec, Split

NEAR_CHANCE = 0.05  # of the interval from chance to 1


def accuracy(network: nn.Module, spec: ImageSpec, test: Split, batch: int = 1000) -> float:
    """Return the fraction of test images classified correctly; sets the network to eval mode."""
    return accuracies(network.eval(), spec, test, batch)[0]


@torch.no_grad()
def accuracies(
    logits: Callable[[Tensor], Tensor], spec: ImageSpec, test: Split, batch: int
) -> list[float]:
    """Return the fraction of test images that each of r networks classifies correctly.

    Non-finite logits count as wrong predictions; argmax alone would assign them to class 0.

    Args:
        logits: maps normalised images (n, c, h, w) to logits (r, n, k), or (n, k) of one network.
        spec: shape and normalisation of the images.
        test: uint8 images and labels.
        batch: images per forward pass at up to 64 x 64 pixels; fewer for larger images.
    """
    correct = torch.zeros((), dtype=torch.long, device=test.device)
    for images, labels in test.batches(scaled_batch_size(batch, *spec.size, logits)):
        predicted = logits(spec.normalise(images.float() / 255))
        hits = (predicted.argmax(-1) == labels) & predicted.isfinite().all(-1)
        correct = correct + hits.sum(-1)
    return [count / len(test) for count in correct.view(-1).tolist()]


def at_chance(accuracy: float, classes: int) -> bool:
    """Return whether an accuracy is at most chance + 0.05 · (1 - chance)."""
    chance = 1 / classes
    return accuracy <= chance + NEAR_CHANCE * (1 - chance)

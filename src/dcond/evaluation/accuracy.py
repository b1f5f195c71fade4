"""Accuracy on test images, of one network or of several at once."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dcond.memory import scaled_batch_size
from dcond.types import ImageSpec, Split


def accuracy(network: nn.Module, spec: ImageSpec, test: Split, batch: int = 1000) -> float:
    """Return the fraction of test images (uint8) that the network, in evaluation mode, labels correctly."""
    return accuracies(network.eval(), spec, test, batch)[0]


@torch.no_grad()
def accuracies(
    logits: Callable[[Tensor], Tensor], spec: ImageSpec, test: Split, batch: int
) -> list[float]:
    """Return the fraction of test images (uint8) that each of r networks labels correctly.

    Where a logit is not finite, nothing was said: a network that diverged is right on no image,
    while the largest of its logits would be the first, and so the share of class 0 its accuracy.

    Args:
        logits: maps normalised images to logits (r, n, k), or (n, k) of one network.
        spec: of the images.
        test: images and labels.
        batch: images per pass, of up to 64 x 64 pixels: fewer of larger ones.
    """
    correct = torch.zeros((), dtype=torch.long, device=test.device)
    for images, labels in test.batches(scaled_batch_size(batch, spec.height, spec.width)):
        found = logits(spec.normalise(images.float() / 255))
        right = (found.argmax(-1) == labels) & found.isfinite().all(-1)
        correct = correct + right.sum(-1)
    return [count / len(test) for count in correct.view(-1).tolist()]

"""One step of ordinary network training, shared by evaluation, selection and every method that trains in the loop."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dcond.augment import DiffAug, cutmix


def training_step(
    network: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    *,
    augment: DiffAug | None = None,
    cutmix_p: float = 0.0,
    rng: torch.Generator,
) -> Tensor:
    """Do one optimiser step on cross-entropy and return the detached loss.

    Args:
        network: maps images to logits, in the mode the caller wants.
        optimiser: holds the parameters behind them.
        images: (n, c, h, w), normalised.
        labels: int64 (n,) or soft float32 (n, k).
        augment: applied with parameters of its own for every image.
        cutmix_p: chance that the batch is mixed (CutMix, one box per batch).
        rng: supplies every draw, on the CPU.
    """
    if augment is not None:
        images = augment.per_image(images, rng)
    mix = cutmix.draw(images.shape, cutmix_p, rng)
    if mix is None:
        loss = F.cross_entropy(network(images), labels)
    else:
        logits = network(cutmix.apply(images, mix))
        partners = labels[mix.partner.to(labels.device)]
        loss = mix.weight * F.cross_entropy(logits, labels) + (1 - mix.weight) * F.cross_entropy(logits, partners)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.detach()

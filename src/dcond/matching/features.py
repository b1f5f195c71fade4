"""Matching of features class by class: the loss of every class and its image gradient, within bounded memory."""

from collections.abc import Callable

import torch
from torch import Tensor

from dcond.matching.real_batch import RealBatch
from dcond.matching.views import embed_by_class, has_batch_norm
from dcond.memory import per_pass
from dcond.models import Network

FeatureDistance = Callable[[Tensor, Tensor], Tensor]  # synthetic (k, n, d), real (k, b, d) -> (k,)


def match_features(
    network: Network, real: RealBatch, synthetic: Tensor, distance: FeatureDistance, chunk: int
) -> tuple[Tensor, Tensor]:
    """Return L_c = distance(φ(S_c), sg[φ(B_c)]) of every class, (k,), and ∂(Σ_c L_c)/∂S, of the shape of S.

    As many whole classes go together as have ``chunk`` synthetic images, at least one: their graph and their real
    features are what is held at a time. A network with batch norm takes all classes, for its statistics are the step's.

    Args:
        network: φ.
        real: (k, b, c, h, w), normalised.
        synthetic: (k, n, c, h, w), normalised; a graph behind it is not followed.
        distance: of features, class by class.
        chunk: images per forward pass, of up to 64 x 64 pixels: fewer of larger ones.
    """
    chunk = per_pass(chunk, real.shape[-2], real.shape[-1])
    together = len(real) if has_batch_norm(network) else max(1, chunk // synthetic.shape[1])
    losses, gradients = [], []
    for batch, images in zip(real.split(together), synthetic.detach().split(together), strict=True):
        targets = _targets(network, batch, chunk)
        images.requires_grad_(True)
        found = distance(embed_by_class(network, images, chunk), targets)
        (gradient,) = torch.autograd.grad(found.sum(), images)
        losses.append(found.detach())
        gradients.append(gradient)
    return torch.cat(losses), torch.cat(gradients)


@torch.no_grad()
def _targets(network: Network, batch: RealBatch, chunk: int) -> Tensor:
    """Return the features (k, b, d) of a real batch; with batch norm it is made whole."""
    parts = [batch.tensor()] if has_batch_norm(network) else batch.parts()
    return torch.cat([embed_by_class(network, part, chunk) for part in parts])

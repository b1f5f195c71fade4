"""Gradients of the mutual distillation loss in every network's weights, and their matching, class after class."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from dcond.device import even_chunks
from dcond.matching.alignment import Alignment
from dcond.matching.distances import Distance
from dcond.matching.gradients import trained
from dcond.matching.lazy_batch import RealBatch
from dcond.models import Network


def match_distillation(
    networks: Sequence[Network],
    alignment: Alignment,
    real: Tensor | RealBatch,
    synthetic: Tensor,
    distance: Distance,
    *,
    chunk: int,
    fast: AbstractContextManager[object] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return L_c = D(H^S, sg[H^T]) of every class and ∂(Σ_c L_c)/∂S, with H = ∇_θ L_MD of all K networks.

    As :meth:`.ClassGradients.match`, with the distillation loss in the place of cross-entropy and
    the graph of one class at a time. A weight that no tap depends on has no gradient and does not
    take part, nor do the alignment's own.

    Args:
        networks: θ_1 ... θ_K; their parameters with ``requires_grad`` are matched.
        alignment: P and M.
        real: (k, b, c, h, w), normalised, class-major.
        synthetic: (k, n, c, h, w), normalised; a graph behind it is not followed.
        distance: D.
        chunk: real images per forward pass; exact, since L_MD is a mean over images.
        fast: the precision of the real side, a context that can be entered again; None for the
            networks' own.

    Returns:
        Losses (k,), detached, and the gradient with respect to ``synthetic``, of its shape.
    """
    losses, gradients = [], []
    for batch, own in zip(real, synthetic, strict=True):
        with fast or nullcontext():
            target = mean_distillation_gradient(networks, alignment, batch, chunk)
        images = own.detach().requires_grad_(True)
        loss = distance(
            distillation_gradient(networks, alignment, images, create_graph=True), target
        )
        (gradient,) = torch.autograd.grad(loss, images)
        losses.append(loss.detach())
        gradients.append(gradient)
    return torch.stack(losses), torch.stack(gradients)


def distillation_gradient(
    networks: Sequence[Network], alignment: Alignment, images: Tensor, *, create_graph: bool = False
) -> list[Tensor]:
    """Return ∇_θ L_MD of images (n, c, h, w), network after network, without the weights it does not depend on."""
    loss = alignment([network.features(images) for network in networks])
    parameters = [parameter for network in networks for parameter in trained(network)]
    found = torch.autograd.grad(loss, parameters, create_graph=create_graph, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def mean_distillation_gradient(
    networks: Sequence[Network], alignment: Alignment, images: Tensor, chunk: int
) -> list[Tensor]:
    """Return :func:`distillation_gradient` without a graph, at most ``chunk`` images at a time."""
    total: list[Tensor] = []
    for part in even_chunks(images, chunk):
        gradient = [
            g * (len(part) / len(images)) for g in distillation_gradient(networks, alignment, part)
        ]
        total = [t + g for t, g in zip(total, gradient, strict=True)] if total else gradient
    return total

"""Matching of the gradients of the mutual distillation loss, class by class."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from dcond.matching.alignment import Alignment
from dcond.matching.distances import Distance
from dcond.matching.gradients import mean_over_chunks, trained
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
    """Return L_c = D(H^S, sg[H^T]) of every class and ∂(Σ_c L_c)/∂S.

    H = ∇_θ L_MD of all K networks.

    Like :meth:`.ClassGradients.match`, with the distillation loss instead of cross-entropy and the
    graph of one class at a time. Weights on which no tap depends, and the alignment's weights, are
    ignored.

    Args:
        networks: θ_1 ... θ_K; their parameters with ``requires_grad`` are matched.
        alignment: P and M.
        real: (k, b, c, h, w), normalised, class-major.
        synthetic: (k, n, c, h, w), normalised; treated as a leaf.
        distance: D.
        chunk: real images per forward pass; exact, since L_MD is a mean over images.
        fast: precision of the real side, a reusable context; None for the networks' own.

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
    """Return ∇_θ L_MD of images (n, c, h, w) for all networks' weights that it depends on."""
    loss = alignment([network.features(images) for network in networks])
    parameters = [parameter for network in networks for parameter in trained(network)]
    found = torch.autograd.grad(loss, parameters, create_graph=create_graph, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def mean_distillation_gradient(
    networks: Sequence[Network], alignment: Alignment, images: Tensor, chunk: int
) -> list[Tensor]:
    """Return :func:`distillation_gradient` without a graph, at most ``chunk`` images at a time."""
    return mean_over_chunks(
        images, chunk, lambda part: distillation_gradient(networks, alignment, part)
    )

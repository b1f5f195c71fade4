"""Class gradients and their matching, class after class: the plain form that any faster engine must equal."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dcond.matching.distances import Distance


def match_class_gradients(
    network: nn.Module, real: Tensor, synthetic: Tensor, distance: Distance, *, chunk: int
) -> tuple[Tensor, Tensor]:
    """Return L_c = D(∇_θ ℓ(S_c), sg[∇_θ ℓ(B_c)]) of every class and ∂(Σ_c L_c)/∂S.

    ℓ is the mean cross-entropy; D compares lists of gradients (:mod:`dcond.matching.distances`). The graph of one
    class lives at a time.

    Args:
        network: θ; its parameters with ``requires_grad`` are matched.
        real: (k, b, c, h, w), normalised, class-major.
        synthetic: (k, n, c, h, w), normalised; a graph behind it is not followed.
        distance: D.
        chunk: real images per forward pass; exact, since a mean gradient is a mean of chunk gradients (batch norm
            statistics must be frozen: :func:`frozen_batch_norm`).

    Returns:
        Losses (k,), detached, and the gradient with respect to ``synthetic``, of its shape.
    """
    losses, gradients = [], []
    for c in range(len(real)):
        target = mean_gradient(network, real[c], c, chunk)
        images = synthetic[c].detach().requires_grad_(True)
        ours = class_gradient(network, images, c, create_graph=True)
        loss = distance(ours, target)
        (gradient,) = torch.autograd.grad(loss, images)
        losses.append(loss.detach())
        gradients.append(gradient)
    return torch.stack(losses), torch.stack(gradients)


def match_levels(
    network: nn.Module, real: Tensor, synthetic: Tensor, distance: Distance, *, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Match within and across the classes: L = Σ_c D(g_c^S, g_c^T) + k · D(ḡ^S, ḡ^T), ḡ the mean over the k classes.

    Without batch norm ḡ is the gradient of the class-balanced mixed batch, so the second level costs no image. Exact in
    two passes, with the graph of one class at a time: the first finds v_c = ∂L/∂g_c^S = ∂D(g_c^S, g_c^T)/∂g_c^S +
    ∂D(ḡ^S, ḡ^T)/∂ḡ^S (weight k times 1/k), the second the vector-Jacobian products of v_c.

    Paper: DEGM, arXiv 2208.00311. Arguments as :func:`match_class_gradients`.

    Returns:
        Class distances (k,), the distance of the means before its weight k, both detached, and ∂L/∂S.
    """
    classes = range(len(real))
    targets = [mean_gradient(network, real[c], c, chunk) for c in classes]
    ours = [class_gradient(network, synthetic[c].detach(), c) for c in classes]
    across, v_mean = _distance_and_gradient(distance, _mean(ours), _mean(targets))
    within, gradients = [], []
    for c in classes:
        loss, v_class = _distance_and_gradient(distance, ours[c], targets[c])
        images = synthetic[c].detach().requires_grad_(True)
        graph = class_gradient(network, images, c, create_graph=True)
        towards = [a + b for a, b in zip(v_class, v_mean, strict=True)]
        (gradient,) = torch.autograd.grad(graph, images, towards)
        within.append(loss)
        gradients.append(gradient)
    return torch.stack(within), across, torch.stack(gradients)


def _mean(classes: list[list[Tensor]]) -> list[Tensor]:
    """Return the mean over classes of lists of gradients."""
    return [torch.stack(tensors).mean(0) for tensors in zip(*classes, strict=True)]


def _distance_and_gradient(distance: Distance, ours: list[Tensor], target: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return D and ∂D/∂ours, zeros for tensors that do not take part."""
    leaves = [tensor.detach().requires_grad_(True) for tensor in ours]
    loss = distance(leaves, target)
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return loss.detach(), [torch.zeros_like(a) if g is None else g for a, g in zip(leaves, found, strict=True)]


def class_gradient(network: nn.Module, images: Tensor, label: int, *, create_graph: bool = False) -> list[Tensor]:
    """Return ∇_θ of the mean cross-entropy of images (n, c, h, w), all of one class."""
    labels = torch.full((len(images),), label, dtype=torch.long, device=images.device)
    parameters = [p for p in network.parameters() if p.requires_grad]
    return list(torch.autograd.grad(F.cross_entropy(network(images), labels), parameters, create_graph=create_graph))


def mean_gradient(network: nn.Module, images: Tensor, label: int, chunk: int) -> list[Tensor]:
    """Return :func:`class_gradient` without a graph, ``chunk`` images at a time."""
    total: list[Tensor] = []
    for part in images.split(chunk):
        gradient = [g * (len(part) / len(images)) for g in class_gradient(network, part, label)]
        total = [t + g for t, g in zip(total, gradient, strict=True)] if total else gradient
    return total


@contextmanager
def frozen_batch_norm(network: nn.Module, images: Tensor) -> Iterator[None]:
    """Take batch-norm statistics from real images (n, c, h, w), normalised, and hold them for a block.

    As the public DC code does: one pass in train mode, then the norms in evaluation mode. Without batch norm nothing
    happens.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if norms:
        with torch.no_grad():
            network(images)
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()

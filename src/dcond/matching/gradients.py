"""Gradients of the loss of one class's images with respect to a network's weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from dcond.device import even_chunks
from dcond.distributed import current
from dcond.matching.distances import Distance
from dcond.matching.lazy_batch import RealBatch
from dcond.matching.plain_norms import PlainNorms

Logits = Callable[[Tensor], Tensor]

BATCH_NORM_IMAGES = 16  # real images per class for the statistics of batch norm


def class_gradient(
    network: nn.Module,
    images: Tensor,
    label: int | Tensor,
    *,
    create_graph: bool = False,
    forward: Logits | None = None,
) -> list[Tensor]:
    """Return ∇_θ of the mean cross-entropy of images of one class, one tensor per parameter.

    Args:
        network: θ; the gradients are those of its parameters with ``requires_grad``, in order.
        images: (n, c, h, w), normalised.
        label: the class; a tensor on the images' device avoids a synchronisation with the GPU.
        create_graph: keep the graph, so that the result can be differentiated.
        forward: computes the logits instead of ``network``, with the same parameters.
    """
    labels = torch.as_tensor(label, device=images.device).expand(len(images))
    loss = F.cross_entropy((forward or network)(images), labels)
    weights = trained(network)  # gradient zero for a weight that the logits do not use
    return list(
        torch.autograd.grad(loss, weights, create_graph=create_graph, materialize_grads=True)
    )


def mean_over_chunks(
    images: Tensor, chunk: int, gradient: Callable[[Tensor], Sequence[Tensor]], dim: int = 0
) -> list[Tensor]:
    """Return the mean of ``gradient(part)``, weighted by size, over parts of <= ``chunk`` images.

    Exact for a mean gradient of all images, which is the mean of those of its parts, if batch norm
    is frozen.

    Args:
        images: tensor to split along ``dim``.
        chunk: maximum size of a part.
        gradient: returns the mean gradients of a part.
        dim: the images' dimension.
    """
    total: list[Tensor] = []
    for part in even_chunks(images, chunk, dim):
        share = part.shape[dim] / images.shape[dim]
        scaled = [g * share for g in gradient(part)]
        total = [t + g for t, g in zip(total, scaled, strict=True)] if total else scaled
    return total


def stacked_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Return :func:`class_gradient` of g classes at once: (g, *shape) for every parameter.

    Args:
        network: θ.
        images: (g, n, c, h, w), normalised; the result requires gradients if they do.
        labels: (g,), the classes.
    """

    def loss(logits: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits.to(images.dtype), label.expand(len(logits)))

    return gradients_at_once(network, loss, dict(network.named_parameters()), images, labels)


def gradients_at_once(
    module: nn.Module,
    loss: Callable[..., Tensor],
    parameters: Mapping[str, nn.Parameter],
    images: Tensor,
    *others: Tensor,
) -> list[Tensor]:
    """Return ∇_θ loss(module(x_c), *others_c) of g classes c in one pass: (g, *shape) for each θ.

    Args:
        module: maps images (n, c, h, w) to the first argument of ``loss``.
        loss: a scalar.
        parameters: θ by name, some of the module's; those without ``requires_grad`` are omitted.
        images: x, (g, n, c, h, w), normalised; the result requires gradients if they do.
        others: further arguments of ``loss``, each (g, ...).
    """
    weights = {name: p.detach() for name, p in parameters.items() if p.requires_grad}
    fixed = {
        name: tensor.detach()  # else a graph over all images would stay
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
        if name not in weights
    }

    def own(values: dict[str, Tensor], x: Tensor, *rest: Tensor) -> Tensor:
        return loss(functional_call(module, {**fixed, **values}, (x,)), *rest)

    dims = (None, 0, *(0 for _ in others))
    with PlainNorms():
        return list(vmap(grad(own), in_dims=dims)(weights, images, *others).values())


def distances(distance: Distance, ours: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Return D of every class, (g,), between lists of stacked gradients (g, *shape)."""
    if len(ours[0]) == 1:
        return distance([s[0] for s in ours], [t[0] for t in targets])[None]
    found: Tensor = vmap(distance)(list(ours), list(targets))
    return found


def trained(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are matched, in their order."""
    return [p for p in network.parameters() if p.requires_grad]


@contextmanager
def frozen_batch_norm(network: nn.Module, batch: Tensor | RealBatch) -> Iterator[None]:
    """Update batch-norm statistics on a real batch (k, b, c, h, w), then freeze them in a block.

    As in the public DC code: one pass of 16 images per class in training mode updates the running
    statistics with the norm's momentum (0.1 in PyTorch), then the norms are in evaluation mode. The
    pass takes the images of all processes that share the classes. Without batch norm this does
    nothing; nor does it to norms that are in evaluation mode already.
    """
    norms = [own for own in network.modules() if isinstance(own, _BatchNorm) and own.training]
    if norms:
        with torch.no_grad():
            n = BATCH_NORM_IMAGES
            few = batch.first(n) if isinstance(batch, RealBatch) else batch[:, :n]
            network(current().gathered(few).flatten(0, 1))
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()

"""Class gradients: the gradient of the loss of one class's images with respect to a network's weights."""

from collections.abc import Callable, Iterator, Sequence
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
    """Return ∇_θ of the mean cross-entropy of images (n, c, h, w), normalised, all of one class.

    Args:
        network: θ; its parameters with ``requires_grad``, in their order.
        images: a graph behind them is followed with ``create_graph``.
        label: the class; a tensor on the images' device costs a GPU no wait.
        create_graph: keep the graph, so that the result can be differentiated.
        forward: computes the logits in place of ``network``, with the same parameters.
    """
    labels = torch.as_tensor(label, device=images.device).expand(len(images))
    loss = F.cross_entropy((forward or network)(images), labels)
    weights = trained(network)  # zero for one that the logits do not use
    return list(
        torch.autograd.grad(loss, weights, create_graph=create_graph, materialize_grads=True)
    )


def mean_gradient(
    network: nn.Module,
    images: Tensor,
    label: int | Tensor,
    chunk: int,
    forward: Logits | None = None,
) -> list[Tensor]:
    """Return :func:`class_gradient` without a graph, at most ``chunk`` images at a time.

    Exact, since a mean gradient is the mean of chunk gradients (batch norm must be frozen).
    """
    total: list[Tensor] = []
    for part in even_chunks(images, chunk):
        gradient = [
            g * (len(part) / len(images))
            for g in class_gradient(network, part, label, forward=forward)
        ]
        total = [t + g for t, g in zip(total, gradient, strict=True)] if total else gradient
    return total


def stacked_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Return :func:`class_gradient` of g classes in one go: (g, *shape) for every parameter.

    Args:
        network: θ.
        images: (g, n, c, h, w), normalised; where they require gradients, so does the result.
        labels: (g,).
    """
    moved = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    fixed = {name: p for name, p in network.named_parameters() if not p.requires_grad} | dict(
        network.named_buffers()
    )

    def loss(parameters: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, {**fixed, **parameters}, (x,)).to(x.dtype)
        return F.cross_entropy(logits, label.expand(len(x)))

    return list(vmap(grad(loss), in_dims=(None, 0, 0))(moved, images, labels).values())


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
    """Move batch-norm statistics by a real batch (k, b, c, h, w), normalised, and hold them for a block.

    As the public DC code does: one pass of 16 images per class in train mode, by which running
    statistics move as the norm's momentum says (a tenth, in PyTorch), then the norms in evaluation
    mode. Where several processes share the classes, the pass takes those of all of them. Without
    batch norm nothing happens.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if norms:
        with torch.no_grad():
            few = (
                batch.first(BATCH_NORM_IMAGES)
                if isinstance(batch, RealBatch)
                else batch[:, :BATCH_NORM_IMAGES]
            )
            network(current().gathered(few).flatten(0, 1))
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()

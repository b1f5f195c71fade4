"""Matching of the gradients of the mutual distillation loss."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from dcond.matching.alignment import Alignment
from dcond.matching.at_once import AtOnce
from dcond.matching.distances import Distance
from dcond.matching.gradients import distances, gradients_at_once, mean_over_chunks, trained
from dcond.matching.lazy_batch import RealBatch, whole
from dcond.models import Network


@dataclass(eq=False)
class Distillation(AtOnce):
    """Computes and matches the gradients of the distillation loss of several networks.

    Args:
        networks: θ_1 ... θ_K; their parameters with ``requires_grad`` are matched.
        chunk: real images per forward pass; exact, since L_MD is a mean over images.
        classes: classes at once; None to choose the fastest number in the first step.
        fast: precision of the real side, a reusable context; by default the networks' own.
    """

    networks: Sequence[Network]
    chunk: int
    classes: int | None = 1
    fast: AbstractContextManager[object] = field(default_factory=nullcontext)

    def match(
        self, alignment: Alignment, real: Tensor | RealBatch, synthetic: Tensor, distance: Distance
    ) -> tuple[Tensor, Tensor]:
        """Return L_c = D(H^S, sg[H^T]) of every class and ∂(Σ_c L_c)/∂S.

        H = ∇_θ L_MD of all K networks.

        Like :meth:`.ClassGradients.match`, with the distillation loss instead of cross-entropy.
        Weights on which no tap depends are ignored, or 0 on both sides; so are the alignment's.

        Args:
            alignment: P and M.
            real: (k, b, c, h, w), normalised, class-major.
            synthetic: (k, n, c, h, w), normalised; treated as a leaf.
            distance: D.

        Returns:
            Losses (k,), detached, and the gradient with respect to ``synthetic``, of its shape.
        """

        def step(classes: int) -> tuple[Tensor, Tensor]:
            losses, gradients = [], []
            for batch, own in zip(real.split(classes), synthetic.split(classes), strict=True):
                with self.fast:
                    targets = self._real(alignment, whole(batch))
                images = own.detach().requires_grad_(True)
                found = distances(distance, self._gradients(alignment, images, graph=True), targets)
                gradients += torch.autograd.grad(found.sum(), images)
                losses.append(found.detach())
            return torch.cat(losses), torch.cat(gradients)

        return self.in_groups(step, len(real), synthetic.device)

    def _real(self, alignment: Alignment, images: Tensor) -> list[Tensor]:
        """Return :meth:`_gradients` of real images, chunk by chunk and without a graph."""
        gradients = partial(self._gradients, alignment)
        return mean_over_chunks(images, self.chunk // len(images), gradients, dim=1)

    def _gradients(
        self, alignment: Alignment, images: Tensor, *, graph: bool = False
    ) -> list[Tensor]:
        """Return the stacked gradients (g, *shape) of images (g, n, c, h, w)."""
        if len(images) == 1:
            found = distillation_gradient(self.networks, alignment, images[0], create_graph=graph)
            return [gradient[None] for gradient in found]
        loss = DistillationLoss(self.networks, alignment)
        matched = loss.networks.named_parameters(prefix="networks")
        return gradients_at_once(loss, lambda value: value, dict(matched), images)


class DistillationLoss(nn.Module):
    """L_MD of images (n, c, h, w) as a module, so that ``vmap`` can exchange its weights."""

    def __init__(self, networks: Sequence[Network], alignment: Alignment):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.alignment = alignment

    def forward(self, images: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        loss: Tensor = self.alignment([network.features(images) for network in self.networks])  # type: ignore[operator]
        return loss


def distillation_gradient(
    networks: Sequence[Network], alignment: Alignment, images: Tensor, *, create_graph: bool = False
) -> list[Tensor]:
    """Return ∇_θ L_MD of images (n, c, h, w) for all networks' weights that it depends on."""
    loss = alignment([network.features(images) for network in networks])
    parameters = [parameter for network in networks for parameter in trained(network)]
    found = torch.autograd.grad(loss, parameters, create_graph=create_graph, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]

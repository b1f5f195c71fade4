"""Matching of features class by class: the loss of every class and its image gradient, within bounded memory."""

from collections.abc import Callable

import torch
from torch import Tensor

from dcond.matching.batches import embed_by_class, has_batch_norm
from dcond.matching.fast_forward import FastForward
from dcond.matching.lazy_batch import RealBatch
from dcond.models import Network

FeatureDistance = Callable[[Tensor, Tensor], Tensor]  # synthetic (k, n, d), real (k, b, d) -> (k,)


class ClassFeatureMatching:
    """The features φ of one network, class by class, and how to match them.

    Args:
        network: of φ, whose weights may change between two calls; none of them requires a gradient.
        forward: φ of real images, which are not differentiated.
        chunk: images per forward pass; and synthetic ones whose graph lives at a time.
    """

    def __init__(self, network: Network, forward: FastForward, chunk: int):
        self.network = network
        self.forward = forward
        self.chunk = chunk

    def match(
        self, real: RealBatch, synthetic: Tensor, distance: FeatureDistance
    ) -> tuple[Tensor, Tensor]:
        """Return L_c = distance(φ(S_c), sg[φ(B_c)]) of every class, (k,), and ∂(Σ_c L_c)/∂S, of the shape of S.

        As many whole classes go together as have ``chunk`` synthetic images, at least one: their
        graph and their real features are what is held at a time. A network with batch norm takes
        all classes, for its statistics are the step's.

        Args:
            real: (k, b, c, h, w), normalised.
            synthetic: (k, n, c, h, w), normalised; a graph behind it is not followed.
            distance: of features, class by class.
        """
        together = (
            len(real) if has_batch_norm(self.network) else max(1, self.chunk // synthetic.shape[1])
        )
        losses, gradients = [], []
        for batch, images in zip(
            real.split(together), synthetic.detach().split(together), strict=True
        ):
            targets = self._targets(batch)
            images.requires_grad_(True)
            found = distance(embed_by_class(self.network, images, self.chunk), targets)
            (gradient,) = torch.autograd.grad(found.sum(), images)
            losses.append(found.detach())
            gradients.append(gradient)
        return torch.cat(losses), torch.cat(gradients)

    @torch.no_grad()
    def _targets(self, batch: RealBatch) -> Tensor:
        """Return the features (k, b, d) of a real batch; with batch norm it is made whole."""
        parts = [batch.tensor()] if has_batch_norm(self.network) else batch.parts()
        return torch.cat(
            [embed_by_class(self.network, part, self.chunk, self.forward) for part in parts]
        )

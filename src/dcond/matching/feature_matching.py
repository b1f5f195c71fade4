"""Feature matching by class: the loss of every class and its image gradient."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dcond.device import even_chunks
from dcond.distributed import current
from dcond.matching.batches import class_chunks, has_batch_norm
from dcond.matching.fast_forward import FastForward
from dcond.matching.lazy_batch import RealBatch
from dcond.matching.target_bank import TargetBank
from dcond.models import Network

FeatureDistance = Callable[[Tensor, Tensor], Tensor]  # synthetic (k, n, d), real (k, b, d) -> (k,)
Summary = Callable[[Tensor], Tensor]  # of real features (k, b, d): (k, ...)


def class_means(features: Tensor) -> Tensor:
    """Return the mean (k, 1, d) of every class's features (k, b, d): all that DM compares with."""
    return features.mean(1, keepdim=True)


@dataclass(eq=False)
class ClassFeatureMatching:
    """Computes and matches the class features φ of one network, in bounded memory.

    Args:
        network: φ. Its weights may change between two calls; none requires a gradient.
        forward: φ of real images, which are not differentiated.
        ours: φ of synthetic images, which are differentiated once.
        chunk: images per forward pass, and synthetic images whose graph exists at a time.
        bank: keeps φ(B), in bfloat16 if that is the precision of the passes; None: none does.
    """

    network: Network
    forward: FastForward
    ours: FastForward
    chunk: int
    bank: TargetBank | None = None

    def match(
        self,
        real: RealBatch,
        synthetic: Tensor,
        distance: FeatureDistance,
        *,
        summary: Summary | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return L_c = distance(φ(S_c), sg[φ(B_c)]) of every class, (k,), and ∂(Σ_c L_c)/∂S.

        Classes are taken in groups of at most ``chunk`` synthetic images, at least one class. Only
        the graph and the real features of one group exist at a time. A network with batch norm
        takes all classes at once, since its statistics are those of the whole step.

        Args:
            real: B (k, b, c, h, w), normalised.
            synthetic: S (k, n, c, h, w), normalised; treated as a leaf.
            distance: distance of features by class.
            summary: what is compared with, and kept by the bank, in place of φ(B), such as
                :func:`class_means`; ``distance`` takes it as its second argument.
        """
        size = max(1, self.chunk // synthetic.shape[1])
        if has_batch_norm(self.network):
            size = len(real)
        losses, gradients = [], []
        for batch, images in zip(real.split(size), synthetic.split(size), strict=True):
            targets = self._targets(batch, summary)
            parts = class_chunks(self.network, images, self.chunk)
            leaves = [part.detach().requires_grad_(True) for part in parts]
            features = torch.cat([self.ours(leaf) for leaf in leaves])
            found = distance(features.view(*images.shape[:2], -1), targets)
            gradient = torch.cat(torch.autograd.grad(found.sum(), leaves)).view_as(images)
            losses.append(found.detach())
            gradients.append(gradient)
        return torch.cat(losses), torch.cat(gradients)

    def _targets(self, batch: RealBatch, summary: Summary | None) -> Tensor:
        """Return the features (k, b, d) of a real batch or their summary, from the bank if kept."""

        def make() -> list[Tensor]:
            features = self._embedded(batch)
            return [features if summary is None else summary(features)]

        if self.bank is None:
            return make()[0]
        rounded = self.forward.bfloat16 and summary is None
        return self.bank.get(batch, make, torch.bfloat16 if rounded else None)[0]

    def cross_entropy(self, synthetic: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy of every class's images, (k,), and ∂(their sum)/∂S.

        The network is used in evaluation mode, so chunks of images do not interact.

        Args:
            synthetic: S (k, n, c, h, w), normalised; treated as a leaf.
        """
        k, n = synthetic.shape[:2]
        ranks, was_training = current(), self.network.training
        labels = ranks.own(torch.arange(ranks.classes(k), device=synthetic.device))
        self.network.eval()
        losses, gradients = [], []
        for images, own in zip(
            even_chunks(synthetic.detach().flatten(0, 1), self.chunk),
            even_chunks(labels.repeat_interleave(n), self.chunk),
            strict=True,
        ):
            images.requires_grad_(True)
            found = F.cross_entropy(self.network(images), own, reduction="none")
            (gradient,) = torch.autograd.grad(found.sum() / n, images)
            losses.append(found.detach())
            gradients.append(gradient)
        self.network.train(was_training)
        return torch.cat(losses).view(k, n).mean(1), torch.cat(gradients).view_as(synthetic)

    @torch.no_grad()
    def _embedded(self, batch: RealBatch) -> Tensor:
        """Return the features (k, b, d) of a real batch; all at once with batch norm."""
        parts = [batch.tensor()] if has_batch_norm(self.network) else batch.parts()
        chunks = (own for part in parts for own in class_chunks(self.network, part, self.chunk))
        return torch.cat([self.forward(own) for own in chunks]).view(*batch.shape[:2], -1)

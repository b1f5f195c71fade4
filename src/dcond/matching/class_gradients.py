"""Gradient matching by class: class gradients, their distance, and its image gradient."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dcond.distributed import current
from dcond.matching.at_once import AtOnce
from dcond.matching.distances import Distance
from dcond.matching.fast_forward import FastForward
from dcond.matching.gradients import (
    class_gradient,
    distances,
    mean_over_chunks,
    stacked_gradients,
    trained,
)
from dcond.matching.lazy_batch import RealBatch, whole
from dcond.matching.target_bank import TargetBank

Group = tuple[Tensor | RealBatch, Tensor, Tensor]  # real and synthetic images, and labels

CACHE_BYTES = 2**29  # maximum size of real class gradients cached between two passes


class Matched(NamedTuple):
    """The result of one matching, detached.

    If several processes share the classes, k is the number of classes of this process, and the
    losses add up over the processes.

    Attributes:
        within: D of every class, (k,); None if this level is not matched.
        across: D of the class-averaged gradients, before its weight k; None if not matched.
        gradient: gradient of the whole loss with respect to the synthetic images.
    """

    within: Tensor | None
    across: Tensor | None
    gradient: Tensor

    def metrics(self) -> dict[str, Tensor]:
        """Return the loss of this process's classes, and its levels if there are two."""
        parts = {}
        if self.within is not None:
            parts["loss_intra"] = self.within.sum()
        if self.across is not None:
            parts["loss_inter"] = len(self.gradient) * self.across
        loss = torch.stack([*parts.values()]).sum()
        return {"loss": loss, **parts} if len(parts) > 1 else {"loss": loss}


@dataclass(eq=False)
class ClassGradients(AtOnce):
    """Computes and matches the class gradients of one network.

    Args:
        network: θ; its parameters with ``requires_grad`` are matched.
        forward: passes of the network that are differentiated once.
        chunk: real images per pass.
        classes: classes that pass through the synthetic side at once; None to choose the fastest
            number in the first step.
        bank: keeps g_c^T of networks that are not trained; None: none does.
    """

    network: nn.Module
    forward: FastForward
    chunk: int
    classes: int | None
    bank: TargetBank | None = None

    def match(
        self,
        real: Tensor | RealBatch,
        synthetic: Tensor,
        distance: Distance,
        *,
        within: bool = True,
        across: bool = False,
    ) -> Matched:
        """Return the matching loss and its image gradient.

        Within the classes L = Σ_c D(g_c^S, sg[g_c^T]), where g_c = ∇_θ ℓ of class c and ℓ is the
        mean cross-entropy. Across the classes L = k · D(ḡ^S, sg[ḡ^T]), where ḡ is the mean of g_c.
        Without batch norm ḡ is the gradient of the balanced mixed batch.

        Args:
            real: (k, b, c, h, w), normalised, class-major, of this process's classes. Batch norm
                must be frozen (:func:`~dcond.matching.gradients.frozen_batch_norm`).
            synthetic: (k, n, c, h, w), normalised; treated as a leaf.
            distance: D (:mod:`dcond.matching.distances`).
            within: match within the classes. At least one of the two must be true.
            across: match across the classes (DEGM, arXiv 2208.00311).
        """
        ranks = current()  # in_groups measures in a group of its own, where labels would start at 0
        labels = ranks.own(torch.arange(ranks.classes(len(real)), device=real.device))

        def step(classes: int) -> Matched:
            parts = (side.split(classes) for side in (real, synthetic.detach(), labels))
            groups: list[Group] = list(zip(*parts, strict=True))
            if across:
                return self._levels(groups, distance, within=within)
            return self._classes(groups, distance)

        return self.in_groups(step, len(real), real.device)

    def _classes(self, groups: list[Group], distance: Distance) -> Matched:
        """Match within the classes, with the graph of one group at a time."""
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for batch, images, labels in groups:
            images.requires_grad_(True)
            targets = self._real(batch, labels)
            found = distances(distance, self._gradients(images, labels, graph=True), targets)
            gradients += torch.autograd.grad(found.sum(), images)
            losses.append(found.detach())
        return Matched(torch.cat(losses), None, torch.cat(gradients))

    def _levels(self, groups: list[Group], distance: Distance, *, within: bool) -> Matched:
        """Match across the classes, and within them if ``within``, exactly, in two passes.

        The first pass computes the means ḡ. The second computes v_c = ∂L/∂g_c^S =
        ∂D(g_c^S, g_c^T)/∂g_c^S + ∂D(ḡ^S, ḡ^T)/∂ḡ^S (weight k times 1/k; the first term only if
        ``within``) and its vector-Jacobian products, with the graph of one group at a time. The
        targets g_c^T are cached between the passes up to ``CACHE_BYTES`` in total, and
        computed twice beyond.
        """
        count = sum(len(labels) for _, _, labels in groups)
        size = count * sum(p.numel() * p.element_size() for p in trained(self.network))
        targets: list[list[Tensor] | None] = []
        ours: list[Tensor] = []  # sums over the classes
        theirs: list[Tensor] = []
        for batch, images, labels in groups:
            target = self._real(batch, labels)
            targets.append(target if within and size <= CACHE_BYTES else None)
            theirs = _added(theirs, target)
            ours = _added(ours, self._gradients(images, labels))
        across, v_mean = value_and_gradient(distance, _mean(ours, count), _mean(theirs, count))
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for (batch, images, labels), kept in zip(groups, targets, strict=True):
            images.requires_grad_(True)
            mine = self._gradients(images, labels, graph=True)
            towards = [v.expand_as(own) for v, own in zip(v_mean, mine, strict=True)]
            if within:
                found, v_class = value_and_gradient(
                    distance, mine, kept or self._real(batch, labels)
                )
                towards = [a + b for a, b in zip(v_class, towards, strict=True)]
                losses.append(found)
            gradients += torch.autograd.grad(mine, images, towards)
        return Matched(torch.cat(losses) if within else None, across[0], torch.cat(gradients))

    def _real(self, batch: Tensor | RealBatch, labels: Tensor) -> list[Tensor]:
        """Return :meth:`_gradients` of real images, chunk by chunk and without a graph."""

        def gradients() -> list[Tensor]:
            images = whole(batch)
            fast = partial(self._gradients, labels=labels, forward=self.forward)
            return mean_over_chunks(images, self.chunk // len(images), fast, dim=1)

        if self.bank is None or isinstance(batch, Tensor):
            return gradients()
        return self.bank.get(batch, gradients)

    def _gradients(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        forward: FastForward | None = None,
        graph: bool = False,
    ) -> list[Tensor]:
        """Return the stacked gradients (g, *shape) of images (g, n, c, h, w)."""
        if len(images) == 1:
            found = class_gradient(
                self.network, images[0], labels, create_graph=graph, forward=forward
            )
            return [g[None] for g in found]
        with nullcontext() if forward is None else forward.precision(images.device):
            return stacked_gradients(self.network, images, labels)


def value_and_gradient(
    distance: Distance, ours: list[Tensor], target: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return D of every class, (g,), and ∂D/∂ours, (g, *shape), zero where D ignores a tensor."""
    leaves = [tensor.detach().requires_grad_(True) for tensor in ours]
    losses = distances(distance, leaves, target)
    return losses.detach(), [*torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)]


def _added(total: list[Tensor], stacked: list[Tensor]) -> list[Tensor]:
    """Add gradients (g, *shape), summed over their classes, to a total (1, *shape) or []."""
    parts = [tensors.sum(0, keepdim=True) for tensors in stacked]
    return [a + b for a, b in zip(total, parts, strict=True)] if total else parts


def _mean(total: list[Tensor], own: int) -> list[Tensor]:
    """Return the mean over the classes of all processes, given this process's sum over ``own``."""
    ranks = current()
    means = [tensors / ranks.classes(own) for tensors in total]
    ranks.sum_(means)
    return means

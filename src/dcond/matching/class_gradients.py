"""Gradient matching class by class: the class gradients of both sets, their distance, and its image gradient."""

import logging
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from dcond.device import even_chunks, fastest
from dcond.distributed import Ranks, current, use_group
from dcond.errors import first_line
from dcond.matching.distances import Distance
from dcond.matching.fast_forward import FastForward
from dcond.matching.gradients import (
    class_gradient,
    distances,
    mean_gradient,
    stacked_gradients,
    trained,
)
from dcond.matching.lazy_batch import RealBatch, whole

log = logging.getLogger(__name__)

T = TypeVar("T")

KEPT_BYTES = 2**29  # of the real class gradients of all classes, kept between two passes

TOO_LARGE = (
    "gradient matching of one class does not fit in the device's memory; "
    "take a smaller engine.chunk, method.batch_real or ipc."
)


class Matched(NamedTuple):
    """What one image step needs.

    within: D of every class, (k,). across: D of the class-averaged gradients before its weight k.
    None where a level is not matched. gradient: of the whole loss with respect to the synthetic
    images, of their shape. All detached. Where several processes share the classes, k is the number
    of this one's, and the losses add up over the processes.
    """

    within: Tensor | None
    across: Tensor | None
    gradient: Tensor

    def metrics(self) -> dict[str, Tensor]:
        """Return the loss, and its levels where there are two; of this process's classes."""
        parts = {}
        if self.within is not None:
            parts["loss_intra"] = self.within.sum()
        if self.across is not None:
            parts["loss_inter"] = len(self.gradient) * self.across
        loss = torch.stack([*parts.values()]).sum()
        return {"loss": loss, **parts} if len(parts) > 1 else {"loss": loss}


class ClassGradients:
    """The class gradients of one network, and how to match them.

    Args:
        network: θ; its parameters with ``requires_grad`` are matched.
        forward: its passes that are differentiated once.
        chunk: real images per pass.
        classes: how many classes go through the synthetic side at once; None measures it in the
            first step.
    """

    def __init__(self, network: nn.Module, forward: FastForward, chunk: int, classes: int | None):
        self.network = network
        self.forward = forward
        self.chunk = chunk
        self.classes = classes

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

        L = Σ_c D(g_c^S, sg[g_c^T]) within the classes, g_c = ∇_θ ℓ of class c and ℓ the mean
        cross-entropy; across them k · D(ḡ^S, sg[ḡ^T]), ḡ the mean over the k classes. Without batch
        norm ḡ is the gradient of the balanced mixed batch, so that level costs no image.

        Args:
            real: (k, b, c, h, w), normalised, class-major, of this process's classes; of a batch
                only ``classes`` exist at a time. Batch norm must be frozen
                (:func:`~dcond.matching.gradients.frozen_batch_norm`).
            synthetic: (k, n, c, h, w), normalised; a graph behind it is not followed.
            distance: D (:mod:`dcond.matching.distances`).
            within: the first sum is part of the loss. At least one of the two must be.
            across: the second term is part of the loss (DEGM, arXiv 2208.00311).
        """

        def step(classes: int) -> Matched:
            if across:
                return self._levels(real, synthetic, distance, classes, within=within)
            return self._classes(real, synthetic, distance, classes)

        if self.classes is None:
            with use_group(Ranks()):  # each process by itself; then what suits all of them
                found = self._or_one(lambda: fastest(len(real), step, real.device, TOO_LARGE))
            self.classes = -int(current().largest(-(found or 1))[0])
            log.info("gradient matching takes %d of %d classes at once", self.classes, len(real))
        if self.classes > 1:
            many = self.classes
            matched = self._or_one(lambda: step(many))
            if matched is not None:
                return matched
            self.classes = 1
        return step(1)

    @staticmethod
    def _or_one(work: Callable[[], T]) -> T | None:
        """Return what work with several classes at once gives; None, and say so, where the network cannot do that.

        ``vmap`` refuses some layers, such as dropout. What else is wrong comes again with one
        class.
        """
        try:
            return work()
        except torch.OutOfMemoryError:  # a RuntimeError too
            raise
        except RuntimeError as error:
            log.warning(
                "this network cannot take several classes at once, so they are taken in turn: %s",
                first_line(error),
            )
            return None

    def _classes(
        self, real: Tensor | RealBatch, synthetic: Tensor, distance: Distance, classes: int
    ) -> Matched:
        """Match class by class; the graph of ``classes`` classes lives at a time."""
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for batch, images, labels in self._groups(real, synthetic, classes):
            images.requires_grad_(True)
            targets = self._real(batch, labels)
            found = distances(distance, self._synthetic(images, labels, graph=True), targets)
            gradients += torch.autograd.grad(found.sum(), images)
            losses.append(found.detach())
        return Matched(torch.cat(losses), None, torch.cat(gradients))

    def _levels(
        self,
        real: Tensor | RealBatch,
        synthetic: Tensor,
        distance: Distance,
        classes: int,
        *,
        within: bool,
    ) -> Matched:
        """Match across the classes, and within them if asked, in two passes, exactly.

        The first finds the means ḡ, the second v_c = ∂L/∂g_c^S = ∂D(g_c^S, g_c^T)/∂g_c^S + ∂D(ḡ^S,
        ḡ^T)/∂ḡ^S (weight k times 1/k) and its vector-Jacobian products, with the graph of
        ``classes`` classes at a time. Without ``within`` v_c is the second term alone. The targets
        g_c^T stay from the first pass to the second where those of all classes take ``KEPT_BYTES``
        or less; larger ones are computed twice.
        """
        groups = list(self._groups(real, synthetic, classes))
        size = len(real) * sum(
            parameter.numel() * parameter.element_size() for parameter in trained(self.network)
        )
        targets: list[list[Tensor] | None] = []
        ours: list[Tensor] = []  # sums over the classes
        theirs: list[Tensor] = []
        for batch, images, labels in groups:
            target = self._real(batch, labels)
            targets.append(target if within and size <= KEPT_BYTES else None)
            theirs = _added(theirs, target)
            ours = _added(ours, self._synthetic(images, labels, graph=False))
        across, v_mean = value_and_gradient(
            distance, _mean(ours, len(real)), _mean(theirs, len(real))
        )
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for (batch, images, labels), kept in zip(groups, targets, strict=True):
            images.requires_grad_(True)
            mine = self._synthetic(images, labels, graph=True)
            towards = [v.expand_as(own) for v, own in zip(v_mean, mine, strict=True)]
            if within:
                found, v_class = value_and_gradient(
                    distance, mine, kept or self._real(batch, labels)
                )
                towards = [a + b for a, b in zip(v_class, towards, strict=True)]
                losses.append(found)
            gradients += torch.autograd.grad(mine, images, towards)
        return Matched(torch.cat(losses) if within else None, across[0], torch.cat(gradients))

    @staticmethod
    def _groups(
        real: Tensor | RealBatch, synthetic: Tensor, classes: int
    ) -> list[tuple[Tensor | RealBatch, Tensor, Tensor]]:
        group = current()
        labels = group.own(torch.arange(group.classes(len(real)), device=real.device))
        parts = (real.split(classes), synthetic.detach().split(classes), labels.split(classes))
        return list(zip(*parts, strict=True))

    def _real(self, batch: Tensor | RealBatch, labels: Tensor) -> list[Tensor]:
        """Return the stacked gradients (g, *shape) of real images (g, b, c, h, w), without a graph."""
        images = whole(batch)
        if len(images) == 1:
            found = mean_gradient(self.network, images[0], labels, self.chunk, self.forward)
            return [g[None] for g in found]
        total: list[Tensor] = []
        for part in even_chunks(images, self.chunk // len(images), dim=1):
            with self.forward.precision(images.device):
                found = stacked_gradients(self.network, part, labels)
            found = [g * (part.shape[1] / images.shape[1]) for g in found]
            total = [t + g for t, g in zip(total, found, strict=True)] if total else found
        return total

    def _synthetic(self, images: Tensor, labels: Tensor, *, graph: bool) -> list[Tensor]:
        """Return the stacked gradients (g, *shape) of synthetic images (g, n, c, h, w)."""
        if len(images) > 1:
            return stacked_gradients(self.network, images, labels)
        return [
            g[None] for g in class_gradient(self.network, images[0], labels, create_graph=graph)
        ]


def value_and_gradient(
    distance: Distance, ours: list[Tensor], target: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return D of every class, (g,), and ∂D/∂ours, (g, *shape), zeros for tensors that take no part."""
    leaves = [tensor.detach().requires_grad_(True) for tensor in ours]
    losses = distances(distance, leaves, target)
    found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
    return losses.detach(), [
        torch.zeros_like(a) if g is None else g for a, g in zip(leaves, found, strict=True)
    ]


def _added(total: list[Tensor], stacked: list[Tensor]) -> list[Tensor]:
    """Return a sum over classes, (1, *shape) or empty yet, with those of stacked gradients (g, *shape) added."""
    parts = [tensors.sum(0, keepdim=True) for tensors in stacked]
    return [a + b for a, b in zip(total, parts, strict=True)] if total else parts


def _mean(total: list[Tensor], own: int) -> list[Tensor]:
    """Return the mean over all classes, of all processes, (1, *shape), of the sum over the ``own`` of this one."""
    ranks = current()
    means = [tensors / ranks.classes(own) for tensors in total]
    ranks.sum_(means)
    return means

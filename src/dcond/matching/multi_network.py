"""Matching losses of several networks and of their mutual distillation."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack

from torch import Tensor

from dcond.matching.alignment import Alignment
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.distances import Distance
from dcond.matching.distillation import match_distillation
from dcond.matching.gradients import frozen_batch_norm
from dcond.matching.lazy_batch import RealBatch
from dcond.models import Network


def match_networks(
    networks: Sequence[Network],
    gradients: Sequence[ClassGradients],
    alignment: Alignment | None,
    real: RealBatch,
    synthetic: Tensor,
    distance: Distance,
    fast: AbstractContextManager[object],
) -> tuple[list[Tensor], list[Tensor]]:
    """Return every loss L_j, summed over classes, and ∂L_j/∂S, with one network's graph at a time.

    L_k = Σ_c D(∇_θk ℓ_k(S_c), sg[∇_θk ℓ_k(B_c)]) for k = 1 ... K. With an alignment
    the loss of :func:`~dcond.matching.distillation.match_distillation` comes last.

    Args:
        networks: θ_1 ... θ_K; batch norm is frozen on ``real`` during the call.
        gradients: class gradients of each network.
        alignment: P and M; None for no L_MD.
        real: B (k, b, c, h, w), normalised, class-major.
        synthetic: S (k, n, c, h, w), normalised; treated as a leaf.
        distance: D.
        fast: precision of the distillation's real side, a reusable context.

    Returns:
        K or K + 1 scalars, and as many gradients of the shape of S; all detached.
    """
    losses, towards = [], []
    with ExitStack() as frozen:
        for network in networks:
            frozen.enter_context(frozen_batch_norm(network, real))
        for own in gradients:
            found = own.match(real, synthetic, distance)
            assert found.within is not None
            losses.append(found.within.sum())
            towards.append(found.gradient)
        if alignment is not None:
            within, gradient = match_distillation(
                networks, alignment, real, synthetic, distance, chunk=gradients[0].chunk, fast=fast
            )
            losses.append(within.sum())
            towards.append(gradient)
    return losses, towards

"""Matching losses of several networks and of their mutual distillation."""

from collections.abc import Sequence
from contextlib import ExitStack

from torch import Tensor

from dcond.matching.alignment import Alignment
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.distances import Distance
from dcond.matching.distillation import Distillation
from dcond.matching.gradients import frozen_batch_norm
from dcond.matching.lazy_batch import RealBatch


def match_networks(
    gradients: Sequence[ClassGradients],
    distillation: Distillation,
    alignment: Alignment | None,
    real: RealBatch,
    synthetic: Tensor,
    distance: Distance,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return every loss L_j, summed over classes, and ∂L_j/∂S, with one network's graph at a time.

    L_k = Σ_c D(∇_θk ℓ_k(S_c), sg[∇_θk ℓ_k(B_c)]) for k = 1 ... K. With an alignment
    the loss of :meth:`.Distillation.match` comes last.

    Args:
        gradients: class gradients of each network.
        distillation: those of the distillation loss of the same networks, θ_1 ... θ_K; batch norm
            is frozen on ``real`` during the call.
        alignment: P and M; None for no L_MD.
        real: B (k, b, c, h, w), normalised, class-major.
        synthetic: S (k, n, c, h, w), normalised; treated as a leaf.
        distance: D.

    Returns:
        K or K + 1 scalars, and as many gradients of the shape of S; all detached.
    """
    losses, towards = [], []
    with ExitStack() as frozen:
        for network in distillation.networks:
            frozen.enter_context(frozen_batch_norm(network, real))
        for own in gradients:
            found = own.match(real, synthetic, distance)
            assert found.within is not None
            losses.append(found.within.sum())
            towards.append(found.gradient)
        if alignment is not None:
            within, gradient = distillation.match(alignment, real, synthetic, distance)
            losses.append(within.sum())
            towards.append(gradient)
    return losses, towards

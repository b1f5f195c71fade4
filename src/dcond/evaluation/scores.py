"""DD-Ranking's scores from accuracies that are fractions.

Source: github NUS-HPC-AI-Lab/DD-Ranking, the definitions in its paper. Its package (0.2.0) puts per
cent into the exponential, so that its figures are not these.
"""

import math
from collections.abc import Mapping
from typing import Any

from dcond.errors import require
from dcond.evaluation.results import EvalResult

Accuracies = Mapping[str, float]  # by what was trained on; see score


def hlr(real_hard: float, synthetic_hard: float) -> float:
    """Hard label recovery: accuracy lost against the whole real set, hard labels both; lower is better."""
    return _fraction(real_hard) - _fraction(synthetic_hard)


def ior(synthetic: float, random: float) -> float:
    """Improvement over random: gain over as many real images under the same protocol; higher is better."""
    return _fraction(synthetic) - _fraction(random)


def lrs(improvement: float, recovery: float, weight: float = 0.5) -> float:
    """Label robust score in [0, 1]: α = w·IOR - (1 - w)·HLR, LRS = (e^α - e^-1) / (e - e^-1)."""
    return _squashed(weight * improvement - (1 - weight) * recovery)


def ars(augmented: float, unaugmented: float, weight: float = 0.5) -> float:
    """Augmentation robust score in [0, 1]: β = γ·IOR with + (1 - γ)·IOR without augmentation, squashed as LRS."""
    return _squashed(weight * augmented + (1 - weight) * unaugmented)


def score(found: Accuracies) -> dict[str, float | None]:
    """Return ``ior``, ``hlr``, ``lrs`` and ``ars``, null where an accuracy that one needs is missing.

    Args:
        found: accuracies by what was trained on: ``condensed``, ``hard_labels`` (the same images,
            hard labels), ``random``, ``full``, ``condensed_unaugmented``, ``random_unaugmented``.
    """
    improvement = (
        ior(found["condensed"], found["random"])
        if {"condensed", "random"} <= found.keys()
        else None
    )
    recovery = (
        hlr(found["full"], found["hard_labels"])
        if {"full", "hard_labels"} <= found.keys()
        else None
    )
    bare = None
    if {"condensed_unaugmented", "random_unaugmented"} <= found.keys():
        bare = ior(found["condensed_unaugmented"], found["random_unaugmented"])
    return {
        "ior": improvement,
        "hlr": recovery,
        "lrs": None if improvement is None or recovery is None else lrs(improvement, recovery),
        "ars": None if improvement is None or bare is None else ars(improvement, bare),
    }


def scores(found: Mapping[str, EvalResult]) -> dict[str, Any] | None:
    """Return the scores of the pool's average accuracies, and under ``networks`` those of each; null if there is none.

    Args:
        found: results by what was trained on, as :func:`score` names it, on one pool.
    """
    pool = score({name: result.average for name, result in found.items()})
    if all(value is None for value in pool.values()):
        return None
    networks = {
        network: score({name: result.networks[network].mean for name, result in found.items()})
        for network in found["condensed"].networks
    }
    return pool | {"networks": networks}


def _squashed(exponent: float) -> float:
    return (math.exp(exponent) - math.exp(-1)) / (math.e - math.exp(-1))


def _fraction(accuracy: float) -> float:
    require(
        0 <= accuracy <= 1, f"accuracy {accuracy} is no fraction; scores take 0 to 1, not per cent."
    )
    return accuracy

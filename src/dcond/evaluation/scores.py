"""DD-Ranking's scores, from accuracies as fractions.

Source: github NUS-HPC-AI-Lab/DD-Ranking; the definitions are those of its paper. Its package
(0.2.0) puts per cent into the exponential, so its values differ from these.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from dcond.errors import require
from dcond.evaluation.results import EvalResult

SCORES = {"ior": "IOR", "hlr": "HLR", "lrs": "LRS", "ars": "ARS"}  # in the order of all tables


def hlr(real_hard: float, synthetic_hard: float) -> float:
    """Hard label recovery: Acc(full real set) - Acc(set), with hard labels; lower is better."""
    return _fraction(real_hard) - _fraction(synthetic_hard)


def ior(synthetic: float, random: float) -> float:
    """Improvement over random: Acc(set) - Acc(random images of the same number); higher is better.

    Both accuracies come from the same protocol.
    """
    return _fraction(synthetic) - _fraction(random)


def lrs(improvement: float, recovery: float, weight: float = 0.5) -> float:
    """Label robust score in [0, 1]: α = w·IOR - (1 - w)·HLR, LRS = (e^α - e^-1) / (e - e^-1)."""
    return _squash(weight * improvement - (1 - weight) * recovery)


def ars(augmented: float, unaugmented: float, weight: float = 0.5) -> float:
    """Augmentation robust score in [0, 1], squashed like LRS.

    The exponent is β = γ·IOR with augmentation + (1 - γ)·IOR without.
    """
    return _squash(weight * augmented + (1 - weight) * unaugmented)


def score(accuracies: Mapping[str, float]) -> dict[str, float | None]:
    """Return ``ior``, ``hlr``, ``lrs`` and ``ars``; None if a required accuracy is missing.

    Args:
        accuracies: by training set: ``condensed``, ``hard_labels`` (the same images with hard
            labels), ``random``, ``full``, ``condensed_unaugmented``, ``random_unaugmented``.
    """

    def difference(of: Callable[[float, float], float], first: str, second: str) -> float | None:
        known = first in accuracies and second in accuracies
        return of(accuracies[first], accuracies[second]) if known else None

    improvement = difference(ior, "condensed", "random")
    unaugmented = difference(ior, "condensed_unaugmented", "random_unaugmented")
    recovery = difference(hlr, "full", "hard_labels")
    return {
        "ior": improvement,
        "hlr": recovery,
        "lrs": None if improvement is None or recovery is None else lrs(improvement, recovery),
        "ars": None
        if improvement is None or unaugmented is None
        else ars(improvement, unaugmented),
    }


def scores(results: Mapping[str, EvalResult]) -> dict[str, Any] | None:
    """Return the scores of the pool's average, and under ``networks`` those of each network.

    Args:
        results: by training set, as in :func:`score`, all on one pool.

    Returns:
        The object of ``result.json``; None if no score can be computed.
    """
    pool = score({name: result.average for name, result in results.items()})
    if all(value is None for value in pool.values()):
        return None
    networks = {
        network: score({name: result.networks[network].mean for name, result in results.items()})
        for network in results["condensed"].networks
    }
    return pool | {"networks": networks}


def _squash(exponent: float) -> float:
    return (math.exp(exponent) - math.exp(-1)) / (math.e - math.exp(-1))


def _fraction(accuracy: float) -> float:
    allowed = 0 <= accuracy <= 1
    require(allowed, f"accuracy={accuracy} is out of range; allowed: fractions from 0 to 1.")
    return accuracy

"""Means over runs, and when one mean is ahead of another."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from dcond.stats import interval95, quantile975


@dataclass(frozen=True)
class Estimate:
    """One figure of several runs: a value per run, in any unit; at least one."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """How many runs."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation over the runs, with n - 1; None for one run."""
        return statistics.stdev(self.values) if self.n > 1 else None

    @property
    def ci95(self) -> float | None:
        """Half width of the mean's 95 % interval; None for one run."""
        return interval95(list(self.values))


def of_each(found: Iterable[tuple[object, dict[str, float]]]) -> list[dict[str, float]]:
    """Return the mean accuracies, by network, of each set or draw, of which there may be several evaluations."""
    together: dict[object, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for which, accuracies in found:
        for network, accuracy in accuracies.items():
            together[which][network].append(accuracy)
    return [
        {network: statistics.fmean(values) for network, values in each.items()}
        for each in together.values()
    ]


def difference95(first: Estimate, second: Estimate) -> float | None:
    """Half width of the 95 % interval of the difference of two means, for unequal variances; None without variances.

    t(0.975, ν) · √(s₁²/n₁ + s₂²/n₂) with ν = (s₁²/n₁ + s₂²/n₂)² / Σ (sᵢ²/nᵢ)²/(nᵢ - 1) (Welch,
    1947). The runs are not taken as pairs: the same seed draws unlike things in unlike methods.
    """
    if first.std is None or second.std is None:
        return None
    parts = [
        estimate.std**2 / estimate.n for estimate in (first, second) if estimate.std is not None
    ]
    variance = sum(parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(
        part**2 / (estimate.n - 1) for part, estimate in zip(parts, (first, second), strict=True)
    )
    return quantile975(freedom) * math.sqrt(variance)


def is_ahead(first: Estimate, second: Estimate) -> bool:
    """Tell whether the first mean is above the second by more than the 95 % interval of their difference."""
    interval = difference95(first, second)
    return interval is not None and first.mean - second.mean > interval

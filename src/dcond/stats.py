"""Means, their 95 % intervals and differences.

Imports neither torch nor scipy.stats, which would take a second.
"""

import math
import statistics
from dataclasses import dataclass

from scipy.special import stdtrit


def quantile975(freedom: float) -> float:
    """Return the 0.975 quantile of Student's t; the degrees of freedom need not be whole."""
    return float(stdtrit(freedom, 0.975))


class Sample:
    """Mean, standard deviation and 95 % interval of ``values``: one per run, or per network."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation (n - 1); None for one value."""
        return statistics.stdev(self.values) if self.n > 1 else None

    @property
    def ci95(self) -> float | None:
        """Half width t(0.975, n - 1) · std / √n of the mean's 95 % interval; None for one value."""
        std = self.std
        return None if std is None else quantile975(self.n - 1) * std / math.sqrt(self.n)

    def percent(self, sign: str = "") -> str:
        """Write fractions as ``51.2 ± 0.4``: mean and half width of its 95 % interval, per cent.

        Args:
            sign: "+" writes the sign of a positive mean too.
        """
        interval = "" if self.ci95 is None else f" ± {100 * self.ci95:.1f}"
        return f"{100 * self.mean:{sign}.1f}{interval}"


@dataclass(frozen=True)
class Estimate(Sample):
    """A quantity measured in one or more runs: one value per run."""

    values: tuple[float, ...]


def difference95(first: Estimate, second: Estimate) -> float | None:
    """Return the half width of the 95 % interval of the difference of two means.

    t(0.975, ν) · √(s₁²/n₁ + s₂²/n₂) with ν = (s₁²/n₁ + s₂²/n₂)² / Σ (sᵢ²/nᵢ)²/(nᵢ - 1), for unequal
    variances (Welch, 1947). The runs are not paired: one seed draws different things in different
    methods. None if one of the two has a single run.
    """
    if first.std is None or second.std is None:
        return None
    variances = [first.std**2 / first.n, second.std**2 / second.n]
    variance = sum(variances)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(
        part**2 / (estimate.n - 1)
        for part, estimate in zip(variances, (first, second), strict=True)
    )
    return quantile975(freedom) * math.sqrt(variance)


def is_ahead(first: Estimate, second: Estimate) -> bool:
    """Return whether the first mean exceeds the second by more than :func:`difference95`."""
    interval = difference95(first, second)
    return interval is not None and first.mean - second.mean > interval

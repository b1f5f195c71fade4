"""95 % intervals of means, for everybody; imports neither torch nor scipy.stats, which would take a second."""

import math
import statistics

from scipy.special import stdtrit


def quantile975(freedom: float) -> float:
    """Return the 0.975 quantile of Student's t for so many degrees of freedom, whole or not."""
    return float(stdtrit(freedom, 0.975))


def interval95(values: list[float]) -> float | None:
    """Half width of the 95 % confidence interval of the mean, t(0.975, R - 1) · std / √R; null for one value."""
    if len(values) < 2:
        return None
    return quantile975(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))

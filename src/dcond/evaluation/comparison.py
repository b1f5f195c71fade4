"""Two sets compared on networks that start alike, so that what they share cancels."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dcond.evaluation.results import EvalResult
from dcond.stats import interval95


@dataclass(frozen=True)
class Difference:
    """Accuracy of one set minus that of another, repeat by repeat."""

    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean difference."""
        return fmean(self.differences)

    @property
    def ci95(self) -> float | None:
        """Half width of its 95 % interval, from the paired differences; null for one repeat."""
        return interval95(list(self.differences))

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.ci95 is not None and abs(self.mean) > self.ci95

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of ``result.json``."""
        return {
            "differences": list(self.differences),
            "mean": self.mean,
            "ci95": self.ci95,
            "clear": self.clear,
        }


@dataclass(frozen=True)
class Comparison:
    """Differences per network, and of the pool's average in each repeat."""

    networks: dict[str, Difference]
    average: Difference

    def as_dict(self) -> dict[str, Any]:
        """Return the object of ``result.json``."""
        networks = {name: difference.as_dict() for name, difference in self.networks.items()}
        return {"networks": networks, "average": self.average.as_dict()}


def compare(ours: EvalResult, theirs: EvalResult) -> Comparison:
    """Return ours minus theirs; both from the same protocol, pool and seed, else the pairs are none."""
    networks = {
        name: Difference(
            tuple(
                a - b
                for a, b in zip(result.accuracies, theirs.networks[name].accuracies, strict=True)
            )
        )
        for name, result in ours.networks.items()
    }
    by_repeat = zip(*(difference.differences for difference in networks.values()), strict=True)
    return Comparison(networks, Difference(tuple(fmean(repeat) for repeat in by_repeat)))

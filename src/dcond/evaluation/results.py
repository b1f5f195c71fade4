"""Evaluation results and paired comparisons; accuracies are fractions in [0, 1]."""

import statistics
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from dcond.stats import Sample

HARD = "hard"  # labels of random images beside a set with soft ones


@dataclass(frozen=True)
class NetworkResult(Sample):
    """Test accuracies of one network after its last epoch, one per repeat.

    Args:
        accuracies: fractions in [0, 1].
        lr: initial learning rate; None for a linear probe, which has none.
        epochs: number of training epochs; None for a linear probe.
        wall_s: seconds of training and testing.
        best: largest test accuracy over the tested epochs, per repeat, as some papers report it;
            not used in any mean or score.
        searched: held-out accuracy by learning rate, if the rate was searched.
    """

    accuracies: tuple[float, ...]
    lr: float | None
    epochs: int | None
    wall_s: float
    best: Annotated[
        tuple[float, ...] | None, Field(validation_alias="best_over_epochs_on_test")
    ] = None
    searched: Annotated[dict[float, float] | None, Field(validation_alias="lr_search")] = None

    @property
    def values(self) -> tuple[float, ...]:  # type: ignore[override]
        """The accuracies."""
        return self.accuracies

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of ``result.json``."""
        searched = self.searched
        return {
            "accuracies": list(self.accuracies),
            "mean": self.mean,
            "std": self.std,
            "ci95": self.ci95,
            "lr": self.lr,
            "epochs": self.epochs,
            "wall_s": self.wall_s,
            "lr_search": searched and {repr(float(lr)): value for lr, value in searched.items()},
            "best_over_epochs_on_test": self.best and list(self.best),
        }


@dataclass(frozen=True)
class EvalResult:
    """Results of a pool of networks on one set under one protocol.

    Args:
        protocol: name of the protocol.
        networks: result of each network, by name.
        teacher: description of the teacher that labelled the batches, if any.
        tested_on: "test", or "held_out" training images; None if it is that of the run.
        labels: of random images beside a set with soft labels: "hard", or "as METHOD", by the same
            networks; None elsewhere.
    """

    protocol: str
    networks: dict[str, NetworkResult]
    teacher: dict[str, Any] | None = None
    tested_on: str | None = None
    labels: str | None = None

    @property
    def average(self) -> float:
        """Mean over the networks of their mean accuracies."""
        return statistics.fmean(result.mean for result in self.networks.values())

    @property
    def wall_s(self) -> float:
        """Seconds of training and testing, all networks together."""
        return sum(result.wall_s for result in self.networks.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the object of ``result.json``."""
        networks = {name: result.as_dict() for name, result in self.networks.items()}
        optional = {"tested_on": self.tested_on, "labels": self.labels}
        return {
            "protocol": self.protocol,
            "networks": networks,
            "average": self.average,
            "teacher": self.teacher,
        } | {name: value for name, value in optional.items() if value is not None}


@dataclass(frozen=True)
class Difference(Sample):
    """Accuracy of one set minus that of another, per repeat."""

    values: Annotated[tuple[float, ...], Field(validation_alias="differences")]

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.ci95 is not None and abs(self.mean) > self.ci95

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of ``result.json``."""
        return {
            "differences": list(self.values),
            "mean": self.mean,
            "ci95": self.ci95,
            "clear": self.clear,
        }


@dataclass(frozen=True)
class Comparison:
    """Paired differences of two sets, per network and of the pool's average."""

    networks: dict[str, Difference]
    average: Difference


def compare(first: EvalResult, second: EvalResult) -> Comparison:
    """Return the paired differences first - second.

    Both results must come from the same protocol, pool and seed: the networks of a repeat then
    start from the same weights, so that their common variation cancels. Repeats of a linear probe
    that are equal are one computation: they count once and have no interval.
    """
    networks = {}
    for name, result in first.networks.items():
        pairs = list(zip(result.accuracies, second.networks[name].accuracies, strict=True))
        if result.epochs is None and len(set(pairs)) == 1:
            pairs = pairs[:1]
        networks[name] = Difference(tuple(a - b for a, b in pairs))
    count = max(difference.n for difference in networks.values())
    repeats = zip(*(each.values * (count // each.n) for each in networks.values()), strict=True)
    return Comparison(networks, Difference(tuple(map(statistics.fmean, repeats))))

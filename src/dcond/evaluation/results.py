"""What an evaluation found; accuracies are fractions everywhere but on screen."""

import statistics
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from dcond.stats import interval95


@dataclass(frozen=True)
class NetworkResult:
    """Last-epoch test accuracies of one network, one per repeat.

    ``best`` are the largest of several looks at the test set, as some papers print: an extra, in no
    mean or score. ``searched`` are held-out accuracies by learning rate, where that was searched.
    """

    accuracies: tuple[float, ...]
    lr: float
    epochs: int
    wall_s: float
    best: Annotated[
        tuple[float, ...] | None, Field(validation_alias="best_over_epochs_on_test")
    ] = None
    searched: Annotated[dict[float, float] | None, Field(validation_alias="lr_search")] = None

    @property
    def mean(self) -> float:
        """Mean accuracy over the repeats."""
        return statistics.fmean(self.accuracies)

    @property
    def ci95(self) -> float | None:
        """Half width of the mean's 95 % interval."""
        return interval95(list(self.accuracies))

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of ``result.json``."""
        values = list(self.accuracies)
        return {
            "accuracies": values,
            "mean": self.mean,
            "std": statistics.stdev(values) if len(values) > 1 else None,
            "ci95": self.ci95,
            "lr": self.lr,
            "epochs": self.epochs,
            "wall_s": self.wall_s,
            "lr_search": None
            if self.searched is None
            else {f"{lr:g}": value for lr, value in self.searched.items()},
            "best_over_epochs_on_test": None if self.best is None else list(self.best),
        }


@dataclass(frozen=True)
class EvalResult:
    """Results of every network of a pool on one set under one protocol.

    Args:
        protocol: its name.
        networks: by the network's name.
        teacher: what labelled the batches: network, accuracy, temperature; None for the set's own
            labels.
        tested_on: "test", or "held_out" training images; None where it is that of the run.
    """

    protocol: str
    networks: dict[str, NetworkResult]
    teacher: dict[str, Any] | None = None
    tested_on: str | None = None

    @property
    def average(self) -> float:
        """Mean over the networks of their mean accuracies."""
        return statistics.fmean(result.mean for result in self.networks.values())

    @property
    def wall_s(self) -> float:
        """Seconds spent training and testing."""
        return sum(result.wall_s for result in self.networks.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the object of ``result.json``."""
        networks = {name: result.as_dict() for name, result in self.networks.items()}
        return {
            "protocol": self.protocol,
            "networks": networks,
            "average": self.average,
            "teacher": self.teacher,
        } | ({} if self.tested_on is None else {"tested_on": self.tested_on})

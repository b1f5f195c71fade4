"""Trainings spread over the processes of a run, and what they found brought together; one process does all of them."""

from collections.abc import Callable, Iterator, Sequence

import torch

from dcond.distributed import current
from dcond.evaluation.vmap_training import Pairs, TrainingJob


class Spread:
    """A table of trainings that processes take in turn, along one row after the other.

    Args:
        networks: a row each.
        columns: trainings of each.
        train: yields what is found of each of some trainings of one network.
    """

    def __init__(
        self,
        networks: Sequence[str],
        columns: int,
        train: Callable[[Sequence[TrainingJob]], Iterator[tuple[float, float]]],
    ):
        self._ranks, self._networks, self._columns, self._train = (
            current(),
            networks,
            columns,
            train,
        )
        self._found = torch.zeros(len(networks), columns, 2, dtype=torch.float64)
        self.wall_s = [0.0] * len(networks)  # for the caller to fill in

    def own(self, row: int) -> list[int]:
        """Return the columns of a row that are this process's."""
        turns = range(row * self._columns, (row + 1) * self._columns)
        return [
            column
            for column, turn in enumerate(turns)
            if turn % self._ranks.count == self._ranks.rank
        ]

    def take(
        self,
        row: int,
        training: Callable[[int], TrainingJob],
        progress: Callable[[str], None] = lambda note: None,
    ) -> None:
        """Do this process's part of a row.

        Args:
            row: which.
            training: makes that of a column.
            progress: told how many of the row have ended; those of other processes count when the
                own ones have.
        """
        own, name = self.own(row), self._networks[row]
        found = self._train([training(column) for column in own]) if own else iter(())
        for done, (column, pair) in enumerate(zip(own, found, strict=True), 1):
            self._found[row, column] = torch.tensor(pair, dtype=torch.float64)
            progress(f"{name} {done}/{self._columns}")
        for done in range(len(own), self._columns):
            progress(f"{name} {done + 1}/{self._columns}")

    def gathered(self) -> list[Pairs]:
        """Return what all processes found, row by row; ``wall_s`` becomes the longest of theirs."""
        self._ranks.sum_([self._found])
        self.wall_s = self._ranks.largest(*self.wall_s)
        return [[(last, best) for last, best in row] for row in self._found.tolist()]

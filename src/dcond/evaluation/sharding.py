"""Distribute the trainings of an evaluation over the processes of a run and gather the results."""

from collections.abc import Callable, Iterator, Sequence

import torch

from dcond.distributed import current
from dcond.evaluation.vmap_training import Pairs, TrainingJob


class TrainingGrid:
    """A grid of trainings, distributed round robin over the processes, row by row.

    Args:
        networks: names of the networks, one row each.
        columns: trainings per network.
        train: yields the result (last, best accuracy) of each of several trainings of one network.
    """

    def __init__(
        self,
        networks: Sequence[str],
        columns: int,
        train: Callable[[Sequence[TrainingJob]], Iterator[tuple[float, float]]],
    ):
        self._ranks, self._networks, self._columns = current(), networks, columns
        self._train = train
        self._results = torch.zeros(len(networks), columns, 2, dtype=torch.float64)
        self.wall_s = [0.0] * len(networks)  # set by the caller

    def own_columns(self, row: int) -> list[int]:
        """Return the columns of a row that this process trains."""
        first, ranks = row * self._columns, self._ranks
        return [i for i in range(self._columns) if (first + i) % ranks.count == ranks.rank]

    def run_row(
        self,
        row: int,
        job: Callable[[int], TrainingJob],
        progress: Callable[[str], None] = lambda note: None,
    ) -> None:
        """Do this process's trainings of a row.

        Args:
            row: index of the network.
            job: returns the training of a column.
            progress: called with the number of finished trainings; those of other processes are
                counted once the own ones have finished.
        """
        own, name = self.own_columns(row), self._networks[row]
        results = self._train([job(column) for column in own]) if own else iter(())
        for done, (column, pair) in enumerate(zip(own, results, strict=True), 1):
            self._results[row, column] = torch.tensor(pair, dtype=torch.float64)
            progress(f"{name} {done}/{self._columns}")
        for done in range(len(own), self._columns):
            progress(f"{name} {done + 1}/{self._columns}")

    def gather(self) -> list[tuple[Pairs, float]]:
        """Return every row's results of all processes, and its longest time."""
        self._ranks.sum_([self._results])
        rows: list[Pairs] = [[(last, best) for last, best in row] for row in self._results.tolist()]
        return list(zip(rows, self._ranks.largest(*self.wall_s), strict=True))

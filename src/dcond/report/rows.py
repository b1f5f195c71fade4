"""The tables of a report: rows of runs, blocks of comparable rows, and the whole."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from dcond.report.collect import CollectedRuns
from dcond.report.record import RunRecord
from dcond.run.result import TEST
from dcond.stats import Estimate

AVERAGE = "average"
RANK = {"done": 2, "interrupted": 1, "failed": 0}  # of a run's status, the best first


@dataclass(frozen=True, kw_only=True)
class Row:
    """Runs of one method that differ only in the seed, or one baseline of a block.

    Args:
        title: name of the method or baseline.
        note: distinguishes the row from others with the same title.
        baseline: whether it is a baseline.
        runs: the runs; none for a baseline.
        accuracies: by network, and :data:`AVERAGE`; a value per set or draw.
        missing: seeds that other rows of the family have.
        absent: the method has no run at this ipc, but at another one.
        best: columns in which the row is ahead of all others.
    """

    title: str
    note: str = ""
    baseline: bool = False
    runs: tuple[RunRecord, ...] = ()
    accuracies: dict[str, Estimate]
    missing: tuple[int, ...] = ()
    absent: bool = False
    best: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Title and note on one line."""
        return f"{self.title} ({self.note})" if self.note else self.title

    @property
    def done(self) -> tuple[RunRecord, ...]:
        """The finished runs."""
        return tuple(run for run in self.runs if run.status == "done")

    @property
    def without_accuracy(self) -> Counter[str]:
        """Number of sets without an accuracy, by the status of their runs.

        If a set has several runs, failed counts before interrupted, and that before done.
        """
        evaluated = {run.set_id for run in self.runs if run.evaluated}
        status_of_set: dict[str, str] = {}
        for run in sorted(self.runs, key=lambda run: -RANK[run.status]):
            if run.set_id not in evaluated:
                status_of_set[run.set_id] = run.status
        return Counter(status_of_set.values())

    def cost(self, *names: str) -> Estimate | None:
        """Return the sum of the named costs over the finished runs that recorded the first."""
        costs = [run.cost for run in self.done if names[0] in run.cost]
        return _estimate(sum(cost.get(name, 0.0) for name in names) for cost in costs)

    def condensing(self) -> Estimate | None:
        """Return the seconds of condensing: choosing the initial images, and all steps."""
        return self.cost("condense_wall_s", "start_wall_s")

    def score(self, name: str) -> Estimate | None:
        """Return a score over the sets that have it; evaluations of one set are averaged first."""
        found: dict[str, list[float]] = defaultdict(list)
        for run in self.done:
            if name in run.scores:
                found[run.set_id].append(run.scores[name])
        return _estimate(map(fmean, found.values()))


def _estimate(values: Iterable[float]) -> Estimate | None:
    values = tuple(values)
    return Estimate(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Block:
    """Comparable rows: one data set, ipc and protocol, the same networks and test images."""

    dataset: str
    ipc: int
    protocol: str
    tested_on: str
    note: str  # distinguishes it from blocks with the same data set, ipc and protocol
    networks: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def family(self) -> tuple[str, str, str, str, tuple[str, ...]]:
        """Key that blocks share if they differ in the ipc only."""
        return self.dataset, self.protocol, self.tested_on, self.note, tuple(sorted(self.networks))

    @property
    def subject(self) -> str:
        """Description of the family on one line."""
        protocol = f"protocol {self.protocol}" if self.protocol else "not evaluated"
        images = f"tested on {self.tested_on.replace('_', '-')} images"
        parts = self.dataset, protocol, "" if self.tested_on == TEST else images, self.note
        return ", ".join(filter(None, parts))

    @property
    def title(self) -> str:
        """Description of the block on one line."""
        return f"{self.subject}, ipc {self.ipc}"

    @property
    def method_rows(self) -> list[Row]:
        """Rows of methods that have runs."""
        return [row for row in self.rows if not row.baseline and not row.absent]


@dataclass(frozen=True)
class Report:
    """The grouped runs.

    Args:
        blocks: in the order of the report.
        runs: one run per configuration and seed.
        repeated: number of further runs of the same configurations.
        merged: settings in which runs of one row differ, because ``group_by`` omits them.
        collected: all runs.
    """

    blocks: tuple[Block, ...]
    runs: tuple[RunRecord, ...]
    repeated: int
    merged: tuple[str, ...]
    collected: CollectedRuns

    @property
    def families(self) -> list[list[Block]]:
        """Blocks that differ in the ipc only, together."""
        families: dict[object, list[Block]] = defaultdict(list)
        for block in self.blocks:
            families[block.family].append(block)
        return list(families.values())

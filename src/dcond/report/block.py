"""What a table is made of: a block of rows that may be compared."""

from collections import Counter
from dataclasses import dataclass

from dcond.report.estimate import Estimate
from dcond.report.record import RunRecord
from dcond.run.result import TEST

AVERAGE = "average"
BASELINE_TITLES = {
    "random": "random real images",
    "random_decoded": "random, shrunken",
    "full": "whole real set",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Runs of one method that differ in nothing but the seed, or one baseline of a block."""

    title: str
    note: str = ""  # what tells it from the method's other rows
    baseline: bool = False
    outcomes: tuple[RunRecord, ...] = ()
    accuracies: dict[str, Estimate]  # by network, and AVERAGE; empty where no run has any
    missing: tuple[int, ...] = ()  # seeds that other rows of the family have
    absent: bool = False  # the method has no run here, though at another ipc
    best: frozenset[str] = frozenset()  # columns in which it is ahead of all others

    @property
    def name(self) -> str:
        """Title and note in one line."""
        return f"{self.title} ({self.note})" if self.note else self.title

    def of_status(self, status: str) -> tuple[RunRecord, ...]:
        """Return its runs that ended so."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == status)

    @property
    def lacking(self) -> Counter[str]:
        """How many of its sets have no accuracy, by how their runs ended: failed before interrupted before done."""
        scored = {run.sample for run in self.outcomes if run.evaluated}
        ended: dict[str, str] = {}
        for status in ("done", "interrupted", "failed"):
            ended |= {
                run.sample: status for run in self.of_status(status) if run.sample not in scored
            }
        return Counter(ended.values())

    def figure(self, kind: str, name: str) -> Estimate | None:
        """Return a figure of ``cost`` or ``scores`` over the runs that are done, or None where no run has it."""
        values = [getattr(outcome, kind).get(name) for outcome in self.of_status("done")]
        known = tuple(value for value in values if value is not None)
        return Estimate(known) if known else None

    def condensing(self) -> Estimate | None:
        """Return the seconds that making a set took: its first images, or the choice of real ones, and all steps."""
        costs = [
            outcome.cost for outcome in self.of_status("done") if "condense_wall_s" in outcome.cost
        ]
        return (
            Estimate(tuple(cost["condense_wall_s"] + cost.get("start_wall_s", 0) for cost in costs))
            if costs
            else None
        )


@dataclass(frozen=True, kw_only=True)
class Block:
    """What may be compared: one data set, one ipc, one protocol, the same networks and images to test them on."""

    dataset: str
    ipc: int
    protocol: str
    tested_on: str
    note: str  # what tells it from blocks of the same data set, ipc and protocol
    networks: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def family(self) -> tuple[str, str, str, str, tuple[str, ...]]:
        """What it shares with the same study at other ipc."""
        return self.dataset, self.protocol, self.tested_on, self.note, tuple(sorted(self.networks))

    @property
    def subject(self) -> str:
        """What its family is about, in one line."""
        tested = f"protocol {self.protocol}" if self.protocol else "not evaluated"
        on = (
            "" if self.tested_on == TEST else f"tested on {self.tested_on.replace('_', '-')} images"
        )
        return ", ".join(part for part in (self.dataset, tested, on, self.note) if part)

    @property
    def title(self) -> str:
        """What it is about, in one line."""
        return f"{self.subject}, ipc {self.ipc}"

"""What stands in each cell: one set of sheets that the terminal, Markdown, LaTeX and the page all write."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from dcond.report.block import AVERAGE, Block, Row
from dcond.report.estimate import Estimate
from dcond.report.grouping import Report
from dcond.report.record import RunRecord
from dcond.run.progress import format_duration

LEGEND = (
    "Test accuracy of the last epoch (on held-out training images where the title says so), per cent, mean ± standard "
    "deviation over n runs (seeds); 95 %: half width of the average's interval. Bold: ahead of every other row by more "
    "than the 95 % interval of the difference."
)
SCORES = ("ior", "hlr", "lrs", "ars")
NOTHING = "–"
LACKS = {
    "failed": "failed",
    "interrupted": "interrupted",
    "done": "not evaluated",
}  # sets without an accuracy


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and what is printed small below it."""

    text: str
    small: str = ""
    bold: bool = False
    warn: str = ""  # small as well, and meant to be seen


@dataclass(frozen=True)
class Sheet:
    """One table; the first column is words, the others are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    heads: int = 1  # columns that say what a row is about
    tail: int = 0  # last columns, which are read together


def accuracy_sheet(block: Block) -> Sheet:
    """Lay out a block: a row per method and baseline, a column per network."""
    names = [*block.networks, AVERAGE] if block.networks else []
    rows = []
    for row in block.rows:
        average = row.accuracies.get(AVERAGE)
        rows.append(
            (
                Cell(row.title, row.note, warn=marks(row)),
                *(
                    Cell(format_mean_std(row.accuracies.get(name)), bold=name in row.best)
                    for name in names
                ),
                Cell(format_ci95(average)),
                Cell(count(row)),
            )
        )
    return Sheet(block.title, ("method", *names, "95 %", "n"), tuple(rows), tail=3 if names else 2)


def cost_sheets(report: Report) -> list[Sheet]:
    """Lay out what runs cost, and their scores where they have any: a sheet per family, a row per ipc and method."""
    return [sheet for blocks in report.families if (sheet := cost_sheet(blocks)).rows]


def cost_sheet(blocks: list[Block]) -> Sheet:
    """Lay out the costs of a family."""
    rows = [
        (block, row) for block in blocks for row in row_of_methods(block) if row.of_status("done")
    ]
    scores = [name for name in SCORES if any(row.figure("scores", name) for _, row in rows)]
    cells = []
    for block, row in rows:
        wall, evaluate = row.condensing(), row.figure("cost", "evaluate_wall_s")
        step, memory = (row.figure("cost", name) for name in ("step_s_median", "peak_memory_bytes"))
        found = [row.figure("scores", name) for name in scores]
        cells.append(
            (
                Cell(row.title, row.note),
                Cell(str(block.ipc)),
                Cell(format_duration(wall.mean) if wall else NOTHING),
                Cell(f"{step.mean:.3g}" if step else NOTHING),
                Cell(f"{memory.mean / 1e6:,.0f}" if memory else NOTHING),
                Cell(format_duration(evaluate.mean) if evaluate else NOTHING),
                *(Cell(f"{score.mean:.3f}" if score else NOTHING) for score in found),
            )
        )
    columns = (
        "method",
        "ipc",
        "condensing",
        "s/step",
        "peak MB",
        "evaluation",
        *(name.upper() for name in scores),
    )
    return Sheet(f"cost: {blocks[0].subject}", columns, tuple(cells), heads=2, tail=len(scores))


def row_of_methods(block: Block) -> list[Row]:
    """Return the rows of methods that have runs."""
    return [row for row in block.rows if not row.baseline and not row.absent]


def format_mean_std(estimate: Estimate | None) -> str:
    """Write ``51.2 ± 0.4``: mean and standard deviation of fractions, per cent."""
    if estimate is None:
        return NOTHING
    return f"{100 * estimate.mean:.1f}" + (
        "" if estimate.std is None else f" ± {100 * estimate.std:.1f}"
    )


def format_ci95(estimate: Estimate | None) -> str:
    """Write the half width of a mean's 95 % interval, per cent."""
    return NOTHING if estimate is None or estimate.ci95 is None else f"± {100 * estimate.ci95:.1f}"


def count(row: Row) -> str:
    """Write how many runs are in the average, and of how many where some failed or are missing."""
    n = row.accuracies[AVERAGE].n if AVERAGE in row.accuracies else 0
    expected = (
        n if row.baseline else max(n, len({run.sample for run in row.outcomes}) + len(row.missing))
    )
    return str(n) if n == expected else f"{n}/{expected}"


def marks(row: Row) -> str:
    """Say what a row lacks: sets whose runs failed, were interrupted or not evaluated, and missing seeds."""
    if row.absent:
        return "no run"
    lacking = row.lacking
    words = [f"{lacking[status]} {word}" for status, word in LACKS.items() if lacking[status]]
    if row.missing:
        words.append(f"seed {', '.join(map(str, row.missing))} missing")
    return "; ".join(words)


def notes(report: Report) -> list[str]:
    """Return a line for everything that is not in the tables, or should be known beside them."""
    found, lines = report.found, []
    for status in ("failed", "interrupted"):
        for run in report.outcomes:
            if run.status == status:
                lines.append(f"{status}: {run.folder}" + (f": {run.error}" if run.error else ""))
    lines += [f"no result yet (running, or killed): {folder}" for folder in found.unfinished]
    lines += [f"skipped: {file}: {reason}" for file, reason in found.skipped]
    if report.repeated:
        lines.append(
            f"{report.repeated} run(s) of a configuration and seed that another run has too, counted once"
        )
    if report.merged:
        lines.append(
            f"runs of one row differ in what --group-by leaves out: {', '.join(report.merged)}"
        )
    return lines + _unlike(report.outcomes)


def _unlike(outcomes: Iterable[RunRecord]) -> list[str]:
    """Name the devices and PyTorch versions where there are several."""
    done = [run for run in outcomes if run.status == "done"]
    lines = []
    for what, values in (
        ("devices", Counter(run.device for run in done if run.device)),
        (
            "versions of torch",
            Counter(run.versions["torch"] for run in done if run.versions.get("torch")),
        ),
        (
            "versions of dcond",
            Counter(run.versions["dcond"] for run in done if run.versions.get("dcond")),
        ),
    ):
        if len(values) > 1:
            each = ", ".join(f"{name} ({count})" for name, count in sorted(values.items()))
            lines.append(f"runs of several {what}: {each}; compare costs with care")
    return lines

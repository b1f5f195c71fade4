"""The cells of all tables; the terminal, Markdown, LaTeX and the page only format them."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dcond.evaluation.scores import SCORES
from dcond.log import format_duration
from dcond.report.rows import AVERAGE, Block, Report, Row
from dcond.stats import Estimate

LEGEND = (
    "Accuracy after the last epoch on the test images (on held-out training images where the title "
    "says so), in per cent: mean ± half width of its 95 % interval, t(0.975, n - 1) · std / √n, "
    "over n runs (seeds). std: standard deviation of the average over the runs. Bold: ahead of "
    "every other row by more than the 95 % interval of the difference."
)
ACCURACY_CAPTION = "accuracy in %, mean ± 95 % interval of the mean"
COST_CAPTION = "means over the runs"
NONE = "–"
UNEVALUATED = {"failed": "failed", "interrupted": "interrupted", "done": "not evaluated"}


@dataclass(frozen=True)
class Cell:
    """One cell: text, and smaller text below it."""

    text: str
    small: str = ""
    bold: bool = False
    warning: str = ""  # small as well, but highlighted


@dataclass(frozen=True)
class Sheet:
    """One table; the first column holds names, the others numbers."""

    title: str
    caption: str  # what the numbers are
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    heads: int = 1  # first columns that identify a row
    tail: int = 0  # last columns that are kept together


def report_contents(report: Report) -> tuple[list[Sheet], list[Sheet], list[str]]:
    """Return the sheets of accuracies, the sheets of costs and scores, and the notes."""
    accuracies = [accuracy_sheet(block) for block in report.blocks]
    costs = [sheet for blocks in report.families if (sheet := cost_sheet(blocks)).rows]
    return accuracies, costs, notes(report)


def accuracy_sheet(block: Block) -> Sheet:
    """Return a block's accuracies: a row per method and baseline, a column per network."""
    names = [*block.networks, AVERAGE] if block.networks else []
    rows = []
    for row in block.rows:
        found = [row.accuracies.get(name) for name in names]
        cells = [
            Cell(NONE if each is None else each.percent(), bold=name in row.best)
            for name, each in zip(names, found, strict=True)
        ]
        average = row.accuracies.get(AVERAGE)
        deviation = None if average is None else average.std
        std = Cell(NONE if deviation is None else f"{100 * deviation:.1f}")
        rows.append((Cell(row.title, row.note, warning=marks(row)), *cells, std, Cell(count(row))))
    columns = ("method", *names, "std", "n")
    return Sheet(block.title, ACCURACY_CAPTION, columns, tuple(rows), tail=3 if names else 2)


def cost_sheet(blocks: list[Block]) -> Sheet:
    """Return the costs and scores of a family: a row per ipc and method."""
    rows = [(block, row) for block in blocks for row in block.method_rows if row.done]
    scores = [name for name in SCORES if any(row.score(name) for _, row in rows)]
    cells = []
    for block, row in rows:
        numbers = [
            f"{block.ipc}",
            _format(row.condensing(), format_duration),
            _format(row.cost("step_s_median"), "{:.3g}".format),
            _format(row.cost("peak_memory_bytes"), lambda size: f"{size / 1e6:,.0f}"),
            _format(row.cost("evaluate_wall_s"), format_duration),
            *(_format(row.score(name), "{:.3f}".format) for name in scores),
        ]
        cells.append((Cell(row.title, row.note), *map(Cell, numbers)))
    names = "method", "ipc", "condensing", "s/step", "peak MB", "evaluation"
    columns = *names, *(SCORES[name] for name in scores)
    title = f"cost: {blocks[0].subject}"
    caption = COST_CAPTION + ("; scores as fractions" if scores else "")
    caption += ", a lower HLR is better" if "hlr" in scores else ""
    return Sheet(title, caption, columns, tuple(cells), heads=2, tail=len(scores))


def count(row: Row) -> str:
    """Return the number of runs in the average; ``3/4`` if one of four is missing."""
    n = row.accuracies[AVERAGE].n if AVERAGE in row.accuracies else 0
    sets = len({run.set_id for run in row.runs})
    expected = n if row.baseline else max(n, sets + len(row.missing))
    return str(n) if n == expected else f"{n}/{expected}"


def marks(row: Row) -> str:
    """Return what a row lacks: accuracies of its runs, and seeds."""
    if row.absent:
        return "no run"
    counts = row.without_accuracy
    parts = [f"{counts[status]} {text}" for status, text in UNEVALUATED.items() if counts[status]]
    if row.missing:
        parts.append(f"seed {', '.join(map(str, row.missing))} missing")
    return "; ".join(parts)


def notes(report: Report) -> list[str]:
    """Return everything that is not in the tables, one line each."""
    collected, lines = report.collected, []
    for status in ("failed", "interrupted"):
        for run in report.runs:
            if run.status == status:
                lines.append(f"{status}: {run.folder}" + (f": {run.error}" if run.error else ""))
    lines += [
        f"no result (running, killed, or refused before it began): {folder}"
        for folder in collected.unfinished
    ]
    lines += [f"skipped: {file}: {reason}" for file, reason in collected.skipped]
    if report.repeated:
        lines.append(
            f"{report.repeated} run(s) repeat the configuration and seed of another; counted once"
        )
    if report.merged:
        lines.append(
            f"runs of one row differ in settings not in --group-by: {', '.join(report.merged)}"
        )
    return [*lines, *_mixed_environments(report)]


def _mixed_environments(report: Report) -> Iterator[str]:
    """Yield a line if the runs used several devices or versions."""
    done = [run for run in report.runs if run.status == "done"]
    for name, values in (
        ("devices", [run.device for run in done]),
        ("versions of torch", [run.versions.get("torch", "") for run in done]),
        ("versions of dcond", [run.versions.get("dcond", "") for run in done]),
    ):
        counts = Counter(filter(None, values))
        if len(counts) > 1:
            parts = ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))
            yield f"runs with several {name}: {parts}; their costs may not be comparable"


def _format(estimate: Estimate | None, text: Callable[[float], str]) -> str:
    return NONE if estimate is None else text(estimate.mean)

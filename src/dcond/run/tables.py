"""The tables of a run: accuracies in per cent; ± is the 95 % interval of the mean."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dcond.evaluation.results import HARD, Comparison, Difference, EvalResult
from dcond.evaluation.scores import SCORES

BASELINE_TITLES = {"random": "random", "random_decoded": "random, shrunken"}


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a run prints; shown by ``print`` and, in a notebook, as HTML."""

    parts: Sequence[RenderableType]

    def __str__(self) -> str:
        return self._printed().export_text().rstrip()

    def _repr_html_(self) -> str:
        page = '<pre style="line-height: 1.2">{code}</pre>'
        return self._printed().export_html(inline_styles=True, code_format=page)

    def _printed(self) -> Console:
        # In a notebook rich would show what it prints beside what is returned here.
        console = Console(
            file=io.StringIO(), record=True, width=120, markup=False, force_jupyter=False
        )
        console.print(*self.parts, sep="\n")
        return console


def accuracy_caption(ours: EvalResult, accuracy: str) -> str:
    """Say what the figures of an evaluation are."""
    repeats = len(next(iter(ours.networks.values())).accuracies)
    counted = (
        f"mean ± 95 % interval over {repeats} trainings of each network"
        if repeats > 1
        else "one training of each network, no interval"
    )
    trained = any(result.epochs is not None for result in ours.networks.values())
    last = ", last epoch" if trained else ""
    return f"{accuracy} %, {counted}{last}, protocol {ours.protocol}{_labels(ours.teacher)}"


def accuracy_rows(results: Sequence[EvalResult]) -> list[list[str]]:
    """Return the accuracies of several sets: a row per network, and the average."""
    rows = [
        [name, *(result.networks[name].percent() for result in results)]
        for name in results[0].networks
    ]
    return [*rows, ["average", *(f"{100 * result.average:.1f}" for result in results)]]


def markdown_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a pipe table whose cells are Markdown; all columns but the first hold numbers."""
    head = list(columns)
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    lines.insert(1, f"|---|{'---:|' * (len(head) - 1)}")
    return "\n".join(lines) + "\n"


def cross_architecture(
    title: str,
    ours: EvalResult,
    baselines: dict[str, EvalResult],
    accuracy: str = "test accuracy",
    untested: str = "",
) -> Table:
    """Make the cross-architecture table: a row per network, a column per set, and the gain.

    Args:
        title: shown above.
        ours: results of the synthetic set.
        baselines: results of the same protocol on random real images, by name; the gain is over
            the best.
        accuracy: name of the figures in the caption.
        untested: classes without test images, for the caption.
    """
    caption = accuracy_caption(ours, accuracy)
    caption += "; gain over the better of the baselines" if len(baselines) > 1 else ""
    caption += random_labels(baselines.values())
    caption += f"; no test image of class {untested}" if untested else ""
    table = _table(caption, title)
    table.add_column("condensed", justify="right", style="bold", no_wrap=True)
    for name in baselines:
        table.add_column(BASELINE_TITLES[name], justify="right", no_wrap=True)
    if baselines:
        table.add_column("gain", justify="right", no_wrap=True)
    *rows, last = accuracy_rows([ours, *baselines.values()])
    for (name, *cells), network in zip(rows, ours.networks, strict=True):
        others = [baseline.networks[network].mean for baseline in baselines.values()]
        table.add_row(Text(name), *cells, *_gain(ours.networks[network].mean, others))
    averages = [baseline.average for baseline in baselines.values()]
    table.add_section()
    table.add_row(*last, *_gain(ours.average, averages))
    return table


def random_labels(baselines: Iterable[EvalResult]) -> str:
    """Say how random images are labelled beside a set with soft labels."""
    labels = {baseline.labels for baseline in baselines} - {None}
    if not labels:
        return ""
    return (
        "; the set has soft labels, random images have hard ones"
        if labels == {HARD}
        else "; random images have soft labels of the networks that labelled the set"
    )


def _labels(teacher: dict[str, Any] | None) -> str:
    """Describe the teacher that labelled the batches."""
    if teacher is None:
        return ""
    network, accuracy = teacher["network"], 100 * teacher["accuracy"]
    temperature = f"temperature {teacher['temperature']:g}"
    return f", labels by a teacher ({network}, {accuracy:.1f} %) at {temperature}"


def _gain(ours: float, others: list[float]) -> list[str]:
    """Write the difference to the best of the others, in points."""
    return [f"{100 * (ours - max(others)):+.1f}"] if others else []


def score_table(scores: dict[str, Any], full: EvalResult | None) -> Table:
    """Make the table of scores: a row per network, a column per known score, times 100.

    Args:
        scores: as :func:`dcond.evaluation.scores.scores` returns them.
        full: results on the whole training set, if known.
    """
    table = _table("scores x 100: HLR lower is better, the others higher")
    if full is not None:
        table.add_column("whole data", justify="right", no_wrap=True)
    shown = [key for key in SCORES if scores[key] is not None]
    for key in shown:
        table.add_column(SCORES[key], justify="right", no_wrap=True)
    for name, entry in scores["networks"].items():
        whole = [] if full is None else [full.networks[name].percent()]
        table.add_row(Text(name), *whole, *(f"{100 * entry[key]:.1f}" for key in shown))
    table.add_section()
    whole = [] if full is None else [f"{100 * full.average:.1f}"]
    table.add_row("average", *whole, *(f"{100 * scores[key]:.1f}" for key in shown))
    return table


def comparison_table(
    names: tuple[str, str], ours: EvalResult, theirs: EvalResult, comparison: Comparison
) -> Table:
    """Make the table of two sets: both accuracies and their paired difference, in points.

    Args:
        names: of the two sets.
        ours: results of the first.
        theirs: results of the second.
        comparison: their differences.
    """
    table = _table(
        "difference in points, mean ± 95 % interval over pairs of equal initial weights; *: not 0"
    )
    for name in (*names, "difference"):
        table.add_column(Text(name), justify="right", overflow="fold")
    *rows, last = accuracy_rows([ours, theirs])
    for (name, *both), difference in zip(rows, comparison.networks.values(), strict=True):
        table.add_row(Text(name), *both, _points(difference))
    table.add_section()
    table.add_row(*last, _points(comparison.average))
    return table


def _table(caption: str, title: str = "") -> Table:
    """Make a table whose first column has the networks."""
    table = Table(
        title=Text(title, "table.title") if title else None,  # a user's name is no markup
        caption=Text(caption, "table.caption"),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        min_width=64,
    )
    table.add_column("network", no_wrap=True)
    return table


def _points(difference: Difference) -> str:
    return f"{difference.percent('+')}{' *' if difference.clear else ''}"

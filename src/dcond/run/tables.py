"""The tables of a run: accuracies in per cent; ± is the 95 % interval of the mean."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dcond.evaluation.results import Comparison, Difference, EvalResult, NetworkResult
from dcond.evaluation.scores import SCORES

BASELINE_TITLES = {"random": "random", "random_decoded": "random, shrunken"}


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a run prints; shown by ``print`` and, in a notebook, as HTML."""

    parts: Sequence[RenderableType]

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), record=True, width=120)
        console.print(*self.parts, sep="\n")
        return console.export_text().rstrip()

    def _repr_html_(self) -> str:
        console = Console(file=io.StringIO(), record=True, width=120)
        console.print(*self.parts, sep="\n")
        page = '<pre style="line-height: 1.2">{code}</pre>'
        return console.export_html(inline_styles=True, code_format=page)


def percent(result: NetworkResult) -> str:
    """Write ``51.2 ± 0.4``: mean and half width of its 95 % interval, per cent."""
    spread = "" if result.ci95 is None else f" ± {100 * result.ci95:.1f}"
    return f"{100 * result.mean:.1f}{spread}"


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
    repeats = len(next(iter(ours.networks.values())).accuracies)
    counted = (
        f"mean ± 95 % interval over {repeats} networks each"
        if repeats > 1
        else "one network each, no interval"
    )
    caption = (
        f"{accuracy} %, {counted}, last epoch, protocol {ours.protocol}{_labels(ours.teacher)}"
    )
    caption += "; gain over the better of the baselines" if len(baselines) > 1 else ""
    caption += f"; no test image of class {untested}" if untested else ""
    table = Table(
        title=Text(title, "table.title"),  # texts throughout: a user's name is no markup
        caption=Text(caption, "table.caption"),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        min_width=64,
    )
    table.add_column("network", no_wrap=True)
    table.add_column("condensed", justify="right", style="bold", no_wrap=True)
    for name in baselines:
        table.add_column(BASELINE_TITLES[name], justify="right", no_wrap=True)
    if baselines:
        table.add_column("gain", justify="right", no_wrap=True)
    for name, result in ours.networks.items():
        others = [baseline.networks[name] for baseline in baselines.values()]
        row = [percent(result), *map(percent, others)]
        table.add_row(Text(name), *row, *_gain(result.mean, [other.mean for other in others]))
    averages = [baseline.average for baseline in baselines.values()]
    row = ["average", f"{100 * ours.average:.1f}", *(f"{100 * value:.1f}" for value in averages)]
    table.add_section()
    table.add_row(*row, *_gain(ours.average, averages))
    return table


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
    table.add_column("network", no_wrap=True)
    if full is not None:
        table.add_column("whole data", justify="right", no_wrap=True)
    shown = [key for key in SCORES if scores[key] is not None]
    for key in shown:
        table.add_column(SCORES[key], justify="right", no_wrap=True)
    for name, entry in scores["networks"].items():
        whole = [] if full is None else [percent(full.networks[name])]
        table.add_row(Text(name), *whole, *(f"{100 * entry[key]:.1f}" for key in shown))
    table.add_section()
    whole = [] if full is None else [f"{100 * full.average:.1f}"]
    table.add_row("pool", *whole, *(f"{100 * scores[key]:.1f}" for key in shown))
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
        "difference in points, mean ± 95 % interval over pairs that start alike; *: not 0"
    )
    table.add_column("network", no_wrap=True)
    for name in (*names, "difference"):
        table.add_column(Text(name), justify="right", overflow="fold")
    for name, difference in comparison.networks.items():
        both = (percent(result.networks[name]) for result in (ours, theirs))
        table.add_row(Text(name), *both, _points(difference))
    table.add_section()
    table.add_row(
        "average",
        f"{100 * ours.average:.1f}",
        f"{100 * theirs.average:.1f}",
        _points(comparison.average),
    )
    return table


def _table(caption: str) -> Table:
    return Table(caption=caption, box=box.SIMPLE_HEAD, caption_justify="left", min_width=64)


def _points(difference: Difference) -> str:
    spread = "" if difference.ci95 is None else f" ± {100 * difference.ci95:.1f}"
    return f"{100 * difference.mean:+.1f}{spread}{' *' if difference.clear else ''}"

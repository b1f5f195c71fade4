"""The tables on the terminal of scores, and of two sets compared; per cent and points here and only here."""

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from dcond.evaluate import EvalResult
from dcond.evaluate.results import Comparison, Difference
from dcond.run.tables import percent

SCORES = {"hlr": "HLR", "ior": "IOR", "lrs": "LRS", "ars": "ARS"}


def score_table(scores: dict[str, Any], full: EvalResult | None) -> Table:
    """Make the table of scores: a row per network, a column per score that exists, times 100.

    Args:
        scores: as :func:`dcond.evaluate.scores.scores` returns them.
        full: results on the whole real set, where there are.
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
    """Make the table of two sets: a row per network, both accuracies and the paired difference in points.

    Args:
        names: how the two are called.
        ours: results of the first.
        theirs: results of the second.
        comparison: their differences.
    """
    table = _table(
        "difference in points, mean ± 95 % interval over pairs that start alike; * leaves out 0"
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

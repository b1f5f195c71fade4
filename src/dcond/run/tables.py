"""The cross-architecture table on the terminal: accuracies in per cent, here and only here."""

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from dcond.evaluate import EvalResult, NetworkResult

BASELINE_TITLES = {"random": "random", "random_decoded": "random, shrunken"}


def percent(result: NetworkResult) -> str:
    """Write ``51.2 ± 0.4``: mean and half width of its 95 % interval, per cent."""
    spread = "" if result.ci95 is None else f" ± {100 * result.ci95:.1f}"
    return f"{100 * result.mean:.1f}{spread}"


def cross_architecture(
    title: str, ours: EvalResult, baselines: dict[str, EvalResult], accuracy: str = "test accuracy"
) -> Table:
    """Make the final table: a row per network, a column per set, and the gain over the best baseline.

    Args:
        title: what is compared, shown above.
        ours: the synthetic set's result.
        baselines: results of the same protocol on random real images, by name.
        accuracy: how the figures are called.
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
    """Say what labelled the batches."""
    if teacher is None:
        return ""
    accuracy = f"{100 * teacher['accuracy']:.1f} %"
    return f", labels by a teacher ({teacher['network']}, {accuracy}) at temperature {teacher['temperature']:g}"


def _gain(ours: float, others: list[float]) -> list[str]:
    """Write the distance to the best of the others, in points."""
    return [f"{100 * (ours - max(others)):+.1f}"] if others else []

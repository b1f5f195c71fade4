"""The report's figures: accuracy over ipc and over cost, a heat map of networks and methods, loss curves."""

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dcond.report.block import AVERAGE, Block, Row
from dcond.report.estimate import Estimate
from dcond.report.figure_style import (
    DASHES,
    GREY,
    Drawing,
    add_legend,
    check_installed,
    look,
    panels,
    style,
    wrapped,
    written,
)
from dcond.report.grouping import Report
from dcond.report.run_files import Curve
from dcond.report.sheets import row_of_methods
from dcond.run.result import ACCURACY, TEST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Looks = dict[str, dict[str, Any]]  # how each row is drawn, by its name


def draw(report: Report, curves: Sequence[Curve] = ()) -> list[Drawing]:
    """Draw every figure for which there is something to show, family after family.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    check_installed()
    drawings: list[Drawing] = []
    with style():
        for index, blocks in enumerate(report.families):
            drawings += _of_a_family(index, blocks, curves, {drawing.name for drawing in drawings})
    return drawings


def _of_a_family(
    index: int, blocks: list[Block], curves: Sequence[Curve], taken: set[str]
) -> Iterator[Drawing]:
    first = blocks[0]
    rows = {row.name: None for block in blocks for row in row_of_methods(block)}
    looks = {name: look(number) for number, name in enumerate(rows)}
    kinds = (
        ("accuracy_over_ipc", "Accuracy over images per class", _over_ipc(blocks, looks)),
        ("accuracy_over_cost", "Accuracy over condensing time", _over_cost(blocks, looks)),
        ("networks", "Accuracy of every network", _heat_map(blocks)),
        ("loss", "Loss while condensing", _losses(blocks, curves, looks)),
    )
    tested = "" if first.tested_on == TEST else first.tested_on
    slug = re.sub(r"[^\w-]+", "_", f"{first.dataset}_{first.protocol}_{tested}").strip("_")[:60]
    for kind, title, figure in kinds:
        if figure is None:
            continue
        name = next(
            n
            for i in itertools.count(1)
            if (n := f"{kind}_{slug}" + (f"_{i}" if i > 1 else "")) not in taken
        )
        taken.add(name)
        yield written(figure, name, f"{title}: {first.subject}", index)


def _over_ipc(blocks: list[Block], looks: Looks) -> "Figure | None":
    """Draw the average accuracy over ipc, a line per row; error bars are 95 % intervals."""
    ipcs = sorted({block.ipc for block in blocks})
    points: dict[str, list[tuple[int, Estimate]]] = defaultdict(list)
    for block in blocks:
        for row in block.rows:
            if AVERAGE in row.accuracies:
                points[row.name].append((block.ipc, row.accuracies[AVERAGE]))
    if len(ipcs) < 2 or not points:
        return None
    figure, (axes,) = panels(1, (5.6, 3.6))
    baselines = iter(itertools.cycle(DASHES[1:]))
    handles = {}
    for index, (name, found) in enumerate(points.items()):
        aside = 1.03 ** (index - (len(points) - 1) / 2)  # so that error bars do not hide each other
        look = looks.get(name) or {"color": GREY, "linestyle": next(baselines), "marker": "."}
        found.sort(key=lambda point: point[0])
        handles[name] = _bars(
            axes, [ipc * aside for ipc, _ in found], [estimate for _, estimate in found], look
        )
    axes.set_xscale("log")
    axes.set_xticks(ipcs, labels=[str(ipc) for ipc in ipcs])
    axes.minorticks_off()
    axes.set_xlabel("images per class")
    axes.margins(y=0.08)
    _accuracy_axis(axes, blocks[0])
    add_legend(figure, handles)
    return figure


def _bars(
    axes: "Axes", places: list[float], estimates: list[Estimate], look: dict[str, Any]
) -> Any:
    spreads = [100 * (estimate.ci95 or 0.0) for estimate in estimates]
    means = [100 * estimate.mean for estimate in estimates]
    return axes.errorbar(
        places, means, yerr=spreads, capsize=2.5, linewidth=1.4, elinewidth=0.9, **look
    )


def _accuracy_axis(axes: "Axes", block: Block) -> None:
    axes.set_ylabel(f"mean {_accuracy(block)}, %")
    low, high = axes.get_ylim()
    low, high = max(low, 0.0), min(high, 102.0)  # intervals may leave what an accuracy can be
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= 100])
    axes.set_ylim(low, high)
    axes.grid(True)


def _accuracy(block: Block) -> str:
    return ACCURACY.get(block.tested_on, "accuracy")


def _over_cost(blocks: list[Block], looks: Looks) -> "Figure | None":
    """Draw the average accuracy over the seconds of condensing, a panel per ipc; selection is at zero."""
    costs = [(block, found) for block in blocks if (found := _costs(block))]
    seconds = [wall for _, found in costs for _, wall, _ in found]
    if not any(seconds):
        return None
    figure, all_axes = panels(len(costs))
    least = min(wall for wall in seconds if wall > 0)
    handles = {}
    for axes, (block, found) in zip(all_axes, costs, strict=True):
        free = [row.name for row, wall, _ in found if wall == 0]
        for row, wall, estimate in found:
            aside = (
                0.12 * least * (free.index(row.name) - (len(free) - 1) / 2)
                if row.name in free
                else 0
            )
            handles[row.name] = _bars(
                axes, [wall + aside], [estimate], looks[row.name] | {"linestyle": "none"}
            )
        axes.set_xscale("symlog", linthresh=least, linscale=0.5)
        axes.set_xlim(-0.5 * least, 2 * max(seconds))
        ticks = _ticks(least, 2 * max(seconds))
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.margins(y=0.08)
        axes.set_title(f"ipc {block.ipc}")
        axes.set_xlabel("condensing, s")
        _accuracy_axis(axes, block)
    add_legend(figure, handles)
    return figure


def _ticks(least: float, most: float) -> list[float]:
    """Return zero and the round numbers of a range; the powers of ten alone where they are enough."""
    powers = [10.0**power for power in range(-3, 9)]
    round_numbers = [factor * power for power in powers for factor in (1, 2, 5)]
    inside = [
        [number for number in numbers if least <= number <= most]
        for numbers in (powers, round_numbers)
    ]
    return [0.0, *inside[len(inside[0]) < 2]]


def _costs(block: Block) -> list[tuple[Row, float, Estimate]]:
    return [
        (row, wall.mean, row.accuracies[AVERAGE])
        for row in row_of_methods(block)
        if AVERAGE in row.accuracies and (wall := row.condensing())
    ]


def _heat_map(blocks: list[Block]) -> "Figure | None":
    """Draw the mean accuracy of each network under each row, a panel per ipc, the number in each field."""
    fields = [
        (block, rows) for block in blocks if (rows := [row for row in block.rows if row.accuracies])
    ]
    if not fields:
        return None
    most, widest = (
        max(len(rows) for _, rows in fields),
        max(len(block.networks) for block, _ in fields),
    )
    found = [
        100 * row.accuracies[name].mean
        for _, rows in fields
        for row in rows
        for name in row.accuracies
    ]
    low = 10 * math.floor(min(found) / 10)
    high = max(low + 10, 10 * math.ceil(max(found) / 10))
    labels = {row.name: wrapped(row.name, 30) for _, rows in fields for row in rows}
    longest = max(len(line) for label in labels.values() for line in label.splitlines())
    figure, all_axes = panels(len(fields), (0.9 + 0.09 * longest + 0.66 * widest, 1.6 + 0.4 * most))
    for axes, (block, rows) in zip(all_axes, fields, strict=True):
        means = [
            [
                100 * row.accuracies[name].mean if name in row.accuracies else math.nan
                for name in block.networks
            ]
            for row in rows
        ]
        mesh = axes.pcolormesh(means, cmap="cividis", vmin=low, vmax=high)
        axes.invert_yaxis()
        networks = [wrapped(name, 20, 1) for name in block.networks]
        axes.set_xticks(
            [x + 0.5 for x in range(len(networks))], labels=networks, rotation=35, ha="right"
        )
        axes.set_yticks(
            [y + 0.5 for y in range(len(rows))], labels=[labels[row.name] for row in rows]
        )
        axes.set_title(f"ipc {block.ipc}")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        _write_numbers(axes, means, (low + high) / 2)
    figure.colorbar(mesh, ax=all_axes, label=f"{_accuracy(blocks[0])}, %")
    return figure


def _write_numbers(axes: "Axes", means: list[list[float]], middle: float) -> None:
    for y, row in enumerate(means):
        for x, mean in enumerate(row):
            if not math.isnan(mean):
                colour = "white" if mean < middle else "black"  # the scale goes from dark to light
                axes.text(
                    x + 0.5,
                    y + 0.5,
                    f"{mean:.1f}",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=8,
                )


def _losses(blocks: list[Block], curves: Sequence[Curve], looks: Looks) -> "Figure | None":
    """Draw each run's loss over its steps, a panel per method and ipc: losses of unlike methods are unlike."""
    by_folder = {curve.folder: curve for curve in curves}
    found: dict[tuple[str, int], list[tuple[str, Curve]]] = defaultdict(list)
    for block in blocks:
        for row in row_of_methods(block):
            for run in row.outcomes:
                if run.folder in by_folder:
                    found[row.title, block.ipc].append((row.name, by_folder[run.folder]))
    if not found:
        return None
    ipcs = len({ipc for _, ipc in found})
    columns = ipcs if 1 < ipcs < 5 else min(3, len(found))
    figure, all_axes = panels(len(found), (3.3, 2.4), columns)
    handles: dict[str, Any] = {}
    for axes, ((method, ipc), drawn) in zip(all_axes, sorted(found.items()), strict=True):
        for name, curve in drawn:
            shown = looks[name] | {"marker": "" if len(curve.steps) > 1 else looks[name]["marker"]}
            (handles[name],) = axes.plot(
                curve.steps, curve.losses, linewidth=1.1, alpha=0.85, **shown
            )
        axes.set_title(f"{wrapped(method, 30, 1)}, ipc {ipc}")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.grid(True)
    add_legend(figure, handles)
    return figure

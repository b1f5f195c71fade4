"""The report's figures: accuracy over ipc and over cost, a heat map, and loss curves.

The colours are Okabe and Ito's, distinguishable with colour vision deficiency; no two of 64 rows
have both colour and marker in common. The bytes of a figure depend on its numbers alone: it has no
date and no random names.
"""

import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcond.report.figure_style import (
    DASHES,
    ERROR_BARS,
    GREY,
    LineStyle,
    add_legend,
    drawing_style,
    error_bars,
    line_style,
    make_panels,
    save,
    wrap,
)
from dcond.report.record import RunRecord
from dcond.report.rows import AVERAGE, Block, Report, Row
from dcond.run.result import ACCURACY, TEST
from dcond.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSS = "condense/loss"  # its name in metrics.jsonl
MAX_POINTS = 400  # of a drawn curve


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Args:
        name: file name without suffix.
        title: caption.
        family: index of the family that it shows.
        png: the figure as PNG.
        svg: the figure as SVG.
    """

    name: str
    title: str
    family: int
    png: bytes
    svg: str


@dataclass(frozen=True)
class Curve:
    """One run's loss at the recorded steps."""

    folder: Path
    steps: tuple[int, ...]
    losses: tuple[float, ...]


def read_curves(runs: Iterable[RunRecord]) -> list[Curve]:
    """Read the loss of every run from its ``metrics.jsonl``; skip lines that cannot be read."""
    curves = []
    for run in runs:
        try:
            file = run.folder / "metrics.jsonl"
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        points = [point for line in lines if (point := _point(line)) is not None]
        if points:
            points = [*points[: -1 : max(1, len(points) // MAX_POINTS)], points[-1]]
            curves.append(Curve(run.folder, *zip(*points, strict=True)))
    return curves


def _point(line: str) -> tuple[int, float] | None:
    try:
        record = json.loads(line)
        step, loss = int(record["step"]), float(record[LOSS])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return (step, loss) if math.isfinite(loss) else None


def draw(report: Report, curves: Sequence[Curve] = ()) -> list[Drawing]:
    """Draw every figure that has something to show, family by family.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    drawings: list[Drawing] = []
    names: set[str] = set()
    with drawing_style():
        for index, blocks in enumerate(report.families):
            for name, title, figure in _family_figures(blocks, curves):
                unique, number = name, 1
                while unique in names:
                    unique, number = f"{name}_{number + 1}", number + 1
                names.add(unique)
                png, svg = save(figure, "png"), save(figure, "svg").decode()
                drawings.append(Drawing(unique, title, index, png, svg))
    return drawings


def _family_figures(
    blocks: list[Block], curves: Sequence[Curve]
) -> Iterator[tuple[str, str, "Figure"]]:
    """Yield name, title and figure of everything that a family has to show."""
    first = blocks[0]
    names = dict.fromkeys(row.name for block in blocks for row in block.method_rows)
    styles = {name: line_style(index) for index, name in enumerate(names)}
    tested_on = "" if first.tested_on == TEST else first.tested_on
    slug = re.sub(r"[^\w-]+", "_", f"{first.dataset}_{first.protocol}_{tested_on}").strip("_")[:60]
    for kind, title, figure in (
        ("accuracy_over_ipc", "Accuracy over images per class", _over_ipc(blocks, styles)),
        ("accuracy_over_cost", "Accuracy over condensing time", _over_cost(blocks, styles)),
        ("networks", "Mean accuracy of every network", _heat_map(blocks)),
        ("loss", "Loss while condensing", _losses(blocks, curves, styles)),
    ):
        if figure is not None:
            bars = f" ({ERROR_BARS})" if kind.startswith("accuracy") else ""
            yield f"{kind}_{slug}", f"{title}{bars}: {first.subject}", figure


def _accuracy_axis(axes: "Axes", block: Block) -> None:
    axes.margins(y=0.08)
    axes.set_ylabel(f"mean {_accuracy_name(block)}, %")
    low, high = axes.get_ylim()
    low, high = max(low, 0.0), min(high, 102.0)  # intervals may exceed the range of an accuracy
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= 100])
    axes.set_ylim(low, high)
    axes.grid(True)


def _accuracy_name(block: Block) -> str:
    return ACCURACY.get(block.tested_on, "accuracy")


def _over_ipc(blocks: list[Block], styles: dict[str, LineStyle]) -> "Figure | None":
    """Draw the average accuracy over ipc, one line per row."""
    points: dict[str, list[tuple[int, Estimate]]] = defaultdict(list)
    for block in sorted(blocks, key=lambda block: block.ipc):
        for row in block.rows:
            if AVERAGE in row.accuracies:
                points[row.name].append((block.ipc, row.accuracies[AVERAGE]))
    ipcs = sorted({block.ipc for block in blocks})
    if len(ipcs) < 2 or not points:
        return None
    figure, (axes,) = make_panels(1, (5.6, 3.6))
    dashes = itertools.cycle(DASHES[1:])
    handles = {}
    nearest = min(high / low for low, high in itertools.pairwise(ipcs))
    apart = min(1.03, nearest ** (0.4 / len(points)))  # error bars; all stay at their own ipc
    for index, (name, line) in enumerate(points.items()):
        offset = apart ** (index - (len(points) - 1) / 2)
        style = styles.get(name) or {"color": GREY, "linestyle": next(dashes), "marker": "."}
        x, estimates = zip(*line, strict=True)
        handles[name] = error_bars(axes, [ipc * offset for ipc in x], estimates, style)
    axes.set_xscale("log")
    axes.set_xticks(ipcs, labels=[str(ipc) for ipc in ipcs])
    axes.minorticks_off()
    axes.set_xlabel("images per class")
    _accuracy_axis(axes, blocks[0])
    add_legend(figure, handles, ERROR_BARS)
    return figure


def _over_cost(blocks: list[Block], styles: dict[str, LineStyle]) -> "Figure | None":
    """Draw the average accuracy over the seconds of condensing, one panel per ipc."""
    costs = [(block, points) for block in blocks if (points := _costs(block))]
    seconds = [wall for _, points in costs for _, wall, _ in points]
    if not any(seconds):
        return None
    figure, all_axes = make_panels(len(costs))
    least, most = min(wall for wall in seconds if wall > 0), 2 * max(seconds)
    handles = {}
    for axes, (block, points) in zip(all_axes, costs, strict=True):
        free = [row.name for row, wall, _ in points if wall == 0]  # selection methods, drawn at 0
        for row, wall, estimate in points:
            if row.name in free:
                wall += 0.12 * least * (free.index(row.name) - (len(free) - 1) / 2)
            style = styles[row.name] | {"linestyle": "none"}
            handles[row.name] = error_bars(axes, [wall], [estimate], style)
        axes.set_xscale("symlog", linthresh=least, linscale=0.5)
        axes.set_xlim(-0.5 * least, most)
        ticks = _ticks(least, most)
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_title(f"ipc {block.ipc}")
        axes.set_xlabel("condensing, s")
        _accuracy_axis(axes, block)
    add_legend(figure, handles, ERROR_BARS)
    return figure


def _costs(block: Block) -> list[tuple[Row, float, Estimate]]:
    return [
        (row, wall.mean, row.accuracies[AVERAGE])
        for row in block.method_rows
        if AVERAGE in row.accuracies and (wall := row.condensing())
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Return 0 and the powers of ten in a range, or more multiples if there are too few.

    Neighbours differ by 30 % or more, so that their labels do not overlap.
    """
    for factors in ((1,), (1, 2, 5), range(1, 10)):
        numbers = [factor * 10.0**power for power in range(-3, 9) for factor in factors]
        inside = [number for number in numbers if low <= number <= high]
        if len(inside) >= 2:
            break
    ticks: list[float] = []
    for number in sorted(inside, key=lambda each: (not math.log10(each).is_integer(), each)):
        if all(max(number, other) >= 1.3 * min(number, other) for other in ticks):
            ticks.append(number)
    return [0.0, *sorted(ticks)]


def _heat_map(blocks: list[Block]) -> "Figure | None":
    """Draw the mean accuracy of each network in each row, one panel per ipc."""
    panels = [(block, [row for row in block.rows if row.accuracies]) for block in blocks]
    panels = [(block, rows) for block, rows in panels if rows]
    if not panels:
        return None
    values = [_mean(row, name) for _, rows in panels for row in rows for name in row.accuracies]
    low = 10 * math.floor(min(values) / 10)
    high = max(low + 10, 10 * math.ceil(max(values) / 10))
    labels = {row.name: wrap(row.name, 30) for _, rows in panels for row in rows}
    longest = max(len(line) for label in labels.values() for line in label.splitlines())
    width = 0.9 + 0.09 * longest + 0.66 * max(len(block.networks) for block, _ in panels)
    height = 1.6 + 0.4 * max(len(rows) for _, rows in panels)
    figure, all_axes = make_panels(len(panels), (width, height))
    for axes, (block, rows) in zip(all_axes, panels, strict=True):
        means = [[_mean(row, name) for name in block.networks] for row in rows]
        mesh = axes.pcolormesh(means, cmap="cividis", vmin=low, vmax=high)
        axes.invert_yaxis()
        networks = [wrap(name, 20, 1) for name in block.networks]
        centres = [x + 0.5 for x in range(len(networks))]
        axes.set_xticks(centres, labels=networks, rotation=35, ha="right")
        centres = [y + 0.5 for y in range(len(rows))]
        axes.set_yticks(centres, labels=[labels[row.name] for row in rows])
        axes.set_title(f"ipc {block.ipc}")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        _write_numbers(axes, means, (low + high) / 2)
    figure.colorbar(mesh, ax=all_axes, label=f"mean {_accuracy_name(blocks[0])}, %")
    return figure


def _mean(row: Row, network: str) -> float:
    """Return a mean accuracy in per cent; NaN if there is none."""
    estimate = row.accuracies.get(network)
    return math.nan if estimate is None else 100 * estimate.mean


def _write_numbers(axes: "Axes", means: list[list[float]], middle: float) -> None:
    for y, row in enumerate(means):
        for x, mean in enumerate(row):
            if not math.isnan(mean):
                style: dict[str, Any] = {"color": "white" if mean < middle else "black", "size": 8}
                axes.text(x + 0.5, y + 0.5, f"{mean:.1f}", ha="center", va="center", **style)


def _losses(
    blocks: list[Block], curves: Sequence[Curve], styles: dict[str, LineStyle]
) -> "Figure | None":
    """Draw each run's loss over its steps, one panel per method and ipc: losses differ in scale."""
    by_folder = {curve.folder: curve for curve in curves}
    panels: dict[tuple[str, int], list[tuple[str, Curve]]] = defaultdict(list)
    for block in blocks:
        for row in block.method_rows:
            for run in row.runs:
                if run.folder in by_folder:
                    panels[row.title, block.ipc].append((row.name, by_folder[run.folder]))
    if not panels:
        return None
    ipcs = len({ipc for _, ipc in panels})
    columns = ipcs if 1 < ipcs < 5 else min(3, len(panels))
    figure, all_axes = make_panels(len(panels), (3.3, 2.4), columns)
    handles: dict[str, Any] = {}
    for axes, ((method, ipc), lines) in zip(all_axes, sorted(panels.items()), strict=True):
        for name, curve in lines:
            style = styles[name] | ({"marker": ""} if len(curve.steps) > 1 else {})
            (handles[name],) = axes.plot(
                curve.steps, curve.losses, linewidth=1.1, alpha=0.85, **style
            )
        axes.set_title(f"{wrap(method, 30, 1)}, ipc {ipc}")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.grid(True)
    add_legend(figure, handles)
    return figure

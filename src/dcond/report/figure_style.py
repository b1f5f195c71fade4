"""How the report's figures look: colours, markers, panels, legends, error bars, files."""

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dcond.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b1f24"  # text and axes; the page replaces it by the colour of its text
GREY = "#767b82"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#5e4fa2")
MARKERS = "osD^vP*X"
DASHES = ("-", "--", ":", "-.")
PANEL = (3.4, 3.3)  # inches
LEGEND = 0.8  # height for which the panels have room
PAGE_WIDTH = 11.0
INK_PARAMETERS = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
STYLE: dict[Any, Any] = dict.fromkeys(INK_PARAMETERS, INK) | {
    "svg.fonttype": "none",
    "svg.hashsalt": "dcond",
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.title_fontsize": 8.5,
    "lines.markersize": 5.0,
}
ERROR_BARS = "mean over the runs; error bars: 95 % interval of the mean"

LineStyle = dict[str, Any]  # arguments of matplotlib's plot


@contextmanager
def drawing_style() -> Iterator[None]:
    """Draw in this style for the length of a block, whatever the user's matplotlibrc says."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as boxes
        yield


def save(figure: "Figure", kind: str) -> bytes:
    """Return the bytes of a figure as "png" or "svg"."""
    file = io.BytesIO()
    figure.savefig(
        file,
        format=kind,
        dpi=160,
        metadata={"Date": None} if kind == "svg" else {"Software": None},
        bbox_inches="tight",
        transparent=kind == "svg",
    )
    return file.getvalue()


def line_style(index: int) -> LineStyle:
    """Return the colour, marker and dashes of the line with this number.

    No two of the first 64 have both colour and marker in common: points have no dashes.
    """
    turn = index // len(COLOURS)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[(index + turn) % len(MARKERS)],
        "linestyle": DASHES[turn % len(DASHES)],
    }


def make_panels(
    count: int, size: tuple[float, float] = PANEL, columns: int | None = None
) -> tuple["Figure", list["Axes"]]:
    """Return a figure of ``count`` panels; pyplot would keep it in memory."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = columns or max(1, min(count, int(PAGE_WIDTH / size[0])))
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def wrap(name: str, width: int, lines: int = 3) -> str:
    """Break a name into lines, at most three by default."""
    return "\n".join(textwrap.wrap(name, width, max_lines=lines, placeholder="…"))


def add_legend(figure: "Figure", handles: dict[str, Any], title: str | None = None) -> None:
    """Add one legend below all panels, and height for one of many lines."""
    # matplotlib hides labels with a leading underscore: put a zero-width space before it
    names = (name if name[0] != "_" else f"\u200b{name}" for name in handles)
    legend = figure.legend(
        list(handles.values()),
        [wrap(name, 44) for name in names],
        loc="outside lower center",
        ncols=min(3, len(handles)),
        title=title,
    )
    height = legend.get_window_extent().height / figure.dpi
    figure.set_figheight(figure.get_figheight() + max(0.0, height - LEGEND))


def error_bars(
    axes: "Axes", x: Sequence[float], estimates: Sequence[Estimate], style: LineStyle
) -> Any:
    """Draw means with 95 % intervals; return the legend's handle."""
    means = [100 * estimate.mean for estimate in estimates]
    intervals = [100 * (estimate.ci95 or 0.0) for estimate in estimates]
    return axes.errorbar(
        x, means, yerr=intervals, capsize=2.5, linewidth=1.4, elinewidth=0.9, **style
    )

"""How figures look and are written; what they show is in ``figures.py``.

Colours are Okabe and Ito's, told apart by eyes that see few; each line also has its own marker or
dashes. The bytes of a figure depend on its numbers alone: no date, no random names.
"""

import io
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dcond.errors import UnsupportedError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b1f24"  # text and axes; the page replaces it by the colour of its own text
GREY = "#767b82"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#5e4fa2")
MARKERS = "osD^vP*X"
DASHES = ("-", "--", ":", "-.")
NEEDS = "figures need matplotlib, which is not installed; pip install 'dcond[report]'."
PANEL = (3.4, 3.3)  # inches
PAGE = 11.0
STYLE: dict[Any, Any] = {
    **{"svg.fonttype": "none", "svg.hashsalt": "dcond", "text.parse_math": False, "font.size": 9.0},
    **{
        "axes.titlesize": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": False,
    },
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
    **{"grid.color": GREY, "grid.alpha": 0.25, "legend.frameon": False, "lines.markersize": 5.0},
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure."""

    name: str  # of its files
    title: str
    family: int  # of the report's families, which it is about
    png: bytes
    svg: str


def check_installed() -> None:
    """Raise :class:`UnsupportedError` unless there is matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(NEEDS) from error


@contextmanager
def style() -> Iterator[None]:
    """Draw in our style; letters that the font lacks are drawn as boxes, without a word."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # not what a user's own file says
        mpl.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def written(figure: "Figure", name: str, title: str, family: int) -> Drawing:
    """Write a figure in both formats."""
    return Drawing(name, title, family, _bytes(figure, "png"), _bytes(figure, "svg").decode())


def _bytes(figure: "Figure", kind: str) -> bytes:
    file = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(
        file,
        format=kind,
        dpi=160,
        metadata=metadata,
        bbox_inches="tight",
        transparent=kind == "svg",
    )
    return file.getvalue()


def look(index: int) -> dict[str, Any]:
    """Return colour, marker and dashes of the n-th line."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
    }


def panels(
    count: int, size: tuple[float, float] = PANEL, columns: int | None = None
) -> tuple["Figure", list["Axes"]]:
    """Make a figure of so many panels, in rows as wide as a page; without pyplot, which would keep it alive."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = columns or max(1, min(count, int(PAGE / size[0])))
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for idle in axes[count:]:
        idle.set_visible(False)
    return figure, axes[:count]


def wrapped(name: str, width: int, lines: int = 3) -> str:
    """Break a name into lines, and cut what needs more of them: a figure must not be all words."""
    return "\n".join(textwrap.wrap(name, width, max_lines=lines, placeholder="…"))


def add_legend(figure: "Figure", handles: dict[str, Any]) -> None:
    """Put one legend below all panels; a leading underscore would hide its line."""
    labels = [wrapped(name if name[0] != "_" else f"\u200b{name}", 44) for name in handles]
    figure.legend(
        list(handles.values()), labels, loc="outside lower center", ncols=min(3, len(handles))
    )

"""A report on the terminal, as text, and as the files of a folder."""

import sys
from pathlib import Path

from rich.console import Console

from dcond.paths import write_bytes, write_text
from dcond.report.figures import Drawing, draw, read_curves
from dcond.report.html import page
from dcond.report.rows import Report
from dcond.report.sheets import report_contents
from dcond.report.terminal import show
from dcond.report.text import as_csv, latex, markdown


def print_tables(report: Report) -> None:
    """Print the tables and notes on stdout."""
    show(Console(highlight=False), *report_contents(report))


def texts(report: Report) -> dict[str, str]:
    """Return the report in every text format, by file suffix."""
    contents = report_contents(report)
    return {"csv": as_csv(report), "md": markdown(*contents), "tex": latex(*contents)}


def write(report: Report, folder: Path) -> None:
    """Write ``index.html``, ``report.csv``, ``.md``, ``.tex`` and ``figures/``.

    Files of an earlier report are overwritten; its other figures stay. Without matplotlib there are
    no figures.

    Raises:
        OSError: a file cannot be written.
    """
    drawings = _draw(report)
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for suffix, content in texts(report).items():
        write_text(folder / f"report.{suffix}", content)
    for drawing in drawings:
        write_bytes(figures / f"{drawing.name}.png", drawing.png)
        write_text(figures / f"{drawing.name}.svg", drawing.svg)
    write_text(folder / "index.html", page(report, drawings))


def _draw(report: Report) -> list[Drawing]:
    try:
        return draw(report, read_curves(report.runs))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        needed = (
            "they need matplotlib, which is not installed; pip install '.[report]' in the checkout."
        )
        print(f"dcond: no figures: {needed}", file=sys.stderr)
        return []

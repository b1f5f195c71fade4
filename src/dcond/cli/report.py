"""``dcond report``: tables, figures and a page from the ``result.json`` files of any number of runs."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dcond.errors import DcondError, UnsupportedError
from dcond.paths import write_atomically

if TYPE_CHECKING:  # these take a second to import, and --help does not need them
    from dcond.report.figure_style import Drawing
    from dcond.report.grouping import Report

FORMATS = ("table", "csv", "md", "tex")
EPILOG = """\
examples:
  dcond report outputs                              a table per data set and ipc, also while a sweep is running
  dcond report outputs --out report                 and report/index.html, CSV, Markdown, LaTeX, figures
  dcond report outputs --format csv > runs.csv      data and nothing else on stdout
  dcond report outputs --group-by method.lr,init    split a method's rows by these settings only

Runs that differ in nothing but the seed make a row; without --group-by, every other setting that differs splits it.
"""


def main(argv: list[str]) -> int:
    """Run ``dcond report`` with the words after it and return the exit code.

    Raises:
        ConfigError: no such path, nothing under it, or no such setting.
        DcondError: the report cannot be written.
    """
    arguments = _parser().parse_args(argv)
    from dcond.report.collect import collect
    from dcond.report.grouping import build_report

    group_by = (
        None
        if arguments.group_by is None
        else [name for name in arguments.group_by.split(",") if name]
    )
    report = build_report(collect(map(Path, arguments.paths)), group_by)
    _print(report, arguments.format)
    if arguments.out is not None:
        folder = Path(arguments.out)
        try:
            write(report, folder)
        except OSError as error:
            reason = f"{error.strerror or error}. Free some space or choose another --out."
            raise DcondError(f"cannot write {error.filename or folder}: {reason}") from error
        print(
            f"-> {folder / 'index.html'}",
            file=sys.stdout if arguments.format == "table" else sys.stderr,
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dcond report",
        description="Show what runs have found: mean, spread and number of seeds for each method, data set and ipc.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="run folders, sweeps, or any folders above them"
    )
    parser.add_argument(
        "--group-by", metavar="KEY,…", help="the settings that split a method's rows, as method.lr"
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="also write everything there; what it wrote before is replaced",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="what to print (default: %(default)s)"
    )
    return parser


def _print(report: "Report", kind: str) -> None:
    from rich.console import Console

    from dcond.report import sheets as layout
    from dcond.report import terminal as console

    if kind != "table":
        print(texts(report)[kind], end="")
        return
    sheets = [layout.accuracy_sheet(block) for block in report.blocks]
    console.show(Console(highlight=False), sheets, layout.cost_sheets(report), layout.notes(report))


def texts(report: "Report") -> dict[str, str]:
    """Return the report in every text format, by file suffix."""
    from dcond.report import sheets as layout
    from dcond.report import text

    sheets = [layout.accuracy_sheet(block) for block in report.blocks]
    costs, notes = layout.cost_sheets(report), layout.notes(report)
    return {
        "csv": text.as_csv(report),
        "md": text.markdown(sheets, costs, notes),
        "tex": text.latex(sheets, costs, notes),
    }


def write(report: "Report", folder: Path) -> None:
    """Write ``index.html``, ``report.csv``, ``.md``, ``.tex`` and ``figures/``; without matplotlib no figures.

    Raises:
        OSError: something cannot be written.
    """
    from dcond.report.html import page

    drawings = _drawings(report)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for suffix, content in texts(report).items():
        _write(folder / f"report.{suffix}", content.encode())
    for drawing in drawings:
        _write(folder / "figures" / f"{drawing.name}.png", drawing.png)
        _write(folder / "figures" / f"{drawing.name}.svg", drawing.svg.encode())
    _write(folder / "index.html", page(report, drawings).encode())


def _drawings(report: "Report") -> "list[Drawing]":
    from dcond.report.figures import draw
    from dcond.report.run_files import curves

    try:
        return draw(report, curves(report.outcomes))
    except UnsupportedError as error:
        print(f"dcond: no figures: {error}", file=sys.stderr)
        return []


def _write(file: Path, content: bytes) -> None:
    def fill(path: Path) -> None:
        path.write_bytes(content)

    write_atomically(file, fill)

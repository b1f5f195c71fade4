"""``dcond report``: tables, figures and a page from the ``result.json`` files of many runs."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dcond.errors import DcondError, UnsupportedError
from dcond.paths import write_bytes, write_text

if TYPE_CHECKING:  # imported on use: they take a second, and --help does not need them
    from dcond.report.figures import Drawing
    from dcond.report.grouping import Report

FORMATS = ("table", "csv", "md", "tex")
EPILOG = """\
examples:
  dcond report outputs                            a table per data set and ipc; also during a sweep
  dcond report outputs --out report               and report/index.html, CSV, Markdown, LaTeX, PNG
  dcond report outputs --format csv > runs.csv    only the data on stdout
  dcond report outputs --group-by method.lr,init  split a method's rows by these settings only

Runs that differ only in the seed form a row. Every other differing setting splits it, unless
--group-by names the settings that do.
"""


def main(argv: list[str]) -> int:
    """Run ``dcond report`` with its arguments and return the exit code.

    Raises:
        ConfigError: a path does not exist, there are no results, or a setting is unknown.
        DcondError: the report cannot be written.
    """
    arguments = _parser().parse_args(argv)
    from dcond.report.collect import collect
    from dcond.report.grouping import build_report

    names = arguments.group_by and list(filter(None, arguments.group_by.split(",")))
    report = build_report(collect(map(Path, arguments.paths)), names)
    if arguments.format == "table":
        _print_tables(report)
    else:
        print(texts(report)[arguments.format], end="")
    if arguments.out is not None:
        folder = Path(arguments.out)
        try:
            write(report, folder)
        except OSError as error:
            reason = f"{error.strerror or error}. Free some space or choose another --out."
            raise DcondError(f"cannot write {error.filename or folder}: {reason}") from error
        stream = sys.stdout if arguments.format == "table" else sys.stderr
        print(f"-> {folder / 'index.html'}", file=stream)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dcond report",
        description="Show the results of runs: the mean accuracy with its 95 % interval, the "
        "standard deviation and the number of seeds for each method, data set and ipc.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="run folders, sweeps, or any folders above them"
    )
    parser.add_argument(
        "--group-by", metavar="KEY,…", help="settings that split a method's rows, as method.lr"
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="also write everything to this folder; an earlier report in it is replaced",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="what to print (default: %(default)s)"
    )
    return parser


def _print_tables(report: "Report") -> None:
    from rich.console import Console

    from dcond.report.sheets import report_contents
    from dcond.report.terminal import show

    show(Console(highlight=False), *report_contents(report))


def texts(report: "Report") -> dict[str, str]:
    """Return the report in every text format, by file suffix."""
    from dcond.report.sheets import report_contents
    from dcond.report.text import as_csv, latex, markdown

    contents = report_contents(report)
    return {"csv": as_csv(report), "md": markdown(*contents), "tex": latex(*contents)}


def write(report: "Report", folder: Path) -> None:
    """Write ``index.html``, ``report.csv``, ``.md``, ``.tex`` and ``figures/``.

    Without matplotlib there are no figures.

    Raises:
        OSError: a file cannot be written.
    """
    from dcond.report.html import page

    drawings = _draw(report)
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for suffix, content in texts(report).items():
        write_text(folder / f"report.{suffix}", content)
    for drawing in drawings:
        write_bytes(figures / f"{drawing.name}.png", drawing.png)
        write_text(figures / f"{drawing.name}.svg", drawing.svg)
    write_text(folder / "index.html", page(report, drawings))


def _draw(report: "Report") -> "list[Drawing]":
    from dcond.report.figures import draw, read_curves

    try:
        return draw(report, read_curves(report.runs))
    except UnsupportedError as error:
        print(f"dcond: no figures: {error}", file=sys.stderr)
        return []

"""``dcond report``: tables, figures and a page from the ``result.json`` files of many runs."""

import argparse
import sys

from dcond.cli.parser import make_parser
from dcond.errors import DcondError
from dcond.paths import expand_home

FORMATS = ("table", "csv", "md", "tex")
EPILOG = """\
examples:
  dcond report outputs                            a table per data set and ipc; also during a sweep
  dcond report outputs --out report               and report/index.html, CSV, Markdown, LaTeX, PNG
  dcond report outputs --format csv > runs.csv    only the data on stdout
  dcond report outputs --group-by method.lr,init  split a method's rows by these settings only

Runs that differ only in the seed share a row. Any other difference starts a new row; with
--group-by only the named settings do.
"""


def main(argv: list[str]) -> int:
    """Run ``dcond report`` with its arguments and return the exit code.

    Raises:
        ConfigError: a path does not exist, there are no results, or a setting is unknown.
        DcondError: the report cannot be written.
    """
    arguments = _parser().parse_args(argv)
    from dcond.report.collect import collect  # these take a second, and --help does not need them
    from dcond.report.files import print_tables, texts, write
    from dcond.report.grouping import build_report

    names = arguments.group_by and list(filter(None, arguments.group_by.split(",")))
    report = build_report(collect(map(expand_home, arguments.paths)), names)
    folder = None if arguments.out is None else expand_home(arguments.out)
    if folder is not None:  # before printing, which a reader such as `head` may end
        try:
            write(report, folder)
        except OSError as error:
            reason = f"{error.strerror or error}. Free some space or choose another --out."
            raise DcondError(f"cannot write {error.filename or folder}: {reason}") from error
    if arguments.format == "table":
        print_tables(report)
    else:
        print(texts(report)[arguments.format], end="")
    if folder is not None:
        stream = sys.stdout if arguments.format == "table" else sys.stderr
        print(f"-> {folder / 'index.html'}", file=stream)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "report",
        "Show the results of runs: the mean accuracy with its 95 % interval, the "
        "standard deviation and the number of seeds for each method, data set and ipc.",
        EPILOG,
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
        help="also write everything to this folder; an earlier report in it is overwritten",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="what to print (default: %(default)s)"
    )
    return parser

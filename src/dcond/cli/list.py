"""``dcond list``: the options in ``conf/``, described by the first comment of each file."""

import sys
from pathlib import Path
from typing import NamedTuple

from dcond.cli.parser import make_parser
from dcond.errors import one_of
from dcond.paths import conf_dir

KINDS = {  # argument on the command line: folder of conf/
    "methods": "method",
    "datasets": "dataset",
    "models": "model",
    "pools": "pool",
    "experiments": "experiment",
    "inits": "init",
    "augments": "augment",
    "engines": "engine",
    "evaluations": "evaluation",
    "teachers": "teacher",
    "sweeps": "sweep",
}
EPILOG = """\
examples:
  dcond list methods                the options of method=NAME
  dcond list datasets | grep grey   plain lines in a pipe: name, description, paper
  dcond list experiments            published results and studies, for experiment=NAME
"""


class Entry(NamedTuple):
    """One file of a group."""

    name: str
    description: str
    paper: str


def main(argv: list[str]) -> int:
    """Run ``dcond list`` with the arguments after it and return the exit status.

    Raises:
        ConfigError: An unknown kind.
    """
    parser = make_parser(
        "list", "List the options of a kind: name, a one-line description, and the paper.", EPILOG
    )
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    kind = parser.parse_args(argv).kind
    one_of("kind", kind, KINDS)
    options = entries(conf_dir() / KINDS[kind])
    if sys.stdout.isatty():
        _print_table(kind, options)
    else:
        _print_lines(options)
    return 0


def entries(folder: Path) -> list[Entry]:
    """Return an entry per YAML file of a group, sub-folders included, sorted by name."""
    files = {
        file.relative_to(folder).with_suffix("").as_posix(): file for file in folder.rglob("*.yaml")
    }
    return [_entry(name, files[name]) for name in sorted(files)]


def _entry(name: str, file: Path) -> Entry:
    """Parse the first comment, ``# Description. Paper: Name, arXiv 0000.00000``.

    Either part may be missing. A first line ``# @package ...`` is skipped.
    """
    with file.open(encoding="utf-8") as lines:
        first = next((line for line in lines if not line.startswith("# @")), "")
    comment = first.removeprefix("#") if first.startswith("#") else ""
    description, _, paper = comment.partition("Paper:")
    return Entry(name, description.strip(), paper.strip())


def _print_lines(options: list[Entry]) -> None:
    """Print a line per entry in columns, never wrapped, for other programs to read."""
    widths = [max((len(option[i]) for option in options), default=0) for i in range(2)]
    for name, description, paper in options:
        print(f"{name:<{widths[0]}}  {description:<{widths[1]}}  {paper}".rstrip())


def _print_table(kind: str, options: list[Entry]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(kind, style="bold", no_wrap=True)
    table.add_column("description")
    table.add_column("paper")
    for option in options:
        table.add_row(*(Text(part) for part in option))
    Console().print(table)

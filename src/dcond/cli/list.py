"""``dcond list``: what ``conf/`` offers, read from the first comment of each file; nothing is imported to tell it."""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from dcond.errors import one_of
from dcond.paths import conf_dir

KINDS = {  # the word on the command line, and the folder of conf/
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
  dcond list methods                what method=NAME may be
  dcond list datasets | grep grey   plain lines in a pipe: name, what it is, paper
  dcond list experiments            published rows and studies, for experiment=NAME
"""


class Entry(NamedTuple):
    """One file of a group."""

    name: str
    what: str
    paper: str


def main(argv: list[str]) -> int:
    """Run ``dcond list`` with the words after it and return the exit code.

    Raises:
        ConfigError: an unknown kind.
    """
    parser = argparse.ArgumentParser(
        prog="dcond list",
        description="Show what there is of a kind: its name, one line about it, and the paper it is from.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    kind = parser.parse_args(argv).kind
    one_of("kind", kind, KINDS)
    found = entries(conf_dir() / KINDS[kind])
    if sys.stdout.isatty():
        _show(kind, found)
    else:
        _print(found)
    return 0


def entries(folder: Path) -> list[Entry]:
    """Return an entry per YAML file of a group, sub-folders included, by name."""
    files = {
        file.relative_to(folder).with_suffix("").as_posix(): file for file in folder.rglob("*.yaml")
    }
    return [_entry(name, files[name]) for name in sorted(files)]


def _entry(name: str, file: Path) -> Entry:
    """Split ``# One line. Paper: Name, arXiv 0000.00000``; either part may be missing.

    It is the first line, or the second where the first is the ``# @package`` that Hydra reads from
    nowhere else.
    """
    with file.open(encoding="utf-8") as lines:
        first = next((line for line in lines if not line.startswith("# @")), "")
    comment = first.removeprefix("#") if first.startswith("#") else ""
    what, _, paper = comment.partition("Paper:")
    return Entry(name, what.strip(), paper.strip())


def _print(found: list[Entry]) -> None:
    """Print a line per entry, never wrapped: programs read it."""
    name_width, what_width = (max((len(entry[i]) for entry in found), default=0) for i in (0, 1))
    for entry in found:
        print(f"{entry.name:<{name_width}}  {entry.what:<{what_width}}  {entry.paper}".rstrip())


def _show(kind: str, found: list[Entry]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(kind, style="bold", no_wrap=True)
    table.add_column("what")
    table.add_column("paper")
    for entry in found:
        table.add_row(*(Text(part) for part in entry))
    Console().print(table)

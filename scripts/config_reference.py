"""The configuration reference, made from the comments and values of ``conf/``.

The site makes it anew at every build (`scripts/site_hooks.py`); to read it without the site:

    python scripts/config_reference.py > configuration.md
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

CONF = Path(__file__).parents[1] / "conf"
FIRST = (
    "method",
    "dataset",
    "model",
    "pool",
    "init",
    "augment",
    "engine",
    "evaluation",
)  # the rest by name, after
LISTED = ("experiment",)  # too many to show with their settings: each is a few lines over the rest
ASIDE = ("hydra",)  # the words of --help and the log's format: no choices of a run
UNCHOSEN = (
    "tuned",
    "protocol",
    "paths",
)  # no words of the command line: what they are for stands in their files
LINE = re.compile(
    r"(?P<indent> *)(?P<key>[\w-]+):(?: +(?P<value>(?:\"[^\"]*\"|[^#\"])*?))?(?: *# ?(?P<comment>.*))?$"
)
DEFAULT = re.compile(
    r" *- (?:(?P<how>override|optional) )?/?(?P<what>[^#]+?)(?: *# ?(?P<comment>.*))?$"
)
INTRODUCTION = """\
# Configuration reference

Every group, every file in it and every setting with its default: made from `conf/` whenever this site is built.

`GROUP=NAME` chooses a file, `GROUP.KEY=VALUE` sets one value (of a top-level setting: `KEY=VALUE`), `--cfg job` prints
what would run, and `--config-dir DIR` adds files of your own. `dcond list KIND` tells the first line of each file.
"""


class Setting(NamedTuple):
    """One line of a YAML file that says a value or opens a section."""

    name: str  # dotted, from the top of the file
    value: str
    comment: str


class Choice(NamedTuple):
    """One line of a defaults list."""

    how: str  # "override", "optional" or empty
    what: str
    comment: str


class Page(NamedTuple):
    """One YAML file, read with its comments."""

    comments: list[str]  # the head's, without marks
    defaults: list[Choice]
    settings: list[Setting]


def read(file: Path) -> Page:
    """Read a file of ``conf/`` line by line.

    Raises:
        ValueError: a line of a form that no file of conf/ has had so far.
    """
    page = Page([], [], [])
    parents: list[tuple[int, str]] = []  # indent and key of the open sections
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("#"):
            page.comments.append(line.lstrip("# "))
        elif not line.strip() or line == "defaults:" or line.lstrip().startswith("#"):
            continue
        elif (found := DEFAULT.fullmatch(line)) is not None:
            page.defaults.append(Choice(found["how"] or "", found["what"], found["comment"] or ""))
        elif (found := LINE.fullmatch(line)) is not None:
            indent = len(found["indent"])
            parents = [(depth, key) for depth, key in parents if depth < indent]
            name = ".".join([*(key for _, key in parents), found["key"]])
            page.settings.append(Setting(name, found["value"] or "", found["comment"] or ""))
            parents.append((indent, found["key"]))
        elif (
            not parents or line[: parents[-1][0] + 1].strip()
        ):  # neither the text of a block nor known
            raise ValueError(
                f"{file}, line {number}: {line!r} is of no known form; teach scripts/config_reference.py."
            )
    return page


def reference() -> str:
    """Return the whole page as Markdown."""
    return (
        "\n".join([INTRODUCTION, *_primary("condense"), *_primary("evaluate"), *_groups()]) + "\n"
    )


def anchor(group: str, name: str) -> str:
    """Return the anchor of a file's section."""
    return re.sub(r"[^a-z0-9]+", "-", f"{group}-{name}".lower())


def _primary(name: str) -> Iterator[str]:
    page = read(CONF / f"{name}.yaml")
    yield f"## dcond {name}\n"
    groups = [choice for choice in page.defaults if choice.how == "" and ":" in choice.what]
    yield from _table("group", [(*_key_and_value(choice), choice.comment) for choice in groups])
    yield from _settings(
        [setting for setting in page.settings if not setting.name.startswith("hydra")]
    )


def _key_and_value(choice: Choice) -> tuple[str, str]:
    key, _, value = choice.what.partition(":")
    return key, value.strip()


def _groups() -> Iterator[str]:
    found = {
        path.name: path
        for path in sorted(CONF.iterdir())
        if path.is_dir() and path.name not in ASIDE
    }
    for group in [*FIRST, *(name for name in found if name not in FIRST)]:
        files = sorted(found[group].rglob("*.yaml"))
        pages = {
            file.relative_to(found[group]).with_suffix("").as_posix(): read(file) for file in files
        }
        yield f"## {group}\n"
        if group in LISTED:
            yield from _table(
                "choice", [(f"{group}={name}", "", _first(page)) for name, page in pages.items()]
            )
            continue
        for name, page in pages.items():
            yield from _section(group, name, page)


def _first(page: Page) -> str:
    return next(comment for comment in page.comments if not comment.startswith("@package"))


def _section(group: str, name: str, page: Page) -> Iterator[str]:
    title = f"{group}/{name}" if group in UNCHOSEN else f"{group}={name}"
    yield f"### `{title}` {{#{anchor(group, name)}}}\n"
    yield (
        "\n\n".join(comment for comment in page.comments if not comment.startswith("@package"))
        + "\n"
    )
    taken = [_words(choice) for choice in page.defaults if choice.what != "_self_"]
    if taken:
        yield f"Takes {', '.join(taken)}.\n"
    yield from _settings(page.settings)


def _words(choice: Choice) -> str:
    """Say a line of a file's defaults list as it would stand on the command line."""
    key, value = _key_and_value(choice)
    if not value:
        return f"all of `{key.rpartition('/')[2]}`"
    return f"`{re.sub('@_(here|global)_.*', '', key)}={value}`"


def _settings(settings: list[Setting]) -> Iterator[str]:
    target = [setting.value for setting in settings if setting.name == "_target_"]
    if target:
        yield f"Makes a `{target[0]}`.\n"
    shown = [
        setting
        for setting in settings
        if "_target_" not in setting.name and "_convert_" not in setting.name
    ]
    yield from _table("setting", [row for row in shown if row.value or row.comment])


def _table(first: str, rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Write rows of a name, a value and words about it."""
    lines = [
        f"| {_code(name)} | {_code(value)} | {words.replace('|', '&#124;')} |"
        for name, value, words in rows
    ]
    if lines:
        yield "\n".join([f"| {first} | default | what |", "|---|---|---|", *lines]) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    print(reference(), end="")

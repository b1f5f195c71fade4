"""Generate the configuration reference from the comments and values of ``conf/``.

The site generates it at every build (`scripts/site_hooks.py`). To read it without the site:

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
)  # the others follow by name
LISTED = ("experiment",)  # listed without their settings
ASIDE = ("hydra",)  # help texts and log format
UNCHOSEN = (
    "tuned",
    "protocol",
    "source",
    "paths",
)  # not chosen on the command line
LINE = re.compile(
    r"(?P<indent> *)(?P<key>[\w-]+):"
    r"(?: +(?P<value>(?:\"[^\"]*\"|[^#\"])*?))?(?: *# ?(?P<comment>.*))?$"
)
DEFAULT = re.compile(
    r" *- (?:(?P<how>override|optional) )?/?(?P<what>[^#]+?)(?: *# ?(?P<comment>.*))?$"
)
INTRODUCTION = """\
# Configuration reference

Every group, file and setting with its default, generated from `conf/`.

`GROUP=NAME` selects a file and `GROUP.KEY=VALUE` sets a value (`KEY=VALUE` for a top-level
setting). `--cfg job` prints the composed configuration, `--config-dir DIR` adds your own files, and
`dcond list KIND` shows the first line of each file.
"""


class Setting(NamedTuple):
    """A line of a YAML file that sets a value or opens a section."""

    name: str  # dotted, from the top of the file
    value: str
    comment: str


class Choice(NamedTuple):
    """A line of a defaults list."""

    how: str  # "override", "optional" or empty
    what: str
    comment: str


class Page(NamedTuple):
    """A YAML file with its comments."""

    comments: list[str]  # at the top of the file, without #
    defaults: list[Choice]
    settings: list[Setting]


def read(file: Path) -> Page:
    """Read a file of ``conf/`` line by line.

    Raises:
        ValueError: a line of an unsupported form.
    """
    page = Page([], [], [])
    parents: list[tuple[int, str]] = []  # indent and key of the open sections
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("#"):
            page.comments.append(line.lstrip("# "))
        elif not line.strip() or line == "defaults:" or line.lstrip().startswith("#"):
            continue
        elif (match := DEFAULT.fullmatch(line)) is not None:
            page.defaults.append(Choice(match["how"] or "", match["what"], match["comment"] or ""))
        elif (match := LINE.fullmatch(line)) is not None:
            indent = len(match["indent"])
            parents = [(depth, key) for depth, key in parents if depth < indent]
            name = ".".join([*(key for _, key in parents), match["key"]])
            page.settings.append(Setting(name, match["value"] or "", match["comment"] or ""))
            parents.append((indent, match["key"]))
        elif not parents or line[: parents[-1][0] + 1].strip():  # not the text of a block
            raise ValueError(
                f"{file}, line {number}: {line!r} has an unsupported form; "
                "extend scripts/config_reference.py."
            )
    return page


def reference() -> str:
    """Return the whole page as Markdown."""
    return (
        "\n".join(
            [INTRODUCTION, *_primary("condense"), *_primary("evaluate"), *_shared(), *_groups()]
        )
        + "\n"
    )


def anchor(group: str, name: str) -> str:
    """Return the anchor of the section of a file."""
    return re.sub(r"[^a-z0-9]+", "-", f"{group}-{name}".lower())


def _primary(name: str) -> Iterator[str]:
    page = read(CONF / f"{name}.yaml")
    yield f"## dcond {name}\n"
    groups = [choice for choice in page.defaults if choice.how == "" and ":" in choice.what]
    yield from _table("group", [(*_key_and_value(choice), choice.comment) for choice in groups])
    yield from _settings(_without_hydra(page))


def _shared() -> Iterator[str]:
    yield "## Settings of both commands\n"
    yield from _settings(_without_hydra(read(CONF / "base.yaml")))


def _without_hydra(page: Page) -> list[Setting]:
    return [setting for setting in page.settings if not setting.name.startswith("hydra")]


def _key_and_value(choice: Choice) -> tuple[str, str]:
    key, _, value = choice.what.partition(":")
    return key, value.strip()


def _groups() -> Iterator[str]:
    folders = {
        path.name: path
        for path in sorted(CONF.iterdir())
        if path.is_dir() and path.name not in ASIDE
    }
    for group in [*FIRST, *(name for name in folders if name not in FIRST)]:
        files = sorted(folders[group].rglob("*.yaml"))
        pages = {
            file.relative_to(folders[group]).with_suffix("").as_posix(): read(file)
            for file in files
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
    defaults = [_describe(choice) for choice in page.defaults if choice.what != "_self_"]
    if defaults:
        yield f"Defaults: {', '.join(defaults)}.\n"
    yield from _settings(page.settings)


def _describe(choice: Choice) -> str:
    """Return a line of a defaults list as it is written on the command line."""
    key, value = _key_and_value(choice)
    if not value:
        return f"all of `{key.rpartition('/')[2]}`"
    return f"`{re.sub('@_(here|global)_.*', '', key)}={value}`"


def _settings(settings: list[Setting]) -> Iterator[str]:
    target = [setting.value for setting in settings if setting.name == "_target_"]
    if target:
        yield f"Builds a `{target[0]}`.\n"
    shown = [
        setting
        for setting in settings
        if "_target_" not in setting.name and "_convert_" not in setting.name
    ]
    yield from _table("setting", [row for row in shown if row.value or row.comment])


def _table(first: str, rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Yield a table of names, values and descriptions."""
    lines = [
        f"| {_code(name)} | {_code(value)} | {description.replace('|', '&#124;')} |"
        for name, value, description in rows
    ]
    if lines:
        yield "\n".join([f"| {first} | default | meaning |", "|---|---|---|", *lines]) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    print(reference(), end="")

"""What the documentation shows is there: links, paths and ``dcond`` commands, down to each word of them."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dcond.cli import data, evaluate, export, report
from dcond.cli.list import KINDS
from dcond.cli.main import COMMANDS
from dcond.cli.overrides import group_options
from dcond.paths import conf_dir

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CONFIGS = sorted((ROOT / "conf").rglob("*.yaml"))  # their comments and help texts show commands too
INLINE = re.compile(r"(?<!`)`(?P<code>[^`]+)`(?!`)")
MADE = {ROOT / "docs" / "configuration.md"}  # by scripts/site_hooks.py, when the site is built


# --- reading the pages
# --------------------------------------------------------------------------------------------


def code_lines(text: str) -> Iterator[str]:
    """Yield the lines of fenced and indented blocks, continued lines joined."""
    fenced = False
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def commands(page: Path) -> list[list[str]]:
    """Return the words of every ``dcond`` command of a page, or of the comments and texts of a file of conf/."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        candidates = [line.lstrip("# ") for line in text.splitlines()]
    else:
        candidates = [
            *code_lines(text),
            *(" ".join(found["code"].split()) for found in INLINE.finditer(text)),
        ]
    parts = (part for line in candidates for part in re.split(r" && | \| |;", line))
    found = (re.match(r"(?:[A-Z_]+=\S+ )*dcond (?P<words>[a-z]+( .*)?)$", part) for part in parts)
    return [split(match["words"]) for match in found if match]


def split(text: str) -> list[str]:
    """Split a command as a shell does, up to a remark beside it."""
    text = re.split(r"\s{2,}| # | > |[,.:]$", text)[0]
    return [word for word in shlex.split(text) if word not in ("…", "...")]


def is_placeholder(value: str) -> bool:
    """Tell whether a value stands for one of the reader's own."""
    return re.fullmatch(r"…|\.\.\.|[A-Z][A-Z_]*", value) is not None


SHOWN = {tuple(words): page for page in [*PAGES, *CONFIGS] for words in commands(page)}
HYDRA = [(words, page) for words, page in SHOWN.items() if words[0] in ("condense", "evaluate")]


# --- links and paths
# ----------------------------------------------------------------------------------------------


def test_relative_links_lead_to_files():
    lost = [
        f"{page.name}: {found['target']}"
        for page in PAGES
        for found in re.finditer(
            r"\]\((?P<target>[^)#\s:]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8")
        )
        if not (page.parent / found["target"]).exists()
        and page.parent / found["target"] not in MADE
    ]
    assert lost == []


def test_paths_in_the_text_are_files_of_this_repository():
    place = re.compile(r"(src|tests|docs|conf|scripts|benchmarks)/[\w./-]+")
    named = [
        (page.name, found["code"].partition("::")[0])
        for page in PAGES
        for found in INLINE.finditer(page.read_text())
    ]
    made = ("class_mean", "xyz", "configuration.md")  # of the examples
    lost = [
        f"{page}: {path}"
        for page, path in named
        if place.fullmatch(path) and not (ROOT / path).exists()
    ]
    assert [words for words in lost if not any(name in words for name in made)] == []


def test_every_page_is_on_the_site():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [
        page.relative_to(ROOT / "docs").as_posix()
        for page in PAGES
        if page.is_relative_to(ROOT / "docs")
    ]
    nav = str(yaml.safe_load(text)["nav"])
    assert [page for page in pages if f"'{page}'" not in nav] == []  # add it to nav in mkdocs.yml


def test_the_citation_is_this_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["title"], citation["license"]) == (project["name"], project["license"])
    assert citation["authors"] == [{"name": "The dcond developers"}]
    assert {"cff-version", "message"} <= citation.keys()


# --- commands
# -----------------------------------------------------------------------------------------------------


def test_there_are_commands_to_look_at():
    assert len(SHOWN) > 60
    assert ("condense", "method=m3d", "dataset=cifar10", "ipc=10") in SHOWN


def plain_fault(words: tuple[str, ...]) -> str | None:
    """Say what is wrong with a command that Hydra has no part in, and with its name; None where nothing is."""
    command, rest = words[0], [word for word in words[1:] if not is_placeholder(word)]
    if command not in COMMANDS:
        return "no such sub-command"
    if command == "list":
        return (
            None
            if len(rest) == len(words) - 1 == 1 and rest[0] in KINDS
            else None
            if not rest
            else "no such kind"
        )
    parsers = {"data": data._parser, "export": export._parser, "report": report._parser}
    if (
        command not in parsers or len(words) == 1 or words[1].startswith("--to")
    ):  # the rest is meant to be added
        return None
    try:
        arguments = parsers[command]().parse_args(list(words[1:]))
    except SystemExit:
        return "does not parse"
    if command == "data" and not is_placeholder(arguments.name):
        return None if arguments.name in group_options("dataset") else "no such data set"
    return None


def test_commands_without_hydra_parse(capsys):
    found = {" ".join(words): plain_fault(words) for words in SHOWN}
    assert {words: fault for words, fault in found.items() if fault} == {}, capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("condens",), ("list", "metods"), ("export", "x"), ("data", "info", "digit")]
)
def test_the_test_sees_a_wrong_command(words, capsys):
    assert plain_fault(words)


def overrides(words: tuple[str, ...]) -> list[str]:
    """Return a command's settings, without its flags and their values and without the reader's own choices."""
    words = (
        evaluate.expand_path_arguments(list(words[1:]))
        if words[0] == "evaluate"
        else list(words[1:])
    )
    flags = {index for index, word in enumerate(words) if word.startswith("-")}
    valued = {
        index + 1 for index in flags if words[index] in ("--config-dir", "--cfg", "-cd", "-c")
    }
    settings = [word for index, word in enumerate(words) if index not in flags | valued]
    return [word for word in settings if "=" in word or word.startswith(("~", "+"))]


def test_choices_in_commands_are_files_of_their_groups():
    own = {
        title
        for page in PAGES
        for title in re.findall(r'title="own/([\w/]+)\.yaml"', page.read_text())
    }
    lost = []
    for words, page in HYDRA:
        for override in OverridesParser.create().parse_overrides(overrides(words)):
            group = override.key_or_group.lstrip("/")
            values = (override.input_line or "").partition("=")[2].split(",")
            if not (conf_dir() / group).is_dir() or "/" in group:
                continue
            allowed = [*group_options(group), "null"]
            unknown = [
                value for value in values if value not in allowed and f"{group}/{value}" not in own
            ]
            lost += [
                f"{page.name}: {group}={value}" for value in unknown if not is_placeholder(value)
            ]
    assert lost == []


@pytest.mark.slow
def test_commands_compose(tmp_path):
    """As ``--cfg job`` would; of a sweep's lists the first and the last job."""
    for page in PAGES:
        for title, content in re.findall(
            r'^```yaml title="own/([^"]+)"\n(.*?)^```$', page.read_text(), re.M | re.S
        ):
            (tmp_path / title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / title).write_text(content)
    faults = {}
    for words, page in HYDRA:
        for job in (0, -1) if "-m" in words else (0,):
            try:
                composed(words, job, tmp_path)
            except Exception as error:  # whatever it is, the reader would meet it
                faults[page.name, *words] = str(error)
    assert faults == {}


def composed(words: tuple[str, ...], job: int, own: Path) -> None:
    """Compose the configuration of a command, with the folder of configs that the pages show."""
    settings = (
        [one_of(word, job) for word in overrides(words)] if "-m" in words else overrides(words)
    )
    settings = [word for word in settings if not (is_choice_of_the_reader(word) or is_range(word))]
    if (
        find_spec("hydra_plugins.hydra_ray_launcher") is None
    ):  # it wants an older joblib than the tests
        settings = [word for word in settings if word != "sweep=ray"]
    if words[0] == "evaluate" and not any(word.startswith("dataset=") for word in settings):
        settings.append("dataset=digits")
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose(words[0], [*settings, f"hydra.searchpath=[file://{own}]"])
    OmegaConf.to_container(cfg.pool, resolve=True)
    assert cfg.dataset is not None


def one_of(word: str, job: int) -> str:
    """Take one element of a sweep's list."""
    key, _, value = word.partition("=")
    return (
        f"{key}={value.split(',')[job]}"
        if "," in value and value[0] not in "[{'" and "(" not in value
        else word
    )


def is_range(word: str) -> bool:
    """Tell whether a word leaves its value to a sweeper: tag(log, interval(0.1, 10))."""
    return word.partition("=")[2].startswith(("tag(", "interval(", "range("))


def is_choice_of_the_reader(word: str) -> bool:
    """Tell whether a word chooses a file that the page leaves open."""
    key, _, value = word.partition("=")
    return (conf_dir() / key.partition("@")[0].lstrip("+")).is_dir() and is_placeholder(value)

"""Links, paths and ``dcond`` commands in the documentation are valid, down to each override."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dcond.cli import data, export, merge, report
from dcond.cli.groups import group_options
from dcond.cli.list import KINDS
from dcond.cli.main import COMMANDS
from dcond.cli.overrides import expand_path_arguments
from dcond.evaluation.results import EvalResult, NetworkResult
from dcond.paths import conf_dir
from dcond.run.result import Baselines, Cost, RunResult

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CONFIGS = sorted(
    (ROOT / "conf").rglob("*.yaml")
)  # their comments and help texts contain commands too
INLINE = re.compile(r"(?<!`)`(?P<code>[^`]+)`(?!`)")
GENERATED = {ROOT / "docs" / "configuration.md"}  # generated when the site is built


# --- reading the pages


def code_lines(text: str) -> Iterator[str]:
    """Yield the lines of fenced and indented blocks, with continued lines joined."""
    fenced = False
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of every ``dcond`` command of a page or of a file of conf/."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        candidates = [line.lstrip("# ") for line in text.splitlines()]
    else:
        candidates = [
            *code_lines(text),
            *(" ".join(match["code"].split()) for match in INLINE.finditer(text)),
        ]
    parts = (part for line in candidates for part in re.split(r" && | \| |;", line))
    matches = (re.match(r"(?:[A-Z_]+=\S+ )*dcond (?P<args>[a-z]+( .*)?)$", part) for part in parts)
    return [split(match["args"]) for match in matches if match]


def split(text: str) -> list[str]:
    """Split a command as a shell does, without a remark after it."""
    text = re.split(r"\s{2,}| # | > |[,.:]$", text)[0]
    return [override for override in shlex.split(text) if override not in ("…", "...")]


def is_placeholder(value: str) -> bool:
    """Return whether a value is a placeholder for one of the reader's own."""
    return re.fullmatch(r"…|\.\.\.|[A-Z][A-Z_]*", value) is not None


SHOWN = {tuple(arguments): page for page in [*PAGES, *CONFIGS] for arguments in commands(page)}
HYDRA = [
    (arguments, page)
    for arguments, page in SHOWN.items()
    if arguments[0] in ("condense", "evaluate")
]


# --- links and paths


def test_relative_links_point_to_files():
    missing = [
        f"{page.name}: {link['target']}"
        for page in PAGES
        for link in re.finditer(
            r"\]\((?P<target>[^)#\s:]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8")
        )
        if not (page.parent / link["target"]).exists()
        and page.parent / link["target"] not in GENERATED
    ]
    assert missing == []


def test_paths_in_the_text_are_files_of_this_repository():
    place = re.compile(r"(src|tests|docs|conf|scripts|benchmarks)/[\w./-]+")
    named = [
        (page.name, found["code"].partition("::")[0])
        for page in PAGES
        for found in INLINE.finditer(page.read_text())
    ]
    made = ("class_mean", "xyz", "configuration.md")  # of the examples
    missing = [
        f"{page}: {path}"
        for page, path in named
        if place.fullmatch(path) and not (ROOT / path).exists()
    ]
    assert [arguments for arguments in missing if not any(name in arguments for name in made)] == []


def test_every_page_is_on_the_site():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [
        page.relative_to(ROOT / "docs").as_posix()
        for page in PAGES
        if page.is_relative_to(ROOT / "docs")
    ]
    site = yaml.safe_load(text)
    linked = site["not_in_nav"].split()  # from pages that are in it
    missing = [page for page in pages if f"'{page}'" not in str(site["nav"])]
    missing = [page for page in missing if not any(fnmatch(f"/{page}", each) for each in linked)]
    assert missing == []  # add it to nav in mkdocs.yml


def test_the_fields_of_a_result_are_described():
    section = (ROOT / "docs" / "report.md").read_text().partition("## Fields of `result.json`")[2]
    described = set(re.findall(r"`(\w+)`", section.partition("\n## ")[0]))
    network = NetworkResult(accuracies=(0.5, 0.6), lr=0.1, epochs=1, wall_s=1.0)
    evaluation = EvalResult("quick", {"MLP": network}).as_dict()
    (own,) = evaluation["networks"].values()
    names = {each.name for kind in (RunResult, Cost, Baselines) for each in fields(kind)}
    assert names | evaluation.keys() | own.keys() <= described


def test_the_citation_is_this_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["title"], citation["license"]) == (project["name"], project["license"])
    assert citation["authors"] == [{"name": "The dcond developers"}]
    assert {"cff-version", "message"} <= citation.keys()


# --- commands


def test_there_are_commands_to_look_at():
    assert len(SHOWN) > 60
    assert ("condense", "method=m3d", "dataset=cifar10", "ipc=10") in SHOWN


def plain_fault(arguments: tuple[str, ...]) -> str | None:
    """Return the fault of a command that does not use Hydra, or of its name; None without one."""
    command, rest = (
        arguments[0],
        [override for override in arguments[1:] if not is_placeholder(override)],
    )
    if command not in COMMANDS:
        return "no such sub-command"
    if command == "list":
        return (
            None
            if len(rest) == len(arguments) - 1 == 1 and rest[0] in KINDS
            else None
            if not rest
            else "no such kind"
        )
    parsers = {"data": data._parser, "export": export._parser}
    parsers |= {"merge": merge._parser, "report": report._parser}
    if (
        command not in parsers or len(arguments) == 1 or arguments[1].startswith("--to")
    ):  # the page leaves arguments out
        return None
    try:
        parser = parsers[command]()
        parse = parser.parse_args if command == "data" else parser.parse_intermixed_args
        arguments = parse(list(arguments[1:]))
    except SystemExit:
        return "does not parse"
    if command == "data" and not is_placeholder(arguments.name):
        return None if arguments.name in group_options("dataset") else "no such data set"
    return None


def test_commands_without_hydra_parse(capsys):
    found = {" ".join(arguments): plain_fault(arguments) for arguments in SHOWN}
    assert {arguments: fault for arguments, fault in found.items() if fault} == {}, (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "arguments", [("condens",), ("list", "metods"), ("export", "x"), ("data", "info", "digit")]
)
def test_a_wrong_command_is_found(arguments, capsys):
    assert plain_fault(arguments)


def overrides(arguments: tuple[str, ...]) -> list[str]:
    """Return the overrides of a command, without flags and their values."""
    arguments = (
        expand_path_arguments(list(arguments[1:]))
        if arguments[0] == "evaluate"
        else list(arguments[1:])
    )
    flags = {index for index, override in enumerate(arguments) if override.startswith("-")}
    valued = {
        index + 1 for index in flags if arguments[index] in ("--config-dir", "--cfg", "-cd", "-c")
    }
    settings = [override for index, override in enumerate(arguments) if index not in flags | valued]
    return [override for override in settings if "=" in override or override.startswith(("~", "+"))]


def test_choices_in_commands_are_files_of_their_groups():
    own = {
        title
        for page in PAGES
        for title in re.findall(r'title="own/([\w/]+)\.yaml"', page.read_text())
    }
    missing = []
    for arguments, page in HYDRA:
        for override in OverridesParser.create().parse_overrides(overrides(arguments)):
            group = override.key_or_group.lstrip("/")
            values = (override.input_line or "").partition("=")[2].split(",")
            if override.is_delete() or not (conf_dir() / group).is_dir() or "/" in group:
                continue
            allowed = [*group_options(group), "null"]
            unknown = [
                value for value in values if value not in allowed and f"{group}/{value}" not in own
            ]
            missing += [
                f"{page.name}: {group}={value}" for value in unknown if not is_placeholder(value)
            ]
    assert missing == []


@pytest.mark.slow
def test_commands_compose(tmp_path):
    """Compose each command, as ``--cfg job`` does; of a sweep the first and the last job."""
    for page in PAGES:
        for title, content in re.findall(
            r'^```yaml title="own/([^"]+)"\n(.*?)^```$', page.read_text(), re.M | re.S
        ):
            (tmp_path / title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / title).write_text(content)
    faults = {}
    for arguments, page in HYDRA:
        for job in (0, -1) if "-m" in arguments else (0,):
            try:
                composed(arguments, job, tmp_path)
            except Exception as error:  # the reader would see any error
                faults[page.name, *arguments] = str(error)
    assert faults == {}


def composed(arguments: tuple[str, ...], job: int, own: Path) -> None:
    """Compose a command, with the folder of configs that the pages contain."""
    settings = (
        [one_of(override, job) for override in overrides(arguments)]
        if "-m" in arguments
        else overrides(arguments)
    )
    settings = [
        override
        for override in settings
        if not (is_choice_of_the_reader(override) or is_range(override))
    ]
    if (
        find_spec("hydra_plugins.hydra_ray_launcher") is None
    ):  # needs an older joblib than the tests
        settings = [override for override in settings if override != "sweep=ray"]
    if arguments[0] == "evaluate" and not any(
        override.startswith("dataset=") for override in settings
    ):
        settings.append("dataset=digits")
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose(arguments[0], [*settings, f"hydra.searchpath=[file://{own}]"])
    OmegaConf.to_container(cfg.pool, resolve=True)
    assert cfg.dataset is not None


def one_of(override: str, job: int) -> str:
    """Return an override with one element of a sweep's list."""
    key, _, value = override.partition("=")
    return (
        f"{key}={value.split(',')[job]}"
        if "," in value and value[0] not in "[{'" and "(" not in value
        else override
    )


def is_range(override: str) -> bool:
    """Return whether an override leaves its value to a sweeper: tag(log, interval(0.1, 10))."""
    return override.partition("=")[2].startswith(("tag(", "interval(", "range("))


def is_choice_of_the_reader(override: str) -> bool:
    """Return whether an override selects a file that the page leaves open."""
    key, _, value = override.partition("=")
    return (conf_dir() / key.partition("@")[0].lstrip("+")).is_dir() and is_placeholder(value)

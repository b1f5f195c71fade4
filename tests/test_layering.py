"""Imports run one way, as docs/architecture.md draws it; read from the source, imports inside
functions included.
"""

import ast
import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

import dcond

SOURCE = Path(dcond.__file__).parent

# A package may import itself and what stands in the levels below its own, nothing beside it.
# "dcond" itself stands for the version.
LEVELS = [
    {"errors", "file_lock", "lazy", "log", "paths", "rng", "stats", "torch_state", "whitening"},
    {"cache", "distributed", "environment", "multi_formation", "settings"},
    {"device"},
    {"safe_load", "types"},
    {"artefact", "augment", "class_matching", "data", "merging", "models"},
    {"matching"},
    {"training"},
    {"importers", "init"},
    {"evaluation", "methods"},
    {"run"},
    {"report"},
    {"cli"},
    {"__init__"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
ONLY_IN = {  # what is above the library, and who may know of it
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "tensorboard": {"run"},
    "torch.utils.tensorboard": {"run"},
    "rich": {"log", "run", "report", "cli"},
    "timm": {"models"},
    "safetensors": {"artefact", "training"},
    "sklearn": {"data"},
    "matplotlib": {"report", "cli"},
}

MODULES = sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(SOURCE).with_suffix("").parts


def imported(path: Path) -> set[str]:
    """Return the dotted names of everything a file imports; ``from a import b`` counts as a and as
    a.b.
    """
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it goes"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def parts_imported(path: Path) -> set[tuple[str, ...]]:
    """Return the modules of dcond that a file imports, as tuples below ``dcond``."""
    found = {tuple(name.split(".")[1:]) for name in imported(path) if name.split(".")[0] == "dcond"}
    return {parts for parts in found if parts and parts[0] in LEVEL}


def may_import(part: str, other: str) -> bool:
    return other == part or LEVEL[other] < LEVEL[part]


every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(name_of(path)))


@every_module
def test_imports_run_one_way(path):
    part = name_of(path)[0]
    assert part in LEVEL, f"{part} is new: give it a level in this test and in docs/architecture.md"
    upward = {".".join(other) for other in parts_imported(path) if not may_import(part, other[0])}
    assert not upward, f"dcond.{part} does not stand above what it imports: {sorted(upward)}"


@every_module
def test_what_stands_outside_is_known_where_it_is_used_only(path):
    part = name_of(path)[0]
    for outside, allowed in ONLY_IN.items():
        uses = any(name == outside or name.startswith(f"{outside}.") for name in imported(path))
        assert not uses or part in allowed, (
            f"dcond.{part} imports {outside}; only {sorted(allowed)} may"
        )


def test_what_is_imported_is_declared():
    """Not only brought along by another package, which may do without it one day."""
    names = {name.split(".")[0] for path in MODULES for name in imported(path)}
    outside = names - set(sys.stdlib_module_names) - {"dcond"}
    project = tomllib.loads(
        (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    )["project"]
    requirements = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {re.split(r"[\[<>=]", text)[0] for text in requirements}
    called = {
        "annotated_types": "annotated-types",
        "hydra": "hydra-core",
        "sklearn": "scikit-learn",
        "PIL": "pillow",
    }
    assert {called.get(name, name) for name in outside} <= declared


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if name_of(path)[0] == "methods" and path.stem != "__init__"],
    ids=lambda p: p.stem,
)
def test_a_method_knows_no_other_method(path):
    others = {
        other[1] for other in parts_imported(path) if other[0] == "methods" and len(other) > 1
    }
    assert others <= {"base"}


@pytest.mark.parametrize(
    "path",
    [SOURCE / "cli" / "main.py", SOURCE / "__init__.py", SOURCE / "errors.py", SOURCE / "paths.py"],
)
def test_what_the_command_line_starts_with_imports_neither_torch_nor_hydra(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} & {
        "torch",
        "hydra",
        "omegaconf",
        "torchvision",
        "numpy",
    }


@every_module
def test_no_module_is_called_utils(path):
    assert not {"utils", "util", "helpers", "common", "misc"} & set(name_of(path))


@pytest.mark.parametrize(
    ("part", "other"),
    [("matching", "run"), ("matching", "training"), ("report", "cli"), ("distributed", "types")],
)
def test_neither_up_nor_sideways(part, other):
    assert not may_import(part, other)
    assert may_import(part, part)
    assert may_import("cli", part)


def test_the_test_sees_an_import_that_goes_up(tmp_path):
    sample = tmp_path / "sample.py"
    sample.write_text(
        "def f():\n    from dcond.run import loop\n    import dcond.cli.instantiate\n"
    )
    assert parts_imported(sample) == {("run",), ("run", "loop"), ("cli", "instantiate")}

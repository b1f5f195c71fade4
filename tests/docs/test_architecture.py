"""The tree, the way of data and the levels in docs/architecture.md, compared with the source."""

import ast
import importlib.util
import re
from pathlib import Path

import dcond
import test_layering

ROOT = Path(__file__).parents[2]
SOURCE = Path(dcond.__file__).parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def tree_in_page() -> set[str]:
    """Return the modules and packages of the tree, as paths below ``src/dcond``."""
    (block,) = re.findall(r"^```text\nsrc/dcond/\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    entries, folder = [], ""
    for line in block.splitlines():
        found = re.fullmatch(r"(  |    )(\w+(?:\.py|/)) +\S.*", line)
        assert found, f"not a line of the tree, NAME.py or NAME/ and its purpose: {line!r}"
        indent, name = found.groups()
        folder = name if name.endswith("/") else folder if len(indent) == 4 else ""
        entries.append(name if name.endswith("/") or not folder else folder + name)
    assert len(entries) == len(set(entries))
    return set(entries)


def tree_in_source() -> set[str]:
    """Return the same of the source; the ``__init__.py`` of a package is its folder."""
    paths = (path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
    return {
        f"{path.parent.as_posix()}/"
        if path.name == "__init__.py" and path.parent != Path()
        else path.as_posix()
        for path in paths
    }


def suggestion(entry: str) -> str:
    """Return a line for the tree, with the first line of a module's docstring."""
    path = SOURCE / entry / "__init__.py" if entry.endswith("/") else SOURCE / entry
    purpose = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
    name = entry if entry.endswith("/") else path.name
    return f"{'    ' if '/' in entry.rstrip('/') else '  '}{name:<27}{purpose}"


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, each a list of cells."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


def test_the_tree_is_the_source():
    shown, existing = tree_in_page(), tree_in_source()
    missing = [suggestion(entry) for entry in sorted(existing - shown)]
    assert not missing, "add to the tree in docs/architecture.md:\n" + "\n".join(missing)
    gone = sorted(shown - existing)
    assert not gone, f"remove from the tree in docs/architecture.md: {gone}"


def test_the_levels_are_those_of_the_layering_test():
    table = {int(level): set(names(cell)) for level, cell in rows("Imports")}
    assert [table[level] for level in sorted(table)] == test_layering.LEVELS


def test_every_step_of_the_way_of_data_imports_what_the_page_says():
    steps = rows("Data flow")
    assert len(steps) >= 8
    for _, module, uses, _ in steps:
        (name,) = names(module)
        path = SOURCE / f"{name.replace('.', '/')}.py"
        assert path.is_file(), f"{name} does not exist"
        imported = test_layering.imported(path)
        unused = [other for other in names(uses) if f"dcond.{other}" not in imported]
        assert not unused, f"dcond.{name} does not import {unused}"


def test_the_reference_names_existing_modules_and_functions():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    entries = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    assert len(entries) == len(set(entries)) > 50
    for entry in entries:
        parent, _, name = entry.rpartition(".")
        module = importlib.import_module(parent)
        assert hasattr(module, name) or importlib.util.find_spec(entry), entry

"""Scripts and benchmarks, most of which take too long to be run here, can at least be loaded."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOR_MKDOCS = (
    ROOT / "scripts" / "site_hooks.py"
)  # loaded where the site is built, with what that needs
PROGRAMS = sorted(
    {*(ROOT / "scripts").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")} - {FOR_MKDOCS}
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_program_can_be_loaded(program, monkeypatch):
    monkeypatch.syspath_prepend(program.parent)
    assert "__doc__" in runpy.run_path(str(program), run_name="loaded")

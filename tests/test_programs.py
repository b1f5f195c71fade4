"""Scripts and benchmarks can be loaded; most take too long to run here."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOR_MKDOCS = ROOT / "scripts" / "site_hooks.py"  # needs mkdocs; tested by building the site
PROGRAMS = sorted(
    {*(ROOT / "scripts").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")} - {FOR_MKDOCS}
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_program_can_be_loaded(program, monkeypatch):
    monkeypatch.syspath_prepend(program.parent)
    assert "__doc__" in runpy.run_path(str(program), run_name="loaded")

"""Scripts and benchmarks can be loaded; most take too long to run here."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOR_MKDOCS = ROOT / "scripts" / "site_hooks.py"  # needs mkdocs; tested by building the site
PROGRAMS = sorted(
    {*(ROOT / "scripts").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")} - {FOR_MKDOCS}
)


@pytest.mark.parametrize(("segment", "gradient"), [(0, "exact"), (2, "exact"), (1, "tesla")])
def test_a_step_of_trajectory_matching_can_be_measured(segment, gradient):
    measure = runpy.run_path(str(ROOT / "benchmarks/trajectories.py"))["measure"]
    seconds, _ = measure(3, segment, gradient, ipc=1, side=8)
    assert 0 < seconds < 60


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_program_can_be_loaded(program, monkeypatch):
    monkeypatch.syspath_prepend(program.parent)
    assert "__doc__" in runpy.run_path(str(program), run_name="loaded")

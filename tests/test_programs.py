"""Scripts and benchmarks can be loaded; most take too long to run here."""

import json
import runpy
import subprocess
import sys
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


def test_the_phases_of_a_step_can_be_measured():
    arguments = ["--form", "after", "--methods", "m3d", "--batch", "4"]
    program = ROOT / "benchmarks/profile_step.py"
    done = subprocess.run(  # a process of its own, since it wraps functions of dcond
        [sys.executable, program, *arguments], check=True, capture_output=True, text=True
    )
    assert {"real pass", "augment", "kernel distance", "all"} <= json.loads(done.stdout).keys()


def test_an_epoch_of_stacked_networks_can_be_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    ways = runpy.run_path(str(ROOT / "benchmarks/stacked.py"))["Ways"](2)
    assert ways.by_name
    for way in ways.by_name.values():
        way()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_program_can_be_loaded(program, monkeypatch):
    monkeypatch.syspath_prepend(program.parent)
    assert runpy.run_path(str(program), run_name="loaded")["__doc__"]

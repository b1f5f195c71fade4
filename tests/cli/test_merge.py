"""``dcond merge``: tasks condensed apart become one set that every command takes."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

import dcond
from dcond import artefact

from .conftest import SMALL_POOL, TINY

ROOT = Path(__file__).parents[2]
SHORT = (*SMALL_POOL, "evaluation.epochs=1", "evaluation.repeats=1", "baselines=false")


@pytest.fixture
def tasks(condense):
    """Two runs of two digits each."""
    for name, classes in (("task1", "[7,1]"), ("task2", "[4,2]")):
        done = condense("evaluate=false", f"dataset.classes={classes}", f"hydra.run.dir={name}")
        assert done.code == 0, done.err


def test_the_union_is_evaluated_on_its_classes(tasks, run_cli, results, folder, monkeypatch):
    done = run_cli("merge", "task1", "task2/synthetic.safetensors", "--out", "new/both")
    assert (done.code, done.err) == (0, "")
    assert done.out == "4 images of 4 classes -> new/both\n"
    merged = dcond.load("new/both")
    assert torch.equal(merged.images[:2], dcond.load("task1").images)
    assert [path.name for path in (folder / "new" / "both").iterdir()] == ["synthetic.safetensors"]
    done = run_cli("evaluate", "new/both", *SHORT, "hydra.run.dir=e")
    assert done.code == 0, done.err
    (result,) = [each for each in results() if each["evaluation"]]
    assert result["dataset"] == "digits-7-1-4-2"
    monkeypatch.setenv("HOME", str(folder))
    assert run_cli("merge", "task1", "task2", "--out=~/home").code == 0
    assert artefact.load(folder / "home").ipc == 1
    line = run_cli("evaluate", "new/both", "dataset=digits", *SHORT).line
    assert line == (
        "new/both: it has 4 of the 10 classes of 'digits'; add "
        '\'dataset.classes=["7","1","4","2"]\' to use these only.'
    )


def test_nothing_is_overwritten_and_a_refusal_writes_nothing(tasks, run_cli, folder):
    line = run_cli("merge", "task1", "task1", "--out", "both").line
    assert line.startswith("class '7' is in set 1 and in set 2")
    assert not (folder / "both").exists()
    line = run_cli("merge", "task1", "task2", "--out", "task1").line
    assert line == "task1 exists and is not overwritten; remove it or choose another --out."
    np.savez("an other.npz", images=np.zeros((2, 8, 8)), labels=[0, 1])
    line = run_cli("merge", "task1", "an other.npz", "--out", "both").line
    assert line == (
        "an other.npz is not an artefact of dcond; convert it: dcond export 'an other.npz' --to "
        "dcond dataset=NAME."
    )
    (folder / "file").touch()
    assert "cannot write file/x: " in run_cli("merge", "task1", "task2", "--out", "file/x").line
    assert run_cli("merge", "task1", "--out", "both").line.startswith("1 set(s) cannot be merged")
    assert run_cli("merge", "task1", "task2").code == 2


def test_the_page_on_continual_learning(run_cli, monkeypatch, capsys):
    page = (ROOT / "docs" / "continual.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    small = {"condense": (*TINY, "evaluate=false"), "evaluate": SHORT}
    for line in commands.splitlines():
        program, command, *arguments = shlex.split(line)
        assert program == "dcond"
        done = run_cli(command, *arguments, *small.get(command, ()))
        assert done.code == 0, (line, done.err)
    assert artefact.load("memory").class_names == tuple("0123456789")
    namespace: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/continual.md", "exec"), namespace)
    assert namespace["accuracy"] > 0.5
    assert "test images of both tasks" in capsys.readouterr().out

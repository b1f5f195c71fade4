"""Arbitrary command lines: success, or an error of one line and no partial files."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcond import artefact
from dcond.run.result import RunResult
from dcond.types import SyntheticSet
from helpers.one_line import called

# Content of the folder for every command line.
GOOD = SyntheticSet(
    torch.full((4, 1, 4, 4), 0.5), torch.tensor([0, 0, 1, 1]), ("a", "b"), 2, (0.5,), (0.25,)
)
THERE = ("good.safetensors", "cut.safetensors", "run", "odd", "empty", "text.png")

KEYS = (
    *(
        "ipc",
        "seed",
        "method",
        "method.lr",
        "method.steps",
        "init",
        "model",
        "model.width",
        "pool",
        "pool@learners",
    ),
    *(
        "evaluation.lr",
        "evaluation.epochs",
        "device",
        "threads",
        "loop",
        "engine",
        "teacher",
        "augment",
        "experiment",
    ),
    *("tuned", "max_seconds", "dataset.name", "dataset.keep", "model@x.y"),
)
VALUES = (
    "null",
    "true",
    "[]",
    "{}",
    "''",
    "${ipc}",
    "${method}",
    "1e400",
    "-nan",
    "0",
    "-1",
    "99999999999",
)

texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=6)
values = st.sampled_from(VALUES) | texts | st.integers().map(str) | st.floats().map(str)
keys = st.sampled_from(KEYS) | texts
settings = (
    st.builds("{}{}={}".format, st.sampled_from(["", "", "", "+", "++", "~"]), keys, values) | texts
)
paths = st.sampled_from(THERE) | texts.filter(lambda text: "/" not in text)


def fill(folder: Path) -> None:
    """Create a set, a truncated one, a finished run, and other files."""
    good = artefact.save(GOOD, folder / "good.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(good[: len(good) // 2])
    (folder / "empty").mkdir()
    (folder / "text.png").write_text("no picture")
    (folder / "odd").mkdir()
    (folder / "odd" / "result.json").write_text(
        json.dumps({"schema": "dcond-result/1", "status": 5})
    )
    (folder / "run").mkdir()
    done = RunResult(status="done", method="dm", dataset="digits", ipc=1, seed=0)
    done.write(folder / "run")
    (folder / "run" / "synthetic.safetensors").write_bytes(good)


@pytest.mark.parametrize("path", ["good.safetensors", "run"])
def test_valid_files_are_exported(path):
    assert called(["export", path, "--to", "npz"], fill) == 0


def check(arguments: list[str]) -> None:
    """Call the command and check its outcome."""
    called(arguments, fill)


@given(st.lists(settings, max_size=3))
def test_condense(arguments):
    check(
        [
            "condense",
            "debug=tiny",
            "dataset=npz",
            "dataset.path=text.png",
            "evaluate=false",
            *arguments,
        ]
    )


@given(st.sampled_from(["", "synthetic=", "against="]), paths, st.lists(settings, max_size=2))
def test_evaluate(what, path, arguments):
    check(["evaluate", f"{what}{path}", "dataset=npz", "dataset.path=text.png", *arguments])


@given(st.lists(settings, max_size=3))
def test_data(arguments):
    check(["data", "info", "npz", "dataset.path=text.png", *arguments])


@given(
    st.lists(
        paths | st.sampled_from(["--to", "--out", "png", "npz", "pt", "--decoded", "new"]),
        max_size=5,
    )
)
def test_export(arguments):
    check(["export", *arguments])


formats = st.sampled_from(
    ["--format", "--group-by", "method.lr", "table", "csv", "latex", "markdown"]
)


@given(st.lists(paths | formats, max_size=5))
def test_report(arguments):
    check(["report", *arguments])


commands = st.sampled_from(["condense", "evaluate", "data", "export", "merge", "report", "list"])


@given(commands, st.lists(texts, max_size=2))
def test_any_command(command, arguments):
    check([command, *arguments, "no=such"])

"""``result.json``."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dcond.errors import ConfigError
from dcond.evaluation.results import EvalResult, NetworkResult, compare
from dcond.run import result
from dcond.run.result import AgainstResult, Baselines, Origin, RunResult

WITH_DEFAULT = ("status", "cost", "baselines")


def test_every_field_of_the_contract_is_written_and_null_without_a_value():
    empty = RunResult().as_dict()
    assert list(empty) == [
        *("status", "error", "method", "dataset", "ipc", "factor", "seed", "source", "device"),
        *("config_sha256", "choices", "config", "extras", "git_commit", "versions"),
        *("images_stored", "images_decoded", "bytes_stored", "cost", "normalisation"),
        *("evaluation", "baselines", "scores", "score_inputs", "comparison"),
    ]
    assert empty["status"] == "failed"  # until the run ends
    assert list(empty["cost"]) == [
        *("start_wall_s", "condense_wall_s", "steps", "step_s_median", "evaluate_wall_s"),
        *("peak_memory_bytes", "processes"),
    ]
    assert empty["baselines"] == dict.fromkeys(("random", "random_decoded", "full"))
    assert set(empty["cost"].values()) == {None}
    assert all(value is None for name, value in empty.items() if name not in WITH_DEFAULT)


def test_a_result_starts_with_versions_and_what_is_known():
    known = RunResult.start(method="dm", ipc=10)
    assert (known.method, known.ipc, known.dataset) == ("dm", 10, None)
    assert known.versions["torch"]
    known.cost.steps = 5
    assert RunResult().cost.steps is None


def test_what_is_written_is_read_again(tmp_path):
    network = NetworkResult((0.5, 0.7), 0.01, 300, 2.5, best=(0.6, 0.8), searched={0.1: 0.4})
    found = EvalResult("quick", {"MLP": network})
    other = EvalResult("quick", {"MLP": NetworkResult((0.4, 0.5), 0.01, 300, 2.5)})
    comparison = compare(found, other)
    result = RunResult.start(
        method="dm",
        source=Origin(path="x.pt", content="ab", config={"lr": 0.1}),
        evaluation=replace(found, tested_on="held_out"),
        baselines=Baselines(random=other),
        score_inputs={"hard_labels": other},
        comparison=AgainstResult(
            against="m3d",
            ipc=1,
            factor=2,
            evaluation=other,
            networks=comparison.networks,
            average=comparison.average,
        ),
        status="done",
    )
    result.write(tmp_path)
    assert RunResult.read(tmp_path) == result


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not a result of dcond"),
        ('{"status": "done"}', "not a result of dcond"),
        ('{"status": "over", "method": "dm"}', "status: Input should be 'done', 'failed'"),
        ('{"status": "done", "method": "dm", "ipc": "x"}', "ipc: Input should be a valid integer"),
        ('{"status": "done", "method": "dm", "cost": 3}', "cost: Input should be"),
        ("half {", "Expecting value"),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        RunResult.read(tmp_path)
    assert message in str(error.value)


def test_versions_of_what_could_change_a_number():
    versions = result.installed_versions()
    assert {"dcond", "torch", "python", "numpy", "timm", "torchvision"} <= versions.keys()
    assert versions["torch"].split("+")[0].count(".") == 2
    assert versions["python"].startswith("3.")


def test_the_file_is_plain_json(tmp_path):
    RunResult(method="dm").write(tmp_path)
    text = (tmp_path / "result.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text)["method"] == "dm"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_figure_that_is_no_number_is_never_written(tmp_path):
    RunResult(method="before").write(tmp_path)
    bad = RunResult()
    bad.cost.condense_wall_s = float("nan")
    with pytest.raises(ValueError, match="Out of range float values"):
        bad.write(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["method"] == "before"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_finished_run_is_never_overwritten(tmp_path):
    RunResult(status="done", method="dm").write(tmp_path)
    with pytest.raises(ConfigError) as error:
        RunResult.refuse_finished(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} holds a finished run, which is never overwritten; choose another folder."
    )


@pytest.mark.parametrize(
    "content", ['{"status": "failed"}', '{"status": "interrupted"}', "{}", "[]", "", "half {"]
)
def test_an_unfinished_or_unreadable_result_may_be_replaced(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    RunResult.refuse_finished(tmp_path)


def test_an_empty_folder_may_be_used(tmp_path):
    RunResult.refuse_finished(tmp_path)
    RunResult.refuse_finished(tmp_path / "not there yet")


def test_settings_are_named_as_on_the_command_line():
    config = {
        "ipc": 1,
        "method": {
            "lr": 0.5,
            "rule": {"_target_": "a.B"},
            "sizes": [1, "x"],
            "none": None,
            "empty": {},
        },
    }
    assert result.flat_settings(config) == {
        "ipc": 1,
        "method.lr": 0.5,
        "method.rule._target_": "a.B",
        "method.sizes": '[1, "x"]',
        "method.none": None,
        "method.empty": "{}",
    }


def test_a_configuration_is_named_by_its_text():
    assert result.sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert result.sha256("ipc: 1") != result.sha256("ipc: 2")


def test_the_commit_says_whether_the_code_was_changed(tmp_path, monkeypatch):
    package = tmp_path / "src" / "dcond" / "report"
    package.mkdir(parents=True)
    source = package / "result.py"
    source.write_text("one\n")
    monkeypatch.setattr(result, "__file__", str(source))
    assert result.git_commit() is None

    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert result.git_commit() == commit
    (tmp_path / "notes.txt").write_text("not tracked")
    assert result.git_commit() == commit
    source.write_text("two\n")
    assert result.git_commit() == f"{commit}+changes"


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(result, "__file__", str(Path(tmp_path, "src", "dcond", "run", "result.py")))
    monkeypatch.setenv("PATH", "")
    assert result.git_commit() is None


@pytest.mark.parametrize("content", ["{}", "[]", '{"accuracy": 0.5}'])
def test_a_result_of_another_program_is_never_overwritten(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ConfigError) as error:
        RunResult.refuse_foreign(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'result.json'} is not a result of dcond and is not overwritten; choose "
        "another folder."
    )


@pytest.mark.parametrize("content", [None, "", "half {", '{"status": "failed", "method": "dm"}'])
def test_no_result_a_damaged_one_and_one_of_dcond_are_not_foreign(tmp_path, content):
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    RunResult.refuse_foreign(tmp_path)

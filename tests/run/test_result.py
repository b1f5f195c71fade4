"""``result.json``."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from dcond.errors import ConfigError
from dcond.run import result


def test_every_field_of_the_contract_is_there_and_null_where_nothing_is_known():
    empty = result.new()
    assert empty["status"] == "failed"  # until something else is known
    assert empty.keys() == {
        *(
            "status",
            "error",
            "method",
            "dataset",
            "ipc",
            "factor",
            "seed",
            "device",
            "config_sha256",
            "git_commit",
        ),
        *("choices", "config", "extras"),
        *(
            "versions",
            "images_stored",
            "images_decoded",
            "bytes_stored",
            "cost",
            "evaluation",
            "baselines",
            "scores",
        ),
        *("score_inputs", "comparison", "source", "normalisation"),
    }
    assert empty["cost"] == dict.fromkeys(
        (
            "start_wall_s",
            "condense_wall_s",
            "steps",
            "step_s_median",
            "evaluate_wall_s",
            "peak_memory_bytes",
            "processes",
        )
    )
    assert empty["baselines"] == dict.fromkeys(("random", "random_decoded", "full"))
    unknown = {
        "method",
        "dataset",
        "ipc",
        "factor",
        "seed",
        "device",
        "images_stored",
        "evaluation",
        "scores",
        "error",
    }
    unknown |= {"choices", "config", "extras", "normalisation"}
    assert all(empty[name] is None for name in unknown)


def test_what_is_known_is_said_and_the_next_result_is_a_fresh_one():
    known = result.new(method="dm", ipc=10)
    assert (known["method"], known["ipc"], known["dataset"]) == ("dm", 10, None)
    known["cost"]["steps"] = 5
    assert result.new()["cost"]["steps"] is None


def test_versions_of_what_could_change_a_number():
    versions = result.versions()
    assert {"dcond", "torch", "python", "numpy", "timm", "torchvision"} <= versions.keys()
    assert versions["torch"].split("+")[0].count(".") == 2
    assert versions["python"].startswith("3.")


def test_the_file_is_plain_json(tmp_path):
    result.write(result.new(method="dm"), tmp_path)
    text = (tmp_path / "result.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text)["method"] == "dm"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_figure_that_is_no_number_is_never_written(tmp_path):
    result.write(result.new(method="before"), tmp_path)
    bad = result.new()
    bad["cost"]["condense_wall_s"] = float("nan")
    with pytest.raises(ValueError, match="Out of range float values"):
        result.write(bad, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["method"] == "before"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_finished_run_is_never_overwritten(tmp_path):
    result.write(result.new(status="done"), tmp_path)
    with pytest.raises(ConfigError) as error:
        result.refuse_finished(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} holds a finished run, which is never overwritten; choose another folder."
    )


@pytest.mark.parametrize(
    "content", ['{"status": "failed"}', '{"status": "interrupted"}', "{}", "[]", "", "half {"]
)
def test_an_unfinished_or_unreadable_result_may_be_replaced(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    result.refuse_finished(tmp_path)


def test_an_empty_folder_may_be_used(tmp_path):
    result.refuse_finished(tmp_path)
    result.refuse_finished(tmp_path / "not there yet")


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
    assert result.flat(config) == {
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


def test_the_commit_tells_whether_the_code_was_changed(tmp_path, monkeypatch):
    package = tmp_path / "src" / "dcond" / "report"
    package.mkdir(parents=True)
    source = package / "result.py"
    source.write_text("one\n")
    monkeypatch.setattr(result, "__file__", str(source))
    assert result.git_commit() is None

    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
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

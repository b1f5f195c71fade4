"""Finding and reading results; unreadable files are skipped with the reason."""

import errno
import json
from pathlib import Path

import pytest

from dcond.errors import ConfigError
from dcond.report.collect import collect, natural


def test_a_result_is_read_with_its_settings(write_result):
    folder = write_result(
        "run",
        {"A": 0.5, "B": 0.25},
        cost={"condense_wall_s": 3.0},
        settings={"method.flag": True},
        factor=2,
        seed=7,
    )
    (run,) = collect([folder]).runs
    assert (run.method, run.dataset, run.ipc, run.factor, run.seed, run.status) == (
        "dm",
        "digits",
        1,
        2,
        7,
        "done",
    )
    assert run.networks == {"A": 0.5, "B": 0.25}
    assert run.cost == {"condense_wall_s": 3.0}
    assert run.settings["method.lr"] == "1.0"
    assert run.settings["method.flag"] == "true"  # as on the command line
    assert run.settings["init"] == "real"
    assert not {"seed", "ipc"} & run.settings.keys()
    assert run.evaluated


def test_every_run_once_in_natural_order(write_result, tmp_path):
    for name in ("sweep/10", "sweep/9", "other/1"):
        write_result(name, {"A": 0.5})
    file = tmp_path / "sweep" / "9" / "result.json"
    found = collect([tmp_path / "sweep", tmp_path, file])
    assert [run.folder.relative_to(tmp_path).as_posix() for run in found.runs] == [
        "sweep/9",
        "sweep/10",
        "other/1",
    ]
    assert sorted(["a10", "a9", "a", "b1"], key=natural) == ["a", "a9", "a10", "b1"]


@pytest.mark.parametrize(
    "names",
    [
        [f"dm (method.lr={lr})" for lr in (1e-05, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 3.0, 10.0)],
        ["lr_0.05_seed0", "lr_0.25_seed0", "lr_0.5_seed0", "lr_0.5_seed1"],
        ["v1.9", "v1.10"],
        ["2.11.9", "2.11.10"],
        ["vit_s9.2x", "vit_s9.10x"],
        ["run9", "run10.5"],
    ],
)
def test_numbers_with_decimals_are_numbers_and_versions_are_not(names):
    assert sorted(reversed(names), key=natural) == names


RESULT = '{"status": "done", "method": "dm", %s}'
NETWORK = '{"accuracies": [51.2], "lr": 0.1, "epochs": 5, "wall_s": 1.0}'
HALF = '{"status": "done", "method": "dm", "evalu'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HALF, "not valid JSON, or incomplete"),
        ("", "not valid JSON, or incomplete"),
        ("[" * 100_000, "not valid JSON, or incomplete"),
        (b"\xff\xfe{}", "not valid JSON, or incomplete"),
        ("[]", "not a result of dcond"),
        ('{"accuracy": 0.5}', "not a result of dcond"),
        (
            '{"status": "great", "method": "dm"}',
            "not a result of dcond: status: Input should be 'done', 'failed' or 'interrupted'",
        ),
        (
            '{"status": "done", "method": "dm", "ipc": "ten"}',
            "not a result of dcond: ipc: Input should be a valid integer, "
            "unable to parse string as an integer",
        ),
        (
            '{"status": "done", "method": "dm", "cost": 3}',
            "not a result of dcond: cost: Input should be a dictionary or an instance of Cost",
        ),
        (
            '{"status": "done", "method": "dm", "cost": {"steps": NaN}}',
            "not a result of dcond: cost.steps: Input should be a finite number",
        ),
        (
            '{"status": "done", "method": "dm", "cost": {"condense_wall_s": NaN}}',
            "cost.condense_wall_s=nan is not a finite number",
        ),
        (
            '{"status": "done", "method": "dm", "scores": {"ior": "high"}}',
            "scores.ior=high is not a finite number",
        ),
        (
            RESULT % '"evaluation": {"protocol": "p", "networks": {"A": %s}}' % NETWORK,
            "the accuracies of A are not fractions from 0 to 1",
        ),
        (
            RESULT % '"baselines": {"random": {"protocol": "p", "networks": {"A": null}}}',
            "not a result of dcond: baselines.random.networks.A: "
            "Input should be a dictionary or an instance of NetworkResult",
        ),
    ],
)
def test_files_that_are_not_results_are_skipped_with_the_reason(
    content, reason, write_result, tmp_path
):
    write_result("fine", {"A": 0.5})
    (tmp_path / "odd").mkdir()
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "odd" / "result.json").write_bytes(content)
    found = collect([tmp_path])
    assert len(found.runs) == 1
    assert found.skipped == ((tmp_path / "odd" / "result.json", reason),)


def test_a_number_that_overflows_is_skipped(tmp_path):
    text = json.dumps({"status": "done", "method": "dm", "cost": {"steps": 10**400}})
    (tmp_path / "result.json").write_text(text)
    assert len(collect([tmp_path]).skipped) == 1


def test_a_running_sweep(write_result, tmp_path):
    write_result("sweep/0", {"A": 0.5})
    (tmp_path / "sweep" / "1" / ".hydra").mkdir(parents=True)
    (tmp_path / "sweep" / "2").mkdir()
    (tmp_path / "sweep" / "2" / "condense.log").touch()
    (tmp_path / "sweep" / "2" / ".result.json.abc").write_text(HALF)  # being written
    found = collect([tmp_path])
    assert len(found.runs) == 1
    assert found.skipped == ()
    assert [folder.name for folder in found.unfinished] == ["1", "2"]


def test_a_file_that_cannot_be_read_is_skipped(write_result, tmp_path, monkeypatch):
    write_result("run", {"A": 0.5})

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert [reason for _, reason in collect([tmp_path]).skipped] == ["Permission denied"]


def test_control_characters_are_replaced(write_result, tmp_path):
    write_result("run", {"A\x1b[2J": 0.5}, method="d\nm\x07\ud800")
    (run,) = collect([tmp_path]).runs
    assert run.method == "d m\ufffd\ufffd"
    assert list(run.networks) == ["A\ufffd[2J"]


def test_missing_paths_and_results_are_refused(tmp_path):
    with pytest.raises(ConfigError) as error:
        collect([tmp_path / "no"])
    assert str(error.value) == (
        f"{tmp_path}/no does not exist; pass run folders, sweeps, or folders above them."
    )
    with pytest.raises(ConfigError) as error:
        collect([tmp_path])
    assert str(error.value) == f"no result.json below {tmp_path}; a run writes it when it ends."
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError) as error:
        collect([tmp_path / "config.json"])
    assert str(error.value).startswith(
        f"{tmp_path}/config.json is not a result.json; pass run folders,"
    )


def test_linked_run_folders_are_followed_once(write_result, tmp_path):
    write_result("runs/a", {"A": 0.5})
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "one").symlink_to(tmp_path / "runs" / "a")
    (tmp_path / "study" / "all").symlink_to(tmp_path / "study")  # a circle
    assert [run.folder.name for run in collect([tmp_path / "study"]).runs] == ["one"]
    (tmp_path / "latest").symlink_to(tmp_path / "runs" / "a")  # comes first, but is a link
    assert [run.folder.parent.name for run in collect([tmp_path]).runs] == ["runs"]


def test_runs_of_other_programs_that_use_hydra_are_ignored(write_result, tmp_path):
    write_result("mine/run", {"A": 0.5})
    for name, job in (("theirs", "train"), ("ours", "condense"), ("named", "mine\n  x: dcond.y")):
        hydra = tmp_path / name / ".hydra"
        hydra.mkdir(parents=True)
        (hydra / "hydra.yaml").write_text(f"hydra:\n  job:\n    config_name: {job}\n")
    assert [folder.name for folder in collect([tmp_path]).unfinished] == ["named", "ours"]

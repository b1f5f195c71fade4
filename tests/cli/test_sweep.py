"""Sweeps: repeated ones, the report at the end, and the value that a sweeper receives."""

import re
import shutil
import signal
import sys
from dataclasses import replace
from importlib.metadata import metadata

import pytest
from hydra.core.plugins import Plugins

from dcond import artefact
from dcond.cli.sweep import objective
from dcond.errors import DcondError
from dcond.paths import conf_dir
from dcond.run.result import RunResult
from helpers.results_of import statuses

SWEEP = ("-m", "evaluate=false", "hydra.sweep.dir=sweep")


@pytest.fixture
def swept(condense, folder, kept):
    """A sweep with a failed job between two finished ones."""
    if not (kept / "sweep").exists():
        done = condense(
            "-m", "evaluate=false", f"hydra.sweep.dir={kept / 'sweep'}", "method.lr=1,0,2"
        )
        assert done.code == 1
    return shutil.copytree(kept / "sweep", folder / "sweep")


def test_end_reports_the_failed_job_its_overrides_and_its_error(condense, folder):
    done = condense(*SWEEP, "ipc=1,0")
    assert done.code == 1
    at_once, job, last = done.err.splitlines()[-3:]  # and no line of Hydra's
    assert at_once == "dcond: ipc=0 is out of range; allowed: whole numbers from 1."
    assert job == "job 1 (ipc=0): failed: ipc=0 is out of range; allowed: whole numbers from 1."
    assert last == (
        "dcond: 1 of 2 jobs are not done. The same command with hydra.sweep.dir=sweep keeps "
        "finished jobs and runs the rest."
    )
    assert statuses(folder / "sweep") == {"0": "done", "1": "failed"}


def test_a_failed_job_shows_its_traceback_on_request(condense, monkeypatch, capsys):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(DcondError, match="of 2 jobs are not done"):
        condense(*SWEEP, "ipc=0,0")
    assert "Traceback (most recent call last):" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep=slurm"], "sweep=slurm applies to sweeps only; add -m, or omit it."),
        (["+sweep=optuna"], "+sweep=optuna applies to sweeps only; add -m, or omit it."),
        (
            ["hydra.sweep.dir=s"],
            "hydra.sweep.dir=s applies to sweeps only; add -m, or omit it.",
        ),
        (
            ["hydra/launcher=joblib"],
            "hydra/launcher=joblib applies to sweeps only; add -m, or omit it.",
        ),
        (
            ["-m", "hydra.run.dir=run"],
            "hydra.run.dir=run does not apply to sweeps; use hydra.sweep.dir=FOLDER.",
        ),
        (
            ["-m", "hydra.sweep.dir=out/${seed}"],
            "hydra.sweep.dir=out/${seed} may differ from job to job; name one folder for all, and that "
            "of a job within it by hydra.sweep.subdir=NAME.",
        ),
    ],
)
@pytest.mark.parametrize("command", ["condense", "evaluate"])
def test_settings_of_the_other_mode_are_refused(command, arguments, message, run_cli, folder):
    done = run_cli(command, *arguments)
    assert (done.code, done.err) == (2, f"dcond: {message}\n")
    assert list(folder.iterdir()) == []


def test_settings_of_the_other_mode_can_be_shown_and_a_folder_may_be_called_sweep(run_cli):
    assert run_cli("evaluate", "sweep").line.startswith("no artefact at sweep;")
    done = run_cli("condense", "hydra.sweep.dir=s", "--cfg", "hydra", "--package", "hydra.sweep")
    assert (done.code, "dir: s" in done.out) == (0, True), done.err


@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
def test_a_launcher_that_starts_no_job_is_one_line(kind, condense, monkeypatch):
    def launch(*_, **__):
        raise kind("no such queue")

    monkeypatch.setattr(Plugins, "instantiate_launcher", launch)
    assert condense(*SWEEP, "seed=0,1").line == "the jobs could not be started: no such queue"


def test_a_launcher_that_fails_after_finished_jobs_is_one_line(condense, monkeypatch):
    assert condense(*SWEEP, "seed=0,1").code == 0

    def launch(*_, **__):
        raise RuntimeError("no such queue")

    monkeypatch.setattr(Plugins, "instantiate_launcher", launch)
    assert condense(*SWEEP, "seed=0,1,2").line == (
        "the sweep ended with an error: RuntimeError: no such queue"
    )


def test_a_log_that_cannot_be_written_is_named(condense, folder):
    (folder / "sweep" / "0" / "condense.log").mkdir(parents=True)
    line = condense(*SWEEP, "seed=0,1").line
    assert re.fullmatch(r"cannot write .*/sweep/0/condense\.log: Is a directory\. .*", line)


def test_a_sweep_by_hydras_own_setting(run_cli, finished, folder):
    shutil.copytree(finished, folder / "other")
    arguments = (
        "dataset=digits",
        "hydra.mode=MULTIRUN",
        "hydra.sweep.dir=sweep",
        "evaluation=quick",
    )
    more = (
        "pool=convnet",
        "pool.networks.ConvNet.width=8",
        "evaluation.epochs=1",
        "baselines=false",
    )
    done = run_cli("evaluate", f"synthetic={finished.name},other", *arguments, *more)
    assert done.code == 0, done.err
    assert "2 jobs done -> sweep" in done.out


def test_a_job_in_a_folder_of_another_program_is_refused(run_cli, finished, folder):
    hydra = folder / "sweep" / "0" / ".hydra"
    hydra.mkdir(parents=True)
    (hydra / "hydra.yaml").write_text("hydra:\n  job:\n    config_name: train\n")
    done = run_cli(
        "evaluate", "-m", f"synthetic={finished.name}", "dataset=digits", "hydra.sweep.dir=sweep"
    )
    assert done.code == 1
    assert "but no run of dcond; choose another folder." in done.err
    assert not (folder / "sweep" / "0" / "result.json").exists()
    assert "config_name: train" in (hydra / "hydra.yaml").read_text()


def test_a_sweep_in_the_folders_of_its_jobs_is_refused(condense):
    done = condense(*SWEEP, "hydra.job.chdir=true", "seed=0,1")
    assert done.code == 1
    assert [line for line in done.err.splitlines() if line.startswith("job ")] == [
        f"job {job} (seed={job}): failed: hydra.job.chdir=true is not supported, since relative "
        "paths would start at the run folder; omit it."
        for job in (0, 1)
    ]


def test_repeated_sweep_keeps_finished_jobs_and_repeats_failed_ones(swept, condense):
    before = (swept / "0" / "result.json").stat().st_mtime_ns
    (swept / "2" / "result.json").unlink()  # killed after its last step
    done = condense(*SWEEP, "method.lr=1,0,2")
    assert done.code == 1
    assert "sweep/0 is finished and was skipped\n" in done.err
    assert "sweep/2 resumes at step 3\n" in done.err
    assert done.err.splitlines()[-2].startswith("job 1 (method.lr=0): failed: method.lr=0")
    assert (swept / "0" / "result.json").stat().st_mtime_ns == before
    assert statuses(swept) == {"0": "done", "1": "failed", "2": "done"}


def test_end_reports_success(swept, condense):
    for job in ("1", "2"):
        shutil.rmtree(swept / job)
    done = condense(*SWEEP, "method.lr=1")
    assert done.code == 0, done.err
    assert done.out.endswith("\n1 jobs done -> sweep\n")


def test_the_tensorboard_command_is_printed_once_at_the_end(condense):
    done = condense(*SWEEP, "tensorboard=true", "max_steps=1", "seed=0,1")
    assert done.out.splitlines()[-2:] == ["2 jobs done -> sweep", "tensorboard --logdir sweep"]
    assert done.out.count("tensorboard --logdir") == 1


def test_other_overrides_in_the_same_folder_are_refused(swept, condense):
    (swept / "2" / "result.json").unlink()
    before = (swept / "2" / ".hydra" / "overrides.yaml").read_bytes()
    done = condense(*SWEEP, "method.lr=3,1,4")
    assert done.code == 1
    assert f"dcond: {swept}/0 holds a finished run of other settings, never overwritten" in done.err
    assert f"dcond: {swept}/2 was started with other settings; choose another hydra." in done.err
    assert statuses(swept) == {"0": "done", "1": "done"}  # the one that had failed before it began
    assert (swept / "2" / ".hydra" / "overrides.yaml").read_bytes() == before
    assert "job 0 (method.lr=3): failed: " in done.err  # though its folder has a finished run
    assert not list(swept.glob("*.jsonl"))


def test_error_before_the_run_begins_is_reported_at_the_end(stopped, condense):
    done = condense("-m", f"resume={stopped}", "hydra.sweep.dir=sweep")
    assert done.code == 1
    job, last = done.err.splitlines()[-2:]
    assert job == "job 0: failed: resume=RUN_FOLDER continues a single run; omit -m."
    assert last.startswith("dcond: 1 of 1 jobs are not done.")


def test_finished_job_without_a_requested_extra_is_refused(condense):
    arguments = ("-m", "hydra.sweep.dir=sweep", "evaluation.repeats=1")
    assert condense(*arguments, "baselines=false").code == 0
    assert condense(*arguments, "baselines=false", "evaluate=false").code == 0
    done = condense(*arguments)
    assert done.code == 1
    assert (
        "sweep/0 holds a finished run of these settings without baselines, never overwritten"
        in done.err
    )


def test_stopped_job_continues_to_the_same_images(stopped, condense, folder):
    stopped.rename(folder / "sweep")
    arguments = ("-m", "evaluate=false", "hydra.sweep.dir=.", "hydra.sweep.subdir=sweep")
    done = condense(*arguments)
    assert done.code == 0, done.err
    assert "sweep resumes at step 2\n" in done.err
    assert condense("evaluate=false", "hydra.run.dir=whole").code == 0
    whole, resumed = (artefact.load(run).images.numpy().tobytes() for run in ("whole", "sweep"))
    assert whole == resumed


def test_unexpected_error_of_a_job_stops_no_other_job(condense, folder, monkeypatch):
    from dcond.methods.dm import DM

    def broken(self, real, synthetic, state):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(DM, "step", broken)
    done = condense(*SWEEP, "seed=0,1")
    assert done.code == 1
    assert [line for line in done.err.splitlines() if line.startswith("job ")] == [
        f"job {job} (seed={job}): failed: RuntimeError: out of luck" for job in (0, 1)
    ]
    assert "Traceback" not in done.err
    assert "Traceback" in (folder / "sweep" / "0" / "condense.log").read_text()


def test_a_damaged_line_of_a_failed_job_hides_no_other(condense, folder, monkeypatch):
    """Two nodes may have written at once."""
    from dcond.methods.dm import DM

    def damage(self, real, synthetic, state):
        with (folder / "sweep" / "failed_jobs.jsonl").open("a") as file:
            file.write('["a\n["x", ["seed=9"], "lost"]\n')
        return step(self, real, synthetic, state)

    step = DM.step
    monkeypatch.setattr(DM, "step", damage)
    done = condense(*SWEEP, "seed=0", "max_steps=1")
    assert "seed=9): lost" in done.err
    assert "Traceback" not in done.err


def test_stopped_sweep_reports_how_to_continue(condense, folder, monkeypatch):
    from dcond.run.loop import Run

    advance = Run._advance

    def signalled(self, state):
        self.stop._handle(signal.SIGTERM, None)
        return advance(self, state)

    monkeypatch.setattr(Run, "_advance", signalled)
    done = condense(*SWEEP, "seed=0,1")
    assert done.code == 128 + signal.SIGTERM
    assert done.err.splitlines()[-1].startswith(
        "dcond: the sweep was stopped. The same command with hydra.sweep.dir="
    )


def test_the_way_to_continue_can_be_pasted_into_a_shell(condense):
    done = condense("-m", "evaluate=false", "hydra.sweep.dir=a b", "ipc=0")
    assert "The same command with 'hydra.sweep.dir=a b' keeps finished" in done.err


def test_interpolated_overrides_are_shown_as_typed(condense):
    arguments = (*SWEEP, 'loop.record_every="${ipc}"')
    done = condense(*arguments, "ipc=1,2")
    assert (done.code, done.out.splitlines()[-1:]) == (0, ["2 jobs done -> sweep"]), done.err
    (own,) = [line for line in condense(*arguments, "ipc=1,0").err.splitlines() if "job 1" in line]
    assert own.startswith("job 1 (ipc=0): failed: ")


# --- Choosing settings ---------------------------------------------------------------------------


def test_tuning_data_has_no_test_image(toy):
    from dcond.evaluation.full_data import tuning_data

    def rows(split):
        return {image.numpy().tobytes() for image in split.images}

    tuned = tuning_data(toy)
    assert rows(tuned.test) | rows(tuned.train) == rows(toy.train)
    assert not rows(tuned.test) & rows(tuned.train)
    assert len(tuned.test) == round(0.1 * len(toy.train))


def test_held_out_accuracy_is_labelled_and_returned(condense, folder):
    done = condense(
        "test_on=held_out", "baselines=false", "evaluation.repeats=1", "hydra.run.dir=run"
    )
    assert done.code == 0, done.err
    assert "average held-out accuracy" in done.out
    assert "test accuracy" not in done.out
    result = RunResult.read(folder / "run")
    assert objective(result) == result.evaluation.average
    assert objective(replace(result, config={"test_on": "test"})) is None
    assert condense("test_on=all").line == "test_on='all' is unknown; allowed: test, held_out."


def test_sweeper_never_receives_accuracy_on_the_test_set():
    from omegaconf import OmegaConf

    from dcond.cli import sweep
    from dcond.errors import ConfigError

    def check(test_on, sweeper):
        cfg = OmegaConf.create({"resume": None, "test_on": test_on, "evaluate": True})
        sweep.check(cfg, {"hydra/sweeper": sweeper})

    check("test", "basic")
    check("held_out", "optuna")
    with pytest.raises(ConfigError, match="a sweeper that chooses settings needs test_on=held_out"):
        check("test", "optuna")


def test_missing_package_is_named(condense, monkeypatch):
    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_ray_launcher", None)
    assert condense("-m", "sweep=ray").line.endswith(
        "If its package is not installed: pip install '.[ray]' in the checkout."
    )


def test_every_sweep_names_an_existing_extra():
    extras = metadata("dcond").get_all("Provides-Extra")
    for file in (conf_dir() / "sweep").glob("*.yaml"):
        (extra,) = re.findall(r"pip install '\.\[(\w+)\]'", file.read_text())
        assert extra in extras, file

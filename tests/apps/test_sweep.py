"""Sweeps: what a repeated one leaves alone, what goes on, what is told at the end, and what a sweeper may choose by."""

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from importlib.metadata import metadata
from pathlib import Path

import pytest

import dcond
from dcond import artefact
from dcond.paths import conf_dir

SWEEP = ("-m", "evaluate=false", "hydra.sweep.dir=sweep")


def statuses(folder):
    return {path.parent.name: json.loads(path.read_text())["status"] for path in folder.glob("*/result.json")}


@pytest.fixture
def swept(condense, folder, kept):
    """A sweep of one job that must fail between two that are done."""
    if not (kept / "sweep").exists():
        done = condense("-m", "evaluate=false", f"hydra.sweep.dir={kept / 'sweep'}", "method.lr=1,0,2")
        assert done.code == 1
    return shutil.copytree(kept / "sweep", folder / "sweep")


def test_the_end_names_the_job_that_failed_its_words_and_its_error(condense, folder):
    done = condense(*SWEEP, "ipc=1,0")
    assert done.code == 1
    job, last = done.err.splitlines()[-2:]
    assert job == "job 1 (ipc=0): failed: ipc=0 is out of range; allowed: whole numbers from 1."
    assert last == (
        "dcond: 1 of 2 jobs are not done. The same command with hydra.sweep.dir=sweep leaves what is done as it is and "
        "goes on with the rest."
    )
    assert statuses(folder / "sweep") == {"0": "done", "1": "failed"}


def test_repeated_it_leaves_finished_jobs_alone_and_runs_failed_ones_again(swept, condense):
    before = (swept / "0" / "result.json").stat().st_mtime_ns
    (swept / "2" / "result.json").unlink()  # killed after its last step
    done = condense(*SWEEP, "method.lr=1,0,2")
    assert done.code == 1
    assert "sweep/0 is finished, left as it is\n" in done.err
    assert "sweep/2 goes on from step 3\n" in done.err
    assert done.err.splitlines()[-2].startswith("job 1 (method.lr=0): failed: method.lr=0")
    assert (swept / "0" / "result.json").stat().st_mtime_ns == before
    assert statuses(swept) == {"0": "done", "1": "failed", "2": "done"}


def test_all_done_is_told_too(swept, condense):
    for job in ("1", "2"):
        shutil.rmtree(swept / job)
    done = condense(*SWEEP, "method.lr=1")
    assert done.code == 0, done.err
    assert done.out.endswith("\n1 jobs done -> sweep\n")


def test_other_words_in_the_same_folder_are_refused(swept, condense):
    (swept / "2" / "result.json").unlink()
    words = (swept / "2" / ".hydra" / "overrides.yaml").read_bytes()
    done = condense(*SWEEP, "method.lr=3,1,4")
    assert done.code == 1
    assert (
        f"dcond: {swept}/0 holds a finished run of other settings, never overwritten; choose another folder."
        in done.err
    )
    assert (
        f"dcond: {swept}/2 was started with other settings; choose another hydra.sweep.dir, or remove that folder."
    ) in done.err
    assert statuses(swept) == {"0": "done", "1": "done"}  # the one that had failed before it began
    assert (swept / "2" / ".hydra" / "overrides.yaml").read_bytes() == words


def test_a_finished_job_without_what_is_asked_for_now_is_refused(condense):
    words = ("-m", "hydra.sweep.dir=sweep", "evaluation.repeats=1")
    assert condense(*words, "baselines=false").code == 0
    assert condense(*words, "baselines=false", "evaluate=false").code == 0
    done = condense(*words)
    assert done.code == 1
    assert "sweep/0 holds a finished run of these settings without baselines, never overwritten; choose" in done.err


def test_a_stopped_job_goes_on_to_the_same_images(stopped, condense, folder):
    stopped.rename(folder / "sweep")
    words = ("-m", "evaluate=false", "hydra.sweep.dir=.", "hydra.sweep.subdir=sweep")
    done = condense(*words)
    assert done.code == 0, done.err
    assert "sweep goes on from step 2\n" in done.err
    assert condense("evaluate=false", "hydra.run.dir=whole").code == 0
    whole, resumed = (artefact.load(run).images.numpy().tobytes() for run in ("whole", "sweep"))
    assert whole == resumed


def test_any_other_fault_of_a_job_stops_no_other_either(condense, folder, monkeypatch):
    from dcond.methods.dm import DM

    def broken(self, real, synthetic, state):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(DM, "step", broken)
    done = condense(*SWEEP, "seed=0,1")
    assert done.code == 1
    assert [line for line in done.err.splitlines() if line.startswith("job ")] == [
        f"job {job} (seed={job}): failed: out of luck" for job in (0, 1)
    ]
    assert "Traceback" not in done.err
    assert "Traceback" in (folder / "sweep" / "0" / "condense.log").read_text()


def test_a_stopped_sweep_says_how_to_go_on(condense, folder, monkeypatch):
    from dcond.engine.loop import Run

    advance = Run._advance

    def signalled(self, state):
        self.stop._handle(signal.SIGTERM, None)
        return advance(self, state)

    monkeypatch.setattr(Run, "_advance", signalled)
    done = condense(*SWEEP, "seed=0,1")
    assert done.code == 128 + signal.SIGTERM
    assert done.err.splitlines()[-1].startswith("dcond: the sweep was stopped. The same command with hydra.sweep.dir=")


# --- choosing settings ----------------------------------------------------------------------------------------------


def test_tuning_data_hold_no_test_image(toy):
    from dcond.evaluate.full import tuning_data

    def rows(split):
        return {image.numpy().tobytes() for image in split.images}

    tuned = tuning_data(toy)
    assert rows(tuned.test) | rows(tuned.train) == rows(toy.train)
    assert not rows(tuned.test) & rows(tuned.train)
    assert len(tuned.test) == round(0.1 * len(toy.train))


def test_a_run_on_held_out_images_says_so_and_returns_their_accuracy(condense, results):
    from dcond.apps.sweep import objective

    done = condense("test_on=held_out", "baselines=false", "evaluation.repeats=1", "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert "average held-out accuracy" in done.out
    assert "test accuracy" not in done.out
    (result,) = results()
    assert objective(result) == result["evaluation"]["average"]
    assert objective(result | {"config": {"test_on": "test"}}) is None
    assert condense("test_on=all").line == "test_on='all' is unknown; allowed: test, held_out."


def test_a_sweeper_never_chooses_by_the_test_set():
    from omegaconf import OmegaConf

    from dcond.apps import sweep
    from dcond.errors import ConfigError

    def check(test_on, sweeper):
        cfg = OmegaConf.create({"resume": None, "test_on": test_on, "evaluate": True})
        sweep.check(cfg, {"hydra/sweeper": sweeper})

    check("test", "basic")
    check("held_out", "optuna")
    with pytest.raises(ConfigError, match="a sweeper that chooses settings needs test_on=held_out"):
        check("test", "optuna")


def test_a_missing_package_is_named(condense, monkeypatch):
    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_ray_launcher", None)
    assert condense("-m", "sweep=ray").line.endswith("If its package is not installed: pip install 'dcond[ray]'.")


# --- launchers, each in processes of its own ------------------------------------------------------------------------

TWELVE = (
    "debug=tiny",
    "method.batch_real=8",
    "model.width=8",
    "evaluate=false",
    "seed=0,1,2,3,4,5",
    "hydra.sweep.dir=s",
)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [None, "joblib", "submitit_local"])
def test_twelve_jobs_with_one_that_must_fail(launcher, run_process, folder):
    """A job of ``method=m3d`` with seed 5 fails: somebody's file is where its folder must be."""
    words = [
        "condense",
        "-m",
        *TWELVE,
        "method=dm,m3d",
        "hydra.sweep.dir=s",
        *([f"sweep={launcher}"] if launcher else []),
    ]
    (folder / "s" / "11").mkdir(parents=True)
    (folder / "s" / "11" / "metrics.jsonl").mkdir()
    done = run_process(*words)
    assert done.code == 1, done.err
    assert statuses(folder / "s") == {str(job): "failed" if job == 11 else "done" for job in range(12)}
    job, last = done.err.splitlines()[-2:]
    assert job.startswith("job 11 (seed=5 method=m3d): failed: ")
    assert last.startswith("dcond: 1 of 12 jobs are not done.")
    report = run_process("report", "s")
    assert report.code == 0
    assert "failed: s/11" in report.out
    (folder / "s" / "11" / "metrics.jsonl").rmdir()
    again = run_process(*words)
    assert again.code == 0, again.err
    assert again.out.endswith("12 jobs done -> s\n")


COUNTING = """
from pathlib import Path
import torch
from dcond.init import Noise

class Counting(Noise):
    def __call__(self, real, ipc, factor, rng):
        Path(f"threads{ipc}").write_text(str(torch.get_num_threads()))
        return super().__call__(real, ipc, factor, rng)
"""


@pytest.mark.slow
def test_joblib_shares_the_cores_out_to_its_jobs(run_process, folder):
    (folder / "own" / "init").mkdir(parents=True)
    (folder / "own" / "init" / "counting.yaml").write_text("# Mine.\n_target_: counting.Counting\n")
    (folder / "counting.py").write_text(COUNTING)
    words = ("--config-dir", "own", "debug=tiny", "method=dm", "init=counting", "evaluate=false", "ipc=1,2")
    env = {"PYTHONPATH": os.pathsep.join([str(folder), str(Path(dcond.__file__).parents[1])])}
    env |= {"OMP_NUM_THREADS": ""}  # what a shell says would stand
    done = run_process("condense", "-m", *words, "sweep=joblib", "hydra.launcher.n_jobs=2", env=env)
    assert done.code == 0, done.err
    shared = max(1, (os.cpu_count() or 1) // 2)
    assert [int((folder / f"threads{ipc}").read_text()) for ipc in (1, 2)] == [shared, shared]


@pytest.mark.slow
def test_a_pre_empted_job_goes_back_into_the_queue_and_goes_on(run_process, folder):
    words = ("method=dm", "method.batch_real=8", "model.width=8", "method.steps=3000", "evaluate=false")
    found = []
    sweep = threading.Thread(
        target=lambda: found.append(
            run_process("condense", "-m", *words, "sweep=submitit_local", "hydra.sweep.dir=s", "tensorboard=false")
        )
    )
    sweep.start()
    try:
        log = folder / "s" / "0" / "metrics.jsonl"
        for _ in range(600):
            if log.exists() and log.stat().st_size:
                break
            time.sleep(0.1)
        (job,) = [path.name for path in (folder / "s" / ".submitit").iterdir() if path.name.isdigit()]
        os.kill(int(Path(f"/proc/{job}/task/{job}/children").read_text()), signal.SIGUSR2)
    finally:
        sweep.join()
    assert found[0].code == 0, found[0].err
    text = (folder / "s" / "0" / "condense.log").read_text()
    assert "interrupted by SIGUSR2" in text
    assert "goes on from step" in text
    assert statuses(folder / "s") == {"0": "done"}


@pytest.mark.slow
def test_optuna_repeats_its_choices_and_finds_its_jobs(run_process, folder):
    pytest.importorskip("optuna")
    words = ("condense", "-m", "debug=tiny", "method=dm", "method.batch_real=8", "model.width=8", "sweep=optuna")
    words += ("pool=convnet", "pool.networks.ConvNet.width=8", "baselines=false", "hydra.sweep.dir=s")
    words += ("method.lr=tag(log, interval(0.1, 10))",)
    assert run_process(*words, "hydra.sweeper.n_trials=2").code == 0
    done = run_process(*words, "hydra.sweeper.n_trials=3")
    assert done.code == 0, done.err
    assert "s/0 is finished, left as it is" in done.err
    assert "s/1 is finished, left as it is" in done.err
    assert done.out.endswith("3 jobs done -> s\n")


def test_every_sweep_names_an_extra_that_there_is():
    extras = metadata("dcond").get_all("Provides-Extra")
    for file in (conf_dir() / "sweep").glob("*.yaml"):
        (extra,) = re.findall(r"dcond\[(\w+)\]", file.read_text())
        assert extra in extras, file

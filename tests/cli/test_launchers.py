"""Sweeps by launchers with their own processes (joblib, submitit), and by Optuna."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import dcond
from helpers.results_of import statuses

from .conftest import Done


@pytest.fixture
def run_program():
    """Run ``dcond`` as the installed program, whose Python does not look into the current folder."""

    def run(*arguments):
        source = str(Path(dcond.__file__).parents[1])
        code = "import sys; sys.path.remove(''); from dcond.cli.main import command; command()"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": source},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


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
def test_twelve_jobs_of_which_one_fails(launcher, run_process, folder):
    """The job with ``method=m3d`` and seed 5 fails: a folder is in the place of its file."""
    arguments = [
        "condense",
        "-m",
        *TWELVE,
        "method=dm,m3d",
        "hydra.sweep.dir=s",
        *([f"sweep={launcher}"] if launcher else []),
    ]
    (folder / "s" / "11").mkdir(parents=True)
    (folder / "s" / "11" / "metrics.jsonl").mkdir()
    done = run_process(*arguments)
    assert done.code == 1, done.err
    assert statuses(folder / "s") == {
        str(job): "failed" if job == 11 else "done" for job in range(12)
    }
    job, last = done.err.splitlines()[-2:]
    assert job.startswith("job 11 (seed=5 method=m3d): failed: ")
    assert last.startswith("dcond: 1 of 12 jobs are not done.")
    report = run_process("report", "s")
    assert report.code == 0
    assert "failed: s/11" in report.out
    (folder / "s" / "11" / "metrics.jsonl").rmdir()
    again = run_process(*arguments)
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
def test_joblib_divides_the_cores_among_its_jobs(run_process, folder):
    (folder / "own" / "init").mkdir(parents=True)
    (folder / "own" / "init" / "counting.yaml").write_text("# Mine.\n_target_: counting.Counting\n")
    (folder / "counting.py").write_text(COUNTING)
    arguments = (
        "--config-dir",
        "own",
        "debug=tiny",
        "method=dm",
        "init=counting",
        "evaluate=false",
        "ipc=1,2",
    )
    env = {"PYTHONPATH": os.pathsep.join([str(folder), str(Path(dcond.__file__).parents[1])])}
    env |= {"OMP_NUM_THREADS": ""}  # else the variable of the shell counts
    done = run_process(
        "condense", "-m", *arguments, "sweep=joblib", "hydra.launcher.n_jobs=2", env=env
    )
    assert done.code == 0, done.err
    shared = max(1, (os.cpu_count() or 1) // 2)
    assert [int((folder / f"threads{ipc}").read_text()) for ipc in (1, 2)] == [shared, shared]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [None, "joblib", "submitit_local"])
@pytest.mark.parametrize("beside", [True, False], ids=["beside the YAML", "in the current folder"])
def test_the_jobs_find_a_method_of_ones_own(launcher, beside, run_program, unpack, folder):
    module, _ = unpack("docs/adding_a_method.md")
    if beside:
        module.rename(folder / "own" / module.name)
    arguments = ("--config-dir", "own", "method=class_mean,random", "debug=tiny", "evaluate=false")
    launched = [f"sweep={launcher}"] if launcher else []
    done = run_program("condense", "-m", *arguments, *launched, "hydra.sweep.dir=s")
    assert done.code == 0, done.err
    assert statuses(folder / "s") == {"0": "done", "1": "done"}


@pytest.mark.slow
def test_preempted_job_is_requeued_and_continues(run_process, folder):
    arguments = (
        "method=dm",
        "method.batch_real=8",
        "model.width=8",
        "method.steps=3000",
        "evaluate=false",
    )
    found = []
    sweep = threading.Thread(
        target=lambda: found.append(
            run_process(
                "condense",
                "-m",
                *arguments,
                "sweep=submitit_local",
                "hydra.sweep.dir=s",
                "tensorboard=false",
            )
        )
    )
    sweep.start()
    try:
        log = folder / "s" / "0" / "metrics.jsonl"
        for _ in range(600):
            if log.exists() and log.stat().st_size:
                break
            time.sleep(0.1)
        (job,) = [
            path.name for path in (folder / "s" / ".submitit").iterdir() if path.name.isdigit()
        ]
        os.kill(int(Path(f"/proc/{job}/task/{job}/children").read_text()), signal.SIGUSR2)
    finally:
        sweep.join()
    assert found[0].code == 0, found[0].err
    text = (folder / "s" / "0" / "condense.log").read_text()
    assert "interrupted by SIGUSR2" in text
    assert "resumes at step" in text
    assert statuses(folder / "s") == {"0": "done"}


@pytest.mark.slow
def test_optuna_repeats_its_choices_and_reuses_finished_jobs(run_process, folder):
    pytest.importorskip("optuna")
    arguments = (
        "condense",
        "-m",
        "debug=tiny",
        "method=dm",
        "method.batch_real=8",
        "model.width=8",
        "sweep=optuna",
    )
    arguments += (
        "pool=convnet",
        "pool.networks.ConvNet.width=8",
        "baselines=false",
        "hydra.sweep.dir=s",
    )
    arguments += ("method.lr=tag(log, interval(0.1, 10))",)
    assert run_process(*arguments, "hydra.sweeper.n_trials=2").code == 0
    done = run_process(*arguments, "hydra.sweeper.n_trials=3")
    assert done.code == 0, done.err
    assert "s/0 is finished and was skipped" in done.err
    assert "s/1 is finished and was skipped" in done.err
    assert done.out.endswith("3 jobs done -> s\n")

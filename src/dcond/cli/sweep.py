"""Sweeps: jobs of an earlier start, failed jobs, and the outcome of all jobs."""

import json
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dcond.errors import ConfigError, DcondError, first_line
from dcond.log import print_results
from dcond.paths import relative_to_cwd
from dcond.report.collect import collect
from dcond.run.result import HELD_OUT, RunResult
from dcond.run.result import NAME as RESULT
from dcond.settings import PositiveInt, check_value

log = logging.getLogger(__name__)

FULL_ERROR = "DCOND_FULL_ERROR"  # HYDRA_FULL_ERROR as it was typed, which a run overwrites
_FAILED_JOBS = "failed_jobs.jsonl"  # in the sweep's folder, while the sweep runs


class SweepFolderCallback(Callback):
    """Store the folder of the sweep that this process started; named in ``conf/``."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Store the folder and remove the list of failed jobs of an earlier start."""
        SweepFolderCallback.folder = Path(str(config.hydra.sweep.dir))
        with suppress(OSError):
            (SweepFolderCallback.folder / _FAILED_JOBS).unlink()


def is_job() -> bool:
    """Return whether the current run is a job of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def threads(cfg: DictConfig) -> int | None:
    """Return the CPU threads of a run: ``threads``, or what a launcher grants a job (submitit)."""
    check_value("threads", cfg.threads, PositiveInt | None)
    granted = OmegaConf.select(HydraConfig.get().launcher, "cpus_per_task") if is_job() else None
    count = granted if cfg.threads is None else cfg.threads
    return None if count is None else int(count)


def check(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Raise :class:`ConfigError` for settings that a job of a sweep cannot have."""
    if cfg.resume is not None:
        raise ConfigError("resume=RUN_FOLDER continues a single run; omit -m.")
    chooses = choices.get("hydra/sweeper", "basic") != "basic"
    if chooses and not (cfg.test_on == HELD_OUT and cfg.evaluate):
        raise ConfigError(
            f"a sweeper that chooses settings needs test_on={HELD_OUT} and evaluate=true: it "
            "receives accuracies on held-out training images, never on the test set."
        )


def objective(result: RunResult) -> float | None:
    """Return the average accuracy on held-out training images; None if it is on the test set."""
    evaluation, config = result.evaluation, result.config or {}
    return None if evaluation is None or config["test_on"] != HELD_OUT else evaluation.average


def load_finished_job(folder: Path, requested: RunResult, *, evaluated: bool) -> RunResult | None:
    """Return the result of a job that an earlier start of the sweep finished; None to run it.

    Args:
        folder: of the job.
        requested: the result of what is asked for now, as it starts.
        evaluated: whether an evaluation is asked for.

    Raises:
        ConfigError: the folder holds a finished run with other settings.
    """
    finished = RunResult.read_finished(folder)
    if finished is None:
        return None
    present = finished.extras or {}
    lacking = [
        "this against" if name == "against" else name
        for name, value in (requested.extras or {}).items()
        if value and present.get(name) != value
    ]
    if evaluated and finished.evaluation is None:
        lacking = ["evaluation"]
    same = finished.config_sha256 == requested.config_sha256
    if not same or lacking:
        what = f"these settings without {', '.join(lacking)}" if same else "other settings"
        raise ConfigError(
            f"{folder} holds a finished run of {what}, never overwritten; choose another folder."
        )
    log.info("%s is finished and was skipped", relative_to_cwd(folder))
    return finished


def tensorboard_command(folder: Path) -> list[str]:
    """Return the command that shows what was recorded in a folder; none if nothing was."""
    recorded = any(folder.rglob("events.out.tfevents.*"))
    return [f"tensorboard --logdir {shlex.quote(str(relative_to_cwd(folder)))}"] if recorded else []


def report_failed_job(error: Exception) -> None:
    """Print the error of a job at once, and add it to the failed jobs of its sweep.

    The job may run in another process than the sweep, hence the file.
    """
    if os.environ.get(FULL_ERROR) == "1":
        traceback.print_exception(error)
    message = first_line(error)
    if not isinstance(error, DcondError):
        message = f"{type(error).__name__}: {message}"
    print(f"dcond: {message}", file=sys.stderr)
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir).absolute()
    overrides = OmegaConf.to_container(hydra_cfg.overrides.task, resolve=False)  # as typed
    line = json.dumps([str(folder), overrides, f"failed: {message}"])
    # The current folder is another one under hydra.job.chdir=true.
    file = Path(hydra_cfg.runtime.cwd) / str(hydra_cfg.sweep.dir) / _FAILED_JOBS
    with suppress(OSError), file.open("a", encoding="utf-8") as lines:
        lines.write(f"{line}\n")  # in one write, since other jobs write there too


@contextmanager
def report_sweep_outcome() -> Iterator[None]:
    """When a sweep ends, print each job that is not done, and how to continue.

    Raises:
        DcondError: A job is not done; its own error has been printed.
    """
    try:
        yield
    except Exception as error:
        message = _report_jobs()
        if message:
            print(f"dcond: {error}", file=sys.stderr)  # an error of the launcher or the sweeper
        elif SweepFolderCallback.folder is None or isinstance(error, DcondError | OSError):
            raise
        else:
            ran = any(SweepFolderCallback.folder.glob(f"**/{RESULT}"))
            ended = f"the sweep ended with an error: {type(error).__name__}"
            message = f"{ended if ran else 'the jobs could not be started'}: {first_line(error)}"
        raise DcondError(message) from error
    except BaseException:  # Ctrl-C or SIGTERM
        if (folder := SweepFolderCallback.folder) is not None:
            print(f"dcond: the sweep was stopped. {_how_to_continue(folder)}", file=sys.stderr)
        raise
    else:
        if message := _report_jobs(completed=True):
            raise DcondError(message)
    finally:
        SweepFolderCallback.folder = None


def _report_jobs(*, completed: bool = False) -> str:
    """Print what became of the jobs; return the final message, empty where all are done."""
    folder = SweepFolderCallback.folder
    if folder is None or not folder.is_dir():
        return ""
    folder = folder.absolute()
    jobs, reasons = _jobs(folder)
    common = set.intersection(*map(set, jobs.values())) if jobs else set()
    for job, reason in reasons.items():
        own = " ".join(override for override in jobs[job] if override not in common)
        name = job.relative_to(folder) if job.is_relative_to(folder) else job
        print(f"job {name}{own and f' ({own})'}: {reason}", file=sys.stderr)
    if reasons:
        return f"{len(reasons)} of {len(jobs)} jobs are not done. {_how_to_continue(folder)}"
    if completed and jobs:
        done = f"{len(jobs)} jobs done -> {relative_to_cwd(folder)}"
        print_results(done, *tensorboard_command(folder))
    return ""


def _jobs(folder: Path) -> tuple[dict[Path, list[str]], dict[Path, str]]:
    """Return the overrides of every job of a sweep, and why jobs are not done, by their folder."""
    jobs: dict[Path, list[str]] = {}
    reasons: dict[Path, str] = {}
    with suppress(ConfigError):  # raised where no job has a result or a folder
        found = collect([folder])
        jobs = {run.folder: saved_overrides(run.folder) for run in found.runs}
        for run in found.runs:
            if run.status != "done":
                reasons[run.folder] = (
                    f"failed: {run.error}" if run.status == "failed" else run.error
                )
        for job in found.unfinished:
            jobs[job] = saved_overrides(job)
            reasons[job] = "no result: it failed before its run began, or was killed"
    with suppress(OSError):
        file = folder / _FAILED_JOBS
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError):  # lines that two nodes wrote at once
                name, overrides, reason = json.loads(line)
                jobs[Path(name)], reasons[Path(name)] = overrides, reason
        file.unlink()
    return jobs, reasons


def _how_to_continue(folder: Path) -> str:
    override = shlex.quote(f"hydra.sweep.dir={relative_to_cwd(folder.absolute())}")
    return f"The same command with {override} keeps finished jobs and runs the rest."


def saved_overrides(job: Path) -> list[str]:
    """Return the overrides that a job was started with."""
    try:
        overrides: Any = OmegaConf.to_container(OmegaConf.load(job / ".hydra" / "overrides.yaml"))
        return [str(override) for override in overrides]
    except Exception:  # not there, or damaged: the job is shown without its overrides
        return []


def had_config_dir(job: Path) -> bool:
    """Return whether a job was started with ``--config-dir``."""
    file = job / ".hydra" / "hydra.yaml"
    return file.is_file() and "provider: command-line" in file.read_text(errors="replace")

"""Sweeps: what a job finds in its folder when a sweep is repeated, and what is told when all jobs have ended."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dcond.cli.run_config import config_hash, result_affecting_config
from dcond.errors import CheckpointError, ConfigError, DcondError
from dcond.log import print_results
from dcond.paths import relative_to_cwd
from dcond.run.result import HELD_OUT

if TYPE_CHECKING:
    from dcond.report.record import RunRecord
    from dcond.run.checkpoint import Checkpoint
    from dcond.run.result import RunResult

log = logging.getLogger(__name__)


class JobError(CompactHydraException):
    """What ended a job, in words only: not every exception can pass from a job's process to the sweep's."""


class SweepFolderCallback(Callback):
    """Keeps the folder of the sweep that this process started: only Hydra knows it; named in ``conf/``."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Keep it."""
        SweepFolderCallback.folder = Path(str(config.hydra.sweep.dir))


def is_job() -> bool:
    """Tell whether the run at work is a job of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def threads() -> int | None:
    """Return the CPU threads that the launcher gives a job, where it leaves setting them to the job (submitit)."""
    launcher = HydraConfig.get().launcher
    given = OmegaConf.select(launcher, "cpus_per_task") if is_job() else None
    return None if given is None else int(given)


def check(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Raise :class:`ConfigError` for what makes no sense in a job of a sweep."""
    if cfg.resume is not None:
        raise ConfigError(
            "resume=RUN_FOLDER goes on with one run and cannot be swept; leave out -m."
        )
    chooses = choices.get("hydra/sweeper", "basic") != "basic"
    if chooses and not (cfg.test_on == HELD_OUT and cfg.evaluate):
        raise ConfigError(
            f"a sweeper that chooses settings needs test_on={HELD_OUT} and evaluate=true: it is told accuracies on "
            "held-out training images only, never on the test set."
        )


def searchpath_overrides() -> list[str]:
    """Return the run's overrides of ``hydra.searchpath``."""
    return [each for each in HydraConfig.get().overrides.hydra if "hydra.searchpath" in each]


def objective(result: "RunResult") -> float | None:
    """Return the average accuracy on held-out training images; None if it is on the test set."""
    evaluation, config = result.evaluation, result.config or {}
    return None if evaluation is None or config["test_on"] != HELD_OUT else evaluation.average


def load_finished_job(
    folder: Path, requested: "RunResult", *, evaluated: bool
) -> "RunResult | None":
    """Return the result of a job that an earlier start of the sweep finished; None to run it.

    Args:
        folder: of the job.
        requested: the result of what is asked for now, as it starts.
        evaluated: whether an evaluation is asked for.

    Raises:
        ConfigError: the folder holds a finished run with other settings.
    """
    finished = type(requested).read_finished(folder)
    if finished is None:
        return None
    lacking = (
        ["evaluation"]
        if evaluated and finished.evaluation is None
        else _lacking_extras(finished, requested)
    )
    same = finished.config_sha256 == requested.config_sha256
    if not same or lacking:
        what = f"these settings without {', '.join(lacking)}" if same else "other settings"
        raise ConfigError(
            f"{folder} holds a finished run of {what}, never overwritten; choose another folder."
        )
    log.info("%s is finished and was skipped", relative_to_cwd(folder))
    return finished


def _lacking_extras(finished: "RunResult", requested: "RunResult") -> list[str]:
    """Name the requested extras that a finished run lacks."""
    present, requested_extras = finished.extras or {}, requested.extras or {}
    names = {"against": "this against"}
    return [
        names.get(name, name)
        for name, value in requested_extras.items()
        if value and present.get(name) != value
    ]


def load_unfinished_checkpoint(folder: Path, requested: DictConfig) -> "Checkpoint | None":
    """Return the checkpoint of a job that an earlier start of the sweep left unfinished.

    Args:
        folder: of the job.
        requested: :func:`~dcond.cli.run_config.result_affecting_config` of what is asked for now.

    Returns:
        None if there is no checkpoint.

    Raises:
        CheckpointError: the checkpoint is damaged, or was made with other settings.
    """
    from dcond.run import checkpoint  # imports torch

    if not (folder / checkpoint.NAME).exists():
        return None
    saved = checkpoint.load(folder)
    config = result_affecting_config(OmegaConf.create(saved.config).config)
    if config_hash(config) != config_hash(requested):
        raise CheckpointError(
            f"{folder} was started with other settings; choose another hydra.sweep.dir, or remove "
            "that folder."
        )
    log.info("%s resumes at step %d", relative_to_cwd(folder), saved.step)
    return saved


@contextmanager
def report_sweep_outcome() -> Iterator[None]:
    """Name every job that is not done when a sweep ends, however it ends, and say how to go on.

    Raises:
        DcondError: a job is not done; its own error is on stderr by then.
    """
    try:
        yield
    except Exception as error:
        stopped = _tell()
        if not stopped:
            raise
        if not isinstance(error, JobError):  # the launcher's own, say, or the sweeper's
            print(f"dcond: {error}", file=sys.stderr)
        raise DcondError(stopped) from error
    except BaseException:  # Ctrl-C, SIGTERM: the exit status tells which
        if SweepFolderCallback.folder is not None:
            print(
                f"dcond: the sweep was stopped. {_again(SweepFolderCallback.folder)}",
                file=sys.stderr,
            )
        raise
    else:
        stopped = _tell(ended=True)
        if stopped:
            raise DcondError(stopped)
    finally:
        SweepFolderCallback.folder = None


def _tell(*, ended: bool = False) -> str:
    """Print what became of the jobs; return the last word on it, empty where all are done or there was no sweep."""
    from dcond.report.collect import collect

    folder = SweepFolderCallback.folder
    if folder is None or not folder.is_dir():
        return ""
    try:
        found = collect([folder])
    except ConfigError:  # no job came as far as having a folder
        return ""
    stopped = [(each.folder, _why(each)) for each in found.outcomes if each.status != "done"]
    stopped += [
        (each, "no result: it failed before its run began, or was killed")
        for each in found.unfinished
    ]
    count = len(found.outcomes) + len(found.unfinished)
    words = {
        each: _words(each)
        for each in (*(outcome.folder for outcome in found.outcomes), *found.unfinished)
    }
    shared = set.intersection(*map(set, words.values())) if words else set()
    for job, why in stopped:
        own = " ".join(word for word in words[job] if word not in shared)
        print(f"job {job.relative_to(folder)}{own and f' ({own})'}: {why}", file=sys.stderr)
    if not stopped:
        if ended:
            print_results(f"{count} jobs done -> {relative_to_cwd(folder.absolute())}")
        return ""
    return f"{len(stopped)} of {count} jobs are not done. {_again(folder)}"


def _again(folder: Path) -> str:
    shown = relative_to_cwd(folder.absolute())
    return f"The same command with hydra.sweep.dir={shown} leaves what is done as it is and goes on with the rest."


def _why(outcome: "RunRecord") -> str:
    return f"failed: {outcome.error}" if outcome.status == "failed" else outcome.error


def _words(job: Path) -> list[str]:
    """Return the words of the command line that a job was started with."""
    try:
        return [str(word) for word in OmegaConf.load(job / ".hydra" / "overrides.yaml")]
    except OSError:
        return []

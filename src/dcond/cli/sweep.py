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

from dcond.cli.instantiate import relative_to_cwd
from dcond.errors import CheckpointError, ConfigError, DcondError
from dcond.log import print_results
from dcond.run.result import HELD_OUT

if TYPE_CHECKING:
    from dcond.report.record import RunRecord
    from dcond.run.checkpoint import Checkpoint

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


def objective(result: dict[str, Any]) -> float | None:
    """Return the average accuracy of a result on held-out training images; None where it is on the test set."""
    if result["evaluation"] is None or result["config"]["test_on"] != HELD_OUT:
        return None
    return float(result["evaluation"]["average"])


def load_finished_job(
    folder: Path, asked: dict[str, Any], *, evaluated: bool
) -> dict[str, Any] | None:
    """Return the result of a job that an earlier start of the sweep finished; None where it has to run.

    Args:
        folder: the job's own.
        asked: the result as it begins, of what is asked for now.
        evaluated: whether an evaluation is asked for.

    Raises:
        ConfigError: the folder holds a finished run of something else.
    """
    from dcond.run import result as results

    found = results.finished(folder)
    if found is None:
        return None
    same = found.get("config_sha256") == asked["config_sha256"]
    lacking = (
        ["evaluation"] if evaluated and found.get("evaluation") is None else _lacking(found, asked)
    )
    if not same or lacking:
        what = f"these settings without {', '.join(lacking)}" if same else "other settings"
        raise ConfigError(
            f"{folder} holds a finished run of {what}, never overwritten; choose another folder."
        )
    log.info("%s is finished, left as it is", relative_to_cwd(folder))
    return found


def _lacking(found: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Name the extras that a finished run was not asked for; a result that does not say its extras lacks none."""
    there, words = found.get("extras"), {"against": "this against"}
    if there is None:
        return []
    return [
        words.get(name, name)
        for name, value in asked["extras"].items()
        if value and there.get(name) != value
    ]


def load_unfinished_checkpoint(folder: Path, numbers: str) -> "Checkpoint | None":
    """Return the checkpoint of a job that an earlier start of the sweep did not finish; None where there is none.

    Args:
        folder: the job's own.
        numbers: the configuration that is asked for now, as :func:`dcond.cli.run_config.result_affecting_config`
            reduces it; YAML.

    Raises:
        CheckpointError: the checkpoint is damaged, or was made with other settings.
    """
    from dcond.cli.run_config import result_affecting_config
    from dcond.run import checkpoint

    if not (folder / checkpoint.NAME).exists():
        return None
    moment = checkpoint.load(folder)
    if (
        OmegaConf.to_yaml(
            result_affecting_config(OmegaConf.create(moment.config).config), sort_keys=True
        )
        != numbers
    ):
        raise CheckpointError(
            f"{folder} was started with other settings; choose another hydra.sweep.dir, or remove that folder."
        )
    log.info("%s goes on from step %d", relative_to_cwd(folder), moment.step)
    return moment


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

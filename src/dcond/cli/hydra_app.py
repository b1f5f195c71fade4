"""Running a task under Hydra, with what goes wrong told in one line."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.cli.hydra_flags import reorder_overrides
from dcond.cli.overrides import check_choices, hydra_error_message
from dcond.cli.torchrun import run_on_all_ranks, under_torchrun
from dcond.cli.unknown import check_added
from dcond.errors import ConfigError, DcondError
from dcond.paths import conf_dir

Task = Callable[[DictConfig], float | None]  # what it returns is for a sweeper


class _Fault(BaseException):
    """Carries a user's fault past Hydra, which would add lines of its own."""

    def __init__(self, error: DcondError):
        self.error = error


def hydra_main(task: Task, config_name: str, argv: list[str]) -> None:
    """Run a task under Hydra with the words after the sub-command, in all processes where there are several.

    Raises:
        DcondError: whatever was wrong with the words, the configuration, the run or the disk, in
            one line.
    """
    if under_torchrun():
        run_on_all_ranks(task, lambda task: _hydra_main(task, config_name, argv), argv)
    else:
        _hydra_main(task, config_name, argv)


def _hydra_main(task: Task, config_name: str, argv: list[str]) -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from dcond.cli.sweep import report_sweep_outcome

    words = reorder_overrides(argv, config_name)
    check_choices(argv, config_name)
    sys.argv = [sys.argv[0], *words]
    try:
        asked = {"--help", "-h", "--hydra-help"} & set(argv)
        with (
            report_sweep_outcome(),
            _hydra_raises(),
            _jobs_told_once(),
            _groups_listed_once() if asked else nullcontext(),
        ):
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(
                _translated(task)
            )()
    except _Fault as fault:
        raise fault.error from fault.error.__cause__
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, DcondError):  # a job of a sweep
            raise error.__cause__ from None
        raise ConfigError(hydra_error_message(error, argv, config_name)) from error
    except (OSError, ValueError) as error:  # Hydra could not make or fill the run folder
        if "Config group override" in str(error):
            raise ConfigError(hydra_error_message(error)) from error
        reason = (
            error if isinstance(error, OSError) else error.__cause__
        )  # of its log, logging says ValueError
        if not isinstance(reason, OSError):
            raise
        way_out = "Free some space or choose another folder with paths.outputs=FOLDER."
        raise DcondError(f"cannot write {reason.filename}: {reason.strerror}. {way_out}") from error


def _hydra_subdir(resume: str | None, folder: str | None) -> str | None:
    """Return where Hydra keeps its YAML files in a run folder: nowhere if that would overwrite those of a run."""
    from dcond.run.lock import in_use
    from dcond.run.result import RunResult

    kept = Path(folder or ".")
    begun = (
        RunResult.read_finished(kept) is not None or (kept / "checkpoint.pt").exists()
    )  # the job itself says so
    return None if begun or resume or in_use(kept) else ".hydra"


# Here, and not when a command starts: the process of a job, too, must know them before it has
# anything else of dcond.
OmegaConf.register_new_resolver("dcond.run_dir", lambda resume, new: resume or new, replace=True)
OmegaConf.register_new_resolver("dcond.hydra_subdir", _hydra_subdir, replace=True)


@contextmanager
def _groups_listed_once() -> Iterator[None]:
    """Let Hydra list the choices for --help as it finds them; it would copy all it knows for each, a second in all."""
    from hydra.core.object_type import ObjectType

    try:
        from hydra._internal.config_loader_impl import ConfigLoaderImpl

        listed = ConfigLoaderImpl.get_group_options
    except (
        ImportError,
        AttributeError,
    ):  # Hydra's own affair, which may change: help is then as slow as it is
        yield
        return

    def options(
        self: Any,
        group_name: str,
        results_filter: Any = ObjectType.CONFIG,
        *more: Any,
        **named: Any,
    ) -> Any:
        if more or named:  # a configuration may bring a search path of its own
            return listed(self, group_name, results_filter, *more, **named)
        return self.repository.get_group_options(group_name, results_filter)

    ConfigLoaderImpl.get_group_options = options  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.get_group_options = listed  # type: ignore[method-assign]


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra raise what it would print: its own words for it run over several lines, or are a traceback."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def _jobs_told_once() -> Iterator[None]:
    """Let Hydra raise a job's error without a line of its own: the job has told it by then."""
    from hydra.core.utils import JobReturn, JobStatus

    told: property = vars(JobReturn)["return_value"]

    def raised(self: JobReturn) -> Any:
        if self.status is JobStatus.FAILED:
            raise self._return_value
        return told.__get__(self)

    JobReturn.return_value = property(raised, told.fset)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        JobReturn.return_value = told  # type: ignore[assignment, method-assign]


def _translated(task: Task) -> Task:
    """Take a user's fault past Hydra; in a sweep tell any fault at once and hand it to Hydra, which goes on."""

    @functools.wraps(task)
    def run(cfg: DictConfig) -> float | None:
        from omegaconf.errors import OmegaConfBaseException

        from dcond.cli import sweep

        try:
            try:
                check_added(cfg)
                return task(cfg)
            except OmegaConfBaseException as error:
                raise ConfigError(hydra_error_message(error)) from error
        except Exception as error:
            if not sweep.is_job():
                if isinstance(error, DcondError):
                    raise _Fault(error) from error
                raise
            words = (
                str(error) if isinstance(error, DcondError) else f"{type(error).__name__}: {error}"
            )
            print(f"dcond: {words}", file=sys.stderr)
            raise sweep.JobError(words) from error

    return run

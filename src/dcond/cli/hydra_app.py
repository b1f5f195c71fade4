"""Run a task under Hydra, through its public interfaces, with errors as one line."""

import functools
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dcond.cli import sweep
from dcond.cli.flags import config_folders, split_flags
from dcond.cli.overrides import check_mode, check_overrides, expand_path_arguments, parse
from dcond.cli.path_values import quote_paths, unquote_path
from dcond.cli.run_config import label_modified_protocol, resolve_environment
from dcond.cli.torchrun import is_main_process, under_torchrun
from dcond.cli.unknown_keys import check_added, hydra_error_message
from dcond.environment import environment
from dcond.errors import CheckpointError, ConfigError, DcondError
from dcond.paths import conf_dir
from dcond.run.lock import in_use
from dcond.run.result import CHECKPOINT, RunResult, of_another_program
from dcond.run.result import NAME as RESULT

log = logging.getLogger(__name__)

FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
Task = Callable[[DictConfig], float | None]  # returns the value that a sweeper maximises, or None


class _UserError(BaseException):
    """Carries a :class:`DcondError` through Hydra, which reports each ``Exception`` itself."""

    def __init__(self, error: DcondError):
        self.error = error


def main(argv: list[str]) -> int:
    """Run ``dcond condense`` or ``dcond evaluate``, which the first argument names.

    Under torchrun the job runs in all processes.

    Raises:
        DcondError: An error of the arguments, the configuration, the run or the disk, as one line.
    """
    command, *arguments = argv
    if is_main_process():
        check_mode(split_flags(arguments, command))
        if command == "evaluate":
            arguments = _evaluate_arguments(arguments)
        else:
            check_resume(arguments)
    task = functools.partial(_import_and_run, command)
    if under_torchrun():
        from dcond.cli.ranks import run_on_all_ranks  # torch

        run_on_all_ranks(task, lambda task: _hydra_main(task, command, arguments), arguments)
    else:
        _hydra_main(task, command, arguments)
    return 0


def _evaluate_arguments(argv: list[str]) -> list[str]:
    """Return the arguments with the paths of sets expanded, and the artefact's data set."""
    arguments = quote_paths(expand_path_arguments(argv))
    check_overrides(arguments, "evaluate")  # before the set is read
    given = dict(parse(argument)[1:] for argument in arguments if "=" in argument)
    path = given.get("synthetic.path", "null")
    several = unquote_path(path) == path  # a single path is quoted
    if path in ("", "null") or several:
        return arguments
    given_sets = importlib.import_module("dcond.cli.given_sets")  # torch
    return [*arguments, *given_sets.dataset_overrides(unquote_path(path), arguments)]


def check_resume(argv: list[str]) -> None:
    """Raise :class:`CheckpointError` for ``resume=`` of a folder without a run.

    Hydra would create the folder, or write into it.
    """
    for override in argv:
        _, key, value = parse(override)
        if key != "resume" or value == "null":
            continue
        folder = Path(os.path.expanduser(unquote_path(value)))
        if not value:
            raise CheckpointError(
                "resume= names no folder; give the folder of an unfinished run, or omit it."
            )
        if not folder.is_dir():
            raise CheckpointError(
                f"nothing to resume: {value} is not a folder; give that of an unfinished run."
            )
        # A finished run is refused later, by another message.
        if not (folder / CHECKPOINT).exists() and not (folder / RESULT).exists():
            raise CheckpointError(
                f"nothing to resume: {folder / CHECKPOINT} does not exist; give the folder that "
                "has it."
            )


def _import_and_run(command: str, cfg: DictConfig) -> float | None:
    """Run the job of a command, whose module imports torch; say so on a terminal."""
    if sys.stderr.isatty() and "torch" not in sys.modules:
        log.info("loading PyTorch")
    objective: float | None = importlib.import_module(f"dcond.cli.{command}").run_job(cfg)
    return objective


def _hydra_main(task: Task, config_name: str, argv: list[str]) -> None:
    argv = quote_paths(argv)
    arguments = split_flags(argv, config_name)
    check_overrides(argv, config_name)

    def run(cfg: DictConfig) -> float | None:  # hydra.main needs a function
        return _run_task(task, cfg)

    with sweep.report_sweep_outcome():
        try:
            with (
                _hydra_environment([*arguments.overrides, *arguments.flags]),
                _own_modules(config_folders(arguments.flags)),
            ):
                hydra.main(
                    version_base="1.3", config_path=str(conf_dir()), config_name=config_name
                )(run)()
        except _UserError as carrier:
            raise carrier.error from carrier.error.__cause__
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(hydra_error_message(error, argv, config_name)) from error
        except BrokenPipeError:  # the reader of --cfg or --info has ended
            raise
        except (OSError, ValueError) as error:
            if (known := _explained(error, argv)) is None:
                raise
            raise known from error


def _explained(error: OSError | ValueError, argv: list[str]) -> DcondError | None:
    """Return the line for an error of Hydra's that it does not raise as one of its own."""
    if "Config group override" in str(error):  # GROUP=0, for example
        return ConfigError(hydra_error_message(error))
    # Hydra could not create the run folder, or logging (ValueError) its file there.
    reason = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(reason, OSError):
        return None
    typed = [argument.partition("=")[0] for argument in argv]
    setting = next((key for key in typed if key in FOLDERS), "paths.outputs")
    way_out = f"Free some space or choose another folder with {setting}=FOLDER."
    if "resume" in typed:
        way_out = "Free some space, or copy the run to a folder that can be written."
    return DcondError(f"cannot write {reason.filename}: {reason.strerror}. {way_out}")


@contextmanager
def _hydra_environment(arguments: list[str]) -> Iterator[None]:
    """Set the arguments that Hydra reads, and let it raise errors instead of printing them."""
    argv = sys.argv
    sys.argv = [argv[0], *arguments]
    try:
        typed = os.environ.get("HYDRA_FULL_ERROR", "")
        with environment(sweep.FULL_ERROR, typed), environment("HYDRA_FULL_ERROR", "1"):
            yield
    finally:
        sys.argv = argv


@contextmanager
def _own_modules(folders: list[Path]) -> Iterator[None]:
    """Let Python find a user's modules in the folders of ``--config-dir`` and in the current one.

    Also in the processes of a launcher, which inherit the variable. What is installed comes first
    here; without ``--config-dir`` nothing is added.
    """
    if not folders:
        yield
        return
    path, variable = list(sys.path), os.environ.get("PYTHONPATH")
    added = [str(folder.absolute()) for folder in (Path(), *folders)]
    sys.path += added
    try:
        with environment("PYTHONPATH", os.pathsep.join(filter(None, [variable, *added]))):
            yield
    finally:
        sys.path[:] = path


# At module level: a job's process unpickles it by importing this module, which registers the
# resolvers below.
def _run_task(task: Task, cfg: DictConfig) -> float | None:
    """Run a task; a job of a sweep reports its error and returns None so that others still run."""
    hydra_cfg: Any = HydraConfig.get()
    command = str(hydra_cfg.job.config_name)
    try:
        try:
            if hydra_cfg.job.chdir:
                raise ConfigError(
                    "hydra.job.chdir=true is not supported, since relative paths would start at "
                    "the run folder; omit it."
                )
            check_added(cfg, hydra_cfg, command)
            resolve_environment(cfg)
            label_modified_protocol(cfg, hydra_cfg)
            return task(cfg)
        except OmegaConfBaseException as error:
            raise ConfigError(hydra_error_message(error)) from error
    except Exception as error:
        if sweep.is_job():
            sweep.report_failed_job(error)
            return None
        if isinstance(error, DcondError):
            raise _UserError(error) from error
        raise


def _hydra_subdir(resume: str | None, folder: str | None) -> str | None:
    """Return the sub-folder for Hydra's files; None where they would overwrite those of a run."""
    run = Path(folder or ".")
    has_run = RunResult.read_finished(run) is not None or (run / CHECKPOINT).exists()
    spared = has_run or resume or in_use(run) or of_another_program(run)
    return None if spared else ".hydra"


OmegaConf.register_new_resolver("dcond.run_dir", lambda resume, new: resume or new, replace=True)
OmegaConf.register_new_resolver("dcond.hydra_subdir", _hydra_subdir, replace=True)

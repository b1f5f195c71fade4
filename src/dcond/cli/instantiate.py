"""What the jobs of the Hydra applications share: building parts, checking settings, the result file."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond import errors
from dcond.cli.settings import validate_targets
from dcond.errors import ConfigError, DcondError, first_line, yaml_repr
from dcond.run.context import oom_as_user_error

log = logging.getLogger(__name__)


def build(node: Any, what: str) -> Any:
    """Instantiate a part from its configuration.

    Args:
        node: the part's configuration.
        what: how the command line calls it: ``method=dm``, or ``loop``.

    Raises:
        ConfigError: the node names an unknown setting, lacks one, or has one of a wrong type.
        DcondError: whatever the part itself refuses, as it said it.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf.errors import OmegaConfBaseException

    group = what.partition("=")[0]
    if not isinstance(node, DictConfig):
        raise ConfigError(
            f"{group}={yaml_repr(node)} leaves nothing to use; leave the word out, or choose another."
        )
    for missing in sorted(OmegaConf.missing_keys(node)):
        raise ConfigError(f"{what} needs {missing}; add it to the command, as {missing}=...")
    try:
        validate_targets(OmegaConf.to_container(node, resolve=True), group)
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, DcondError):
                raise cause from None
            if isinstance(cause, ModuleNotFoundError):
                absent = str(cause.name).partition(".")[0]
                raise ConfigError(
                    f"{what} needs the package {absent!r}, which is not installed."
                ) from error
            cause = cause.__cause__
        reason = first_line(error.__cause__ or error)
        raise ConfigError(f"{what} cannot be made from its settings: {reason}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{what}: {first_line(error)}") from error


def prefetch_weights(*parts: Any) -> None:
    """Have published weights, and those of files, before anything is computed: of every network in some parts."""
    from dcond.models import Pool, Recipe

    for part in parts:
        if isinstance(part, Pool | Recipe):
            part.fetch()
        elif is_dataclass(part):
            prefetch_weights(*(getattr(part, field.name) for field in fields(part)))


def get_int(cfg: DictConfig, key: str, least: int) -> int:
    """Return an integer setting.

    Raises:
        ConfigError: it is no integer, or less than ``least``.
    """
    errors.whole_number(key, cfg[key], least)
    return int(cfg[key])


def get_positive(cfg: DictConfig, key: str) -> float:
    """Return a setting that is a number greater than 0.

    Raises:
        ConfigError: it is none.
    """
    value = cfg[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ConfigError(
            f"{key}={yaml_repr(value)} is out of range; it must be a number greater than 0."
        )
    return float(value)


def cache_folder(cfg: DictConfig) -> Path:
    """Return where figures are kept that later runs can use.

    Raises:
        ConfigError: ``paths.outputs`` is no folder's name.
    """
    outputs = OmegaConf.select(cfg, "paths.outputs") if isinstance(cfg.paths, DictConfig) else None
    if not isinstance(outputs, str):
        raise ConfigError(
            f"paths.outputs={yaml_repr(outputs)} is out of range; it must be the name of a folder."
        )
    return Path(outputs) / "cache"


def get_bool(cfg: DictConfig, key: str) -> bool:
    """Return a setting that is true or false.

    Raises:
        ConfigError: it is neither.
    """
    value = OmegaConf.select(cfg, key)
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={value!r} is unknown; allowed: true, false.")
    return value


def relative_to_cwd(path: Path) -> Path:
    """Return a path as seen from the current folder, where it lies below that: short enough not to be wrapped."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


@contextmanager
def cpu_threads(cfg: DictConfig) -> Iterator[None]:
    """Use ``threads`` CPU threads for the length of a block, and keep memory from step to step from here on.

    Where ``threads`` is null, a job of a sweep uses what its launcher gives it, and each of several
    processes on one machine its share of the cores.

    Raises:
        ConfigError: it is neither null nor a whole number of 1 or more.
    """
    import torch

    from dcond.cli import sweep
    from dcond.device import share_of_cores, tune_malloc

    tune_malloc()
    before = torch.get_num_threads()
    threads = sweep.threads() or share_of_cores()
    torch.set_num_threads(threads if cfg.threads is None else get_int(cfg, "threads", 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def locked_run_folder(folder: Path) -> Iterator[None]:
    """Keep a run folder to this process for the length of a block; of several processes of one run, rank 0 does.

    What an unfinished run said of itself there is forgotten.

    Raises:
        ConfigError: another process has it, or has finished its run there.
    """
    from dcond.distributed import current
    from dcond.run import result as results
    from dcond.run.lock import lock_folder

    if not current().first:
        yield
        return
    with lock_folder(folder):
        results.refuse_finished(folder)  # again: it may have been finished since the first look
        results.forget_unfinished(folder)
        yield


@contextmanager
def write_result_on_exit(result: dict[str, Any], folder: Path) -> Iterator[None]:
    """Write ``result.json`` however the block ends; log what ended it. Of several processes, rank 0 does.

    Raises:
        DcondError: also for a failed write (disk full, read-only folder), in one line.
    """
    from dcond.distributed import current
    from dcond.run import result as results
    from dcond.run.signals import Interrupted

    if not current().first:
        yield
        return
    try:
        with oom_as_user_error(result["config"] or {}):
            yield
        result["status"] = "done"
    except BaseException as error:
        result["status"] = "interrupted" if isinstance(error, Interrupted) else "failed"
        result["error"] = first_line(error)
        if isinstance(error, Interrupted):
            log.warning(
                "; ".join([str(error), *getattr(error, "__notes__", ())])
            )  # which say how to go on
        else:  # the console gets its line when the command ends
            known = isinstance(error, DcondError)
            log.error("%s", error, exc_info=None if known else error, extra={"file_only": True})
        try:
            results.write(result, folder)
        except OSError as second:
            log.warning("result.json could not be written: %s", second)
        if isinstance(error, OSError):
            raise DcondError(_disk_words(error, folder)) from error
        raise
    try:
        results.write(result, folder)
    except OSError as error:
        raise DcondError(
            f"cannot write {folder / results.NAME}: {error.strerror or error}."
        ) from error


def _disk_words(error: OSError, folder: Path) -> str:
    reason = error.strerror or error
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return f"cannot write in {folder}: {reason}. Free some space or choose another folder."
    if not folder.is_dir():
        return f"cannot write {folder}: it is gone. Start again, in a folder that stays."
    what = error.filename or f"in {folder}"
    return f"cannot read or write {what}: {reason}. See that it is there and can be read, then start again."

"""What surrounds a run of the command line: threads, the locked folder, its result on exit."""

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dcond import artefact
from dcond.device import is_out_of_memory, share_of_cores, tune_malloc
from dcond.distributed import current
from dcond.errors import ConfigError, DcondError, first_line, yaml_repr
from dcond.run.lock import NAME as LOCK
from dcond.run.lock import lock_folder
from dcond.run.result import (
    CHECKPOINT,
    NAME,
    UNFINISHED,
    RunResult,
    flat_settings,
    of_another_program,
)
from dcond.run.signals import Interrupted, Stop, handle_signals

log = logging.getLogger(__name__)

# What a condensation that starts in a folder overwrites.
OVERWRITTEN = (artefact.NAME, CHECKPOINT, "metrics.jsonl", "grid.png")

_MEMORY_SETTINGS = (
    *("chunk", "batch_real", "batch_synthetic", "batch_train", "batch", "test_batch"),
    *("segment", "frequencies", "copies"),
)


@contextmanager
def cpu_threads(threads: int | None) -> Iterator[None]:
    """Use a number of CPU threads for the length of a block, and reuse freed memory from then on.

    Args:
        threads: None: PyTorch's choice, or this process's share of the cores where several
            processes of one run share the machine.
    """
    tune_malloc()
    before = torch.get_num_threads()
    torch.set_num_threads(share_of_cores() if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def command_run(result: RunResult, folder: Path) -> Iterator[Stop]:
    """Surround a run of the command line: signals, and :func:`run_folder`."""
    with handle_signals() as stop, run_folder(result, folder), stop.as_interrupted():
        yield stop


@contextmanager
def run_folder(result: RunResult, folder: Path) -> Iterator[None]:
    """Lock a folder, and write ``result.json`` there however the block ends (rank 0 only).

    A finished run no longer needs the results of single networks, which are removed.

    The error that ended it is logged, where a program has set logging up.

    Raises:
        ConfigError: another process holds the lock or has finished its run there, or the folder
            has a ``result.json`` of another program.
        DcondError: also for a failed write (disk full, read-only folder), in one line.
    """
    if not current().first:
        yield
        return
    RunResult.refuse_foreign(folder)
    try:
        with lock_folder(folder):
            RunResult.refuse_finished(folder)  # it may have been finished since the first check
            (folder / NAME).unlink(missing_ok=True)
            try:
                with oom_as_user_error(result.config or {}):
                    yield
            except BaseException as error:
                _write_failed(error, result, folder)
                raise
            result.status = "done"
            try:
                result.write(folder)
            except OSError as error:
                reason = error.strerror or error
                raise DcondError(f"cannot write {folder / NAME}: {reason}.") from error
            shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    except OSError as error:
        raise DcondError(_disk_message(error, folder)) from error


def _write_failed(error: BaseException, result: RunResult, folder: Path) -> None:
    """Log the error that ended a run, and write its result."""
    result.status, result.error = "failed", first_line(error)
    if isinstance(error, KeyboardInterrupt):  # in a program; the command raises Interrupted
        result.status = result.error = "interrupted"
    elif isinstance(error, Interrupted):
        result.status = "interrupted"
        log.warning("; ".join([str(error), *getattr(error, "__notes__", ())]))  # how to resume
    elif log.hasHandlers():  # the console gets its line when the command ends
        known = isinstance(error, DcondError)
        log.error("%s", error, exc_info=None if known else error, extra={"file_only": True})
    try:
        result.write(folder)
    except OSError as second:
        log.warning("%s could not be written: %s", NAME, second)


def refuse_foreign_files(folder: Path, names: Iterable[str] = ()) -> None:
    """Raise :class:`ConfigError` if another program wrote files that a run would overwrite.

    Args:
        folder: of the run; it may be missing.
        names: of files that the run writes, besides those of Hydra.
    """
    if any(os.path.lexists(folder / name) for name in (LOCK, NAME)):
        return  # of a run of dcond; a result of another program is refused elsewhere
    found = [name for name in names if os.path.lexists(folder / name)]
    if found or of_another_program(folder):
        found = found or [".hydra"]
        raise ConfigError(
            f"{folder} holds {', '.join(found)}, but no run of dcond; choose another folder."
        )


@contextmanager
def oom_as_user_error(settings: dict[str, Any]) -> Iterator[None]:
    """Turn every way of running out of memory into one line.

    Args:
        settings: those of the run, as in its result; none where there is no run.

    Raises:
        DcondError: out of memory; names the settings that bound the memory, with their values.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if message := oom_message(error, settings):
            raise DcondError(message) from error
        raise


def oom_message(error: BaseException, settings: dict[str, Any]) -> str | None:
    """Return the line of :func:`oom_as_user_error`; None for an error of another kind."""
    if not is_out_of_memory(error):
        return None
    smaller = f"a smaller {_memory_settings(settings)}" if settings else "smaller networks"
    return f"out of memory ({first_line(error)[:200]}). Start again with {smaller}."


def _memory_settings(settings: dict[str, Any]) -> str:
    """Name the settings that bound the memory; those of the method and the engine first."""
    shown = [
        name if value is None else f"{name} (now {yaml_repr(value)})"
        for name, value in flat_settings(settings).items()
        if name.rpartition(".")[2] in _MEMORY_SETTINGS
        or (name == "engine.classes" and isinstance(value, int))
    ]
    shown.sort(key=lambda text: not text.startswith(("method.", "engine.")))
    last = "or ipc" if "method" in settings else "or a pool of smaller networks"
    return ", ".join([*shown, last])


def _disk_message(error: OSError, folder: Path) -> str:
    reason = error.strerror or error
    go_on = " ".join(note[0].upper() + note[1:] for note in getattr(error, "__notes__", ()))
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        way_out = f"Free some space or choose another folder. {go_on}".rstrip()
        return f"cannot write in {folder}: {reason}. {way_out}"
    if not folder.is_dir():
        return f"cannot write {folder}: the folder has been removed. Start again."
    what = error.filename or f"in {folder}"
    checked = f"cannot read or write {what}: {reason}. Check that it exists and can be read"
    return f"{checked}. {go_on}" if go_on else f"{checked}, then start again."

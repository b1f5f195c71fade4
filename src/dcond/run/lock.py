"""A run folder belongs to one process at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dcond.errors import ConfigError
from dcond.paths import remove_leftovers

NAME = "run.lock"


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep every other process out of a run folder for the length of a block; clear what a killed one left unfinished.

    The kernel gives the lock back however the process ends, so that nothing has to be removed after
    SIGKILL. Where a file system has no locks, nothing is guarded.

    Raises:
        ConfigError: another process has it.
        OSError: the folder cannot be written to.
    """
    handle = _locked(folder)
    with suppress(OSError):  # only words; a full disk is told where something is lost by it
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    try:
        remove_leftovers(folder)
        yield
    finally:
        with suppress(OSError):  # the folder has vanished, or is read-only by now
            (
                folder / NAME
            ).unlink()  # while it is locked: who waits for it sees below that it is gone
        os.close(handle)


def in_use(folder: Path) -> bool:
    """Tell whether another process has claimed a folder."""
    try:
        handle = os.open(folder / NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _locked(folder: Path) -> int:
    path = folder / NAME
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _lock(handle):
            owner = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
            os.close(handle)
            raise ConfigError(
                f"{folder} is in use by {owner}; wait until that run ends, or choose another folder."
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # its owner ended between the two calls, and took the file with it


def _lock(handle: int) -> bool:
    """Try to lock a file; tell whether nobody else has."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True

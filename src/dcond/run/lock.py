"""One process at a time per run folder."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dcond.errors import ConfigError
from dcond.paths import remove_leftovers

NAME = "run.lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of a file system without locks


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a run folder for the length of a block; remove what a killed process left unfinished.

    The kernel releases the lock however the process ends. The lock file stays: it is empty, or
    names a process that was killed. On a file system without locks nothing is guarded.

    Raises:
        ConfigError: another process holds the lock.
        OSError: the folder cannot be written to.
    """
    file = folder / NAME
    lock = FileLock(file, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        owner = _read(file) or "another process"
        raise ConfigError(
            f"{folder} is in use by {owner}; wait until that run ends, or choose another folder."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        with suppress(OSError):  # a full disk is reported where data would be lost
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        remove_leftovers(folder)
        yield
    finally:
        with suppress(OSError):  # the folder has vanished, or is read-only by now
            file.write_text("", encoding="utf-8")
        lock.release()


def in_use(folder: Path) -> bool:
    """Return whether another process has locked a folder."""
    if not (folder / NAME).exists():
        return False
    try:
        with FileLock(folder / NAME, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return ""

"""One process at a time per run folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dcond.errors import ConfigError
from dcond.file_lock import LockedError, locked
from dcond.paths import remove_leftovers

NAME = "run.lock"


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a run folder for the length of a block; remove what a killed process left unfinished.

    The lock file stays: it is empty, or names a process that was killed.

    Raises:
        ConfigError: another process holds the lock.
        OSError: the folder cannot be written to.
    """
    file = folder / NAME
    try:
        with locked(file, blocking=False):
            try:
                with suppress(OSError):  # a full disk is reported where data would be lost
                    owner = f"process {os.getpid()} on {socket.gethostname()}"
                    file.write_text(owner, encoding="utf-8")
                remove_leftovers(folder)
                yield
            finally:
                with suppress(OSError):  # the folder has vanished, or is read-only by now
                    file.write_text("", encoding="utf-8")
    except LockedError:
        owner = "another process"
        with suppress(OSError):
            owner = file.read_text(encoding="utf-8", errors="replace")[:200] or owner
        raise ConfigError(
            f"{folder} is in use by {owner}; wait until that run ends, or choose another folder."
        ) from None


def in_use(folder: Path) -> bool:
    """Return whether another process has locked a folder."""
    if not (folder / NAME).exists():
        return False
    try:
        with locked(folder / NAME, blocking=False):
            return False
    except LockedError:
        return True
    except OSError:
        return False

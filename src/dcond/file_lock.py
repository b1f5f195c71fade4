"""Locks of files between processes."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of a file system without locks


class LockedError(Exception):
    """Another process holds the lock of a file."""


@contextmanager
def locked(file: Path, *, blocking: bool) -> Iterator[None]:
    """Hold the lock of a file, which is created, for the length of a block.

    The kernel releases it however the process ends. On a file system without locks nothing is
    guarded.

    Args:
        file: the lock file.
        blocking: wait for the lock.

    Raises:
        LockedError: another process holds it.
        OSError: the file cannot be written.
    """
    with file.open("a") as stream:  # closing it releases the lock
        try:
            fcntl.flock(stream, fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(str(file)) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield

"""Locks of files between processes."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of a file system without locks


@contextmanager
def locked(file: Path, *, blocking: bool) -> Iterator[None]:
    """Hold the lock of a file for the length of a block.

    The kernel releases it however the process ends. On a file system without locks nothing is
    guarded.

    Args:
        file: the lock file.
        blocking: wait for the lock.

    Raises:
        filelock.Timeout: another process holds it.
        OSError: the file cannot be written.
    """
    lock = FileLock(file, blocking=blocking)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()

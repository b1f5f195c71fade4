"""Signals: a run finishes its step and saves a checkpoint before it stops.

Ctrl-C, SIGTERM, a closed terminal (SIGHUP), and the warnings of batch systems.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from dcond.distributed import Ranks, current
from dcond.errors import DcondError

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Of pre-emption or a time limit; handled only where a launcher of jobs has a handler for them.
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(BaseException):
    """The run was asked to stop; the process exits with 128 + the signal's number."""

    def __init__(self, signum: int):
        self.signum = signum
        super().__init__(f"interrupted by {signal.Signals(signum).name}")

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[int]]:
        """Make it picklable: it passes from a job's process to the sweep's."""
        return Interrupted, (self.signum,)


class Stop:
    """Raises for a signal at once, or in a deferred block at the next :meth:`check`."""

    def __init__(self) -> None:
        self._pending: int | None = None
        self._raised: int | None = None
        self._deferred = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:  # sent by the kernel, and once more by a shell
            signal.signal(signum, signal.SIG_IGN)
        if self._deferred and self._pending is None:
            self._pending = signum
        else:  # nothing to save, or a second signal
            self._raised = signum
            raise Interrupted(signum)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the first signal to the next :meth:`check`; a second one still raises at once.

        After an error it stays deferred: it must not take the place of the error, which is on its
        way to the user. torchrun sends a signal to every process once one has ended.
        """
        self._deferred = True
        try:
            yield
        except Interrupted:
            self._deferred = False
            raise
        self._deferred = False

    @contextmanager
    def as_interrupted(self) -> Iterator[None]:
        """Raise :class:`Interrupted` where a library turned it into another error.

        An extension module that is interrupted while it is imported raises ImportError. A
        :class:`DcondError` stays: it reports what failed while the work was saved.
        """
        try:
            yield
        except DcondError:
            self._deferred = True  # as in deferred
            raise
        except Exception as error:
            if self._raised is None:
                raise
            raise Interrupted(self._raised) from error

    def stop_requested_on_any_rank(self, ranks: Ranks) -> bool:
        """Return whether any process of the run has a deferred signal; it then counts for all."""
        signum = int(ranks.largest(self._pending or 0)[0])
        if self._pending is None and signum:
            self._pending = signum
        return signum > 0

    def check(self) -> None:
        """Raise :class:`Interrupted` for a deferred signal."""
        if self._pending is not None:
            signum, self._pending = self._pending, None
            raise Interrupted(signum)


@contextmanager
def handle_signals() -> Iterator[Stop]:
    """Install the handlers for the length of a block; only in the main thread, as Python requires.

    Where a launcher of jobs (submitit) handles a warning of pre-emption, the run stops first, with
    its work saved, and the launcher's handler is called afterwards: it requeues the job. The
    launcher's handling of SIGINT and SIGTERM is left to it.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {signum: signal.getsignal(signum) for signum in (*CAUGHT, *WARNINGS)}
    foreign = {
        s: handler
        for s, handler in before.items()
        if callable(handler) and handler != signal.default_int_handler
    }
    ignored = {signal.SIGHUP} if before[signal.SIGHUP] == signal.SIG_IGN else set()  # by nohup
    mine = [s for s in before if (s in WARNINGS) == (s in foreign) and s not in ignored]
    for signum in mine:
        signal.signal(signum, stop._handle)
    try:
        yield stop
    except BaseException as error:
        if current().count > 1:
            ignore_signals()
        else:
            _restore_handlers(before, mine)
        if isinstance(error, Interrupted) and error.signum in WARNINGS:
            foreign[error.signum](error.signum, None)
        raise
    _restore_handlers(before, mine)


def ignore_signals() -> None:
    """Ignore signals from here on: torchrun sends one to every process once one has ended."""
    for signum in (*CAUGHT, *WARNINGS):
        signal.signal(signum, signal.SIG_IGN)


def _restore_handlers(before: dict[int, Any], signals: list[int]) -> None:
    for signum in signals:
        # An ignored SIGHUP was received already.
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, before[signum])

"""Ctrl-C, SIGTERM, a terminal that closes, a batch system's warning: finish the step, keep the work, say so."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from dcond.distributed import Ranks
from dcond.errors import DcondError

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WARNINGS = (
    signal.SIGUSR1,
    signal.SIGUSR2,
)  # of pre-emption or a time limit; counted where somebody listens to them

_PYTHONS_OWN = signal.default_int_handler


class Interrupted(BaseException):
    """The run was asked to stop; the process exits with 128 + the signal's number."""

    def __init__(self, signum: int):
        self.signum = signum
        super().__init__(f"interrupted by {signal.Signals(signum).name}")

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[int]]:
        """Let it pass from a job's process to the sweep's."""
        return Interrupted, (self.signum,)


class Stop:
    """Catches the signals: at once outside a deferred block, at the next :meth:`check` inside one."""

    def __init__(self) -> None:
        self._pending: int | None = None
        self._raised: int | None = None
        self._deferred = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if (
            signum == signal.SIGHUP
        ):  # the kernel says it, and a shell once more: not somebody who asks twice
            signal.signal(signum, signal.SIG_IGN)
        if self._deferred and self._pending is None:
            self._pending = signum
        else:  # nothing to keep, or asked twice
            self._raised = signum
            raise Interrupted(signum)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Hold signals back while something must not be cut in the middle; a second one cuts all the same."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextmanager
    def as_interrupted(self) -> Iterator[None]:
        """End a block that a signal cut as :class:`Interrupted`, also where a library put another error in its place.

        An extension module that is cut while it is imported says ImportError. Errors of ours stay:
        they tell what went wrong while the work was kept.
        """
        try:
            yield
        except DcondError:
            raise
        except Exception as error:
            if self._raised is None:
                raise
            raise Interrupted(self._raised) from error

    @property
    def requested(self) -> bool:
        """Whether a held-back signal waits."""
        return self._pending is not None

    def stop_requested_on_any_rank(self, ranks: Ranks) -> bool:
        """Whether a signal waits in any process of the run; from then on it does in this one."""
        signum = int(ranks.largest(self._pending or 0)[0])
        if self._pending is None and signum:
            self._pending = signum
        return signum > 0

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal waits."""
        if self._pending is not None:
            signum, self._pending = self._pending, None
            raise Interrupted(signum)


@contextmanager
def handle_signals() -> Iterator[Stop]:
    """Install the handlers for the length of a block (only the main thread may; elsewhere nothing is caught).

    Where a launcher of jobs (submitit) listens to a warning of pre-emption, the run is stopped
    first, with all of its work kept, and the launcher's handler is called then: it puts the job
    back into the queue. What such a launcher does with SIGINT and SIGTERM is left to it.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {signum: signal.getsignal(signum) for signum in (*CAUGHT, *WARNINGS)}
    foreign = {
        s: handler for s, handler in before.items() if callable(handler) and handler != _PYTHONS_OWN
    }
    ignored = {signal.SIGHUP} if before[signal.SIGHUP] == signal.SIG_IGN else set()  # by nohup
    mine = [s for s in before if (s in WARNINGS) == (s in foreign) and s not in ignored]
    for signum in mine:
        signal.signal(signum, stop._handle)
    try:
        yield stop
    except Interrupted as interrupted:
        _put_back(before, mine)
        if interrupted.signum in WARNINGS:
            foreign[interrupted.signum](interrupted.signum, None)
        raise
    finally:
        _put_back(before, mine)


def _put_back(before: dict[int, Any], signals: list[int]) -> None:
    for signum in signals:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # heard already
            signal.signal(signum, before[signum])

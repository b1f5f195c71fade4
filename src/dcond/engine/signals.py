"""Ctrl-C and SIGTERM: finish the step, keep the work, say so."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dcond.ranks import Ranks

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The run was asked to stop; the process exits with 128 + the signal's number."""

    def __init__(self, signum: int):
        self.signum = signum
        super().__init__(f"interrupted by {signal.Signals(signum).name}")


class Stop:
    """Catches the signals: at once outside a deferred block, at the next :meth:`check` inside one."""

    def __init__(self) -> None:
        self._pending: int | None = None
        self._deferred = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._deferred and self._pending is None:
            self._pending = signum
        else:  # nothing to keep, or asked twice
            raise Interrupted(signum)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Hold signals back while something must not be cut in the middle; a second one cuts all the same."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @property
    def requested(self) -> bool:
        """Whether a held-back signal waits."""
        return self._pending is not None

    def agreed(self, ranks: Ranks) -> bool:
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
def caught() -> Iterator[Stop]:
    """Install the handlers for the length of a block (only the main thread may; elsewhere nothing is caught)."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {signum: signal.signal(signum, stop._handle) for signum in CAUGHT}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)

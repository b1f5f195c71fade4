"""Progress as a person wants it: a live bar on a terminal, a plain line now and then anywhere else."""

import logging
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dcond.log import console

log = logging.getLogger(__name__)


class Reporter(Protocol):
    """Shows how far something is."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

    def update(self, done: int, note: str) -> None:
        """Tell that ``done`` units are finished; ``note`` says what just happened (a loss, a network's name)."""
        ...


class Bar:
    """A Rich progress bar with elapsed and remaining time."""

    def __init__(self, what: str, total: int, done: int = 0):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),  # a network's name is none
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console(), transient=True)
        self._task = self._progress.add_task(what, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def update(self, done: int, note: str) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done, note=note)


class LogProgress:
    """One log line every ``every_s`` seconds, later every fiftieth of the time spent; none for what ends sooner."""

    def __init__(self, what: str, total: int, done: int = 0, every_s: float = 10.0):
        self._what, self._total, self._first, self._every_s = what, total, done, every_s
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def update(self, done: int, note: str) -> None:
        """Log a line if it is time."""
        now = time.monotonic()
        if done == self._first or now - self._last < max(self._every_s, (now - self._start) / 50):
            return
        self._last = now
        eta = (now - self._start) / (done - self._first) * (self._total - done)
        log.info("%s %d/%d  %s  eta %s", self._what, done, self._total, note, format_duration(eta))


def reporter(what: str, total: int, done: int = 0, every_s: float = 10.0) -> Reporter:
    """Return a bar on a terminal, plain lines elsewhere.

    Lines also where jobs side by side write to one terminal, and for all but rank 0 of the
    processes of one run.
    """
    from dcond.distributed import current  # brings torch, which a report does without

    alone = multiprocessing.parent_process() is None and current().first
    return (
        Bar(what, total, done)
        if alone and console().is_terminal
        else LogProgress(what, total, done, every_s)
    )


@contextmanager
def log_if_slow(words: str, after_s: float = 3.0) -> Iterator[None]:
    """Say what is being done, once, where it takes longer than a moment: what fails at once is told in one line."""
    timer = threading.Timer(after_s, log.info, ("%s", words))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def format_duration(seconds: float) -> str:
    """Write seconds as a person reads them: 3.1 s, 4:05 min, 2:07:30 h."""
    if seconds < 59.95:  # what is left does not round to 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"

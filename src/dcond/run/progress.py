"""Progress of a run: a live bar on a terminal, log lines elsewhere."""

import logging
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dcond.distributed import current
from dcond.log import console, format_duration

log = logging.getLogger(__name__)

SLOW_S = 0.3
FIRST_S = 1.0  # until the first line: it shows that something happens, and how long it will take


class ProgressDisplay:
    """Shows nothing; the base of the displays that do. A context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def update(self, done: int, note: str, total: int | None = None) -> None:
        """Report that ``done`` units are finished; ``note`` describes the last (loss, network).

        ``total`` replaces the number of units, where it is only estimated.
        """


class ProgressBar(ProgressDisplay):
    """A Rich progress bar with elapsed and remaining time."""

    def __init__(self, name: str, total: int, done: int = 0):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),  # a network's name is not markup
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console(), transient=True)
        self._task = self._progress.add_task(name, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def update(self, done: int, note: str, total: int | None = None) -> None:
        """Move the bar."""
        self._progress.tasks[0].total = total or self._progress.tasks[0].total  # keeps the speed
        self._progress.update(self._task, completed=done, note=note)


class LogProgress(ProgressDisplay):
    """A log line after a second, then every ``every_s`` seconds, later fiftieths of the time."""

    def __init__(self, name: str, total: int, done: int = 0, every_s: float = 10.0):
        self._name, self._total, self._first, self._every_s = name, total, done, every_s
        self._start = self._last = time.monotonic()
        self._wait_s = min(FIRST_S, every_s)

    def update(self, done: int, note: str, total: int | None = None) -> None:
        """Log a line if it is due."""
        self._total = total or self._total
        now = time.monotonic()
        if done == self._first or now - self._last < self._wait_s:
            return
        self._last, self._wait_s = now, max(self._every_s, (now - self._start) / 50)
        eta = (now - self._start) / (done - self._first) * (self._total - done)
        log.info("%s %d/%d  %s  eta %s", self._name, done, self._total, note, format_duration(eta))


def progress_display(
    name: str, total: int, done: int = 0, every_s: float = 10.0, *, show: bool = True
) -> ProgressDisplay:
    """Return a bar on a terminal, log lines elsewhere, or nothing with ``show=False``.

    Log lines also where jobs in parallel share one terminal, and for all but rank 0.
    """
    if not show:
        return ProgressDisplay()
    alone = multiprocessing.parent_process() is None and current().first
    shown = console()
    if alone and shown.is_terminal and not shown.is_dumb_terminal:
        return ProgressBar(name, total, done)
    return LogProgress(name, total, done, every_s)


@contextmanager
def log_if_slow(message: str) -> Iterator[None]:
    """Log a message once if the block takes longer than ``SLOW_S`` seconds."""
    timer = threading.Timer(SLOW_S, log.info, ("%s", message))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

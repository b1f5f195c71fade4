"""Progress lines where there is no terminal, the bar where there is one."""

import io
import itertools
import logging
import time
from contextlib import suppress

import pytest
from rich.console import Console

from dcond.log import format_duration
from dcond.run import progress
from dcond.run.progress import (
    LogProgress,
    ProgressBar,
    log_if_slow,
    progress_display,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.14159, "3.1 s"),
        (59.94, "59.9 s"),
        (59.96, "1:00 min"),
        (60, "1:00 min"),
        (245.4, "4:05 min"),
        (3599.4, "59:59 min"),
        (3599.6, "1:00:00 h"),
        (7650, "2:07:30 h"),
        (360000, "100:00:00 h"),
    ],
)
def test_format_of_durations(seconds, text):
    assert format_duration(seconds) == text


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to move."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def test_a_line_now_and_then_with_the_time_that_is_left(clock, caplog):
    caplog.set_level(logging.INFO)
    with LogProgress("condense", 100, every_s=10) as bar:
        bar.update(1, "loss 4")
        clock(1)
        bar.update(10, "loss 3")
        clock(8.9)
        bar.update(20, "loss 2")
        clock(0.1)
        bar.update(25, "loss 1.5")
        clock(1)
        bar.update(26, "loss 1")
        clock(29)
        bar.update(50, "loss 0.5")
    assert caplog.messages == [
        "condense 10/100  loss 3  eta 9.0 s",
        "condense 26/100  loss 1  eta 31.3 s",
        "condense 50/100  loss 0.5  eta 40.0 s",
    ]


def test_the_time_left_of_a_resumed_run_is_reckoned_from_where_it_went_on(clock, caplog):
    caplog.set_level(logging.INFO)
    with LogProgress("condense", 1000, done=900, every_s=10) as bar:
        clock(20)
        bar.update(900, "nothing done yet")
        bar.update(950, "loss 1")
    assert caplog.messages == ["condense 950/1000  loss 1  eta 20.0 s"]


def test_a_number_of_units_that_changes(clock, caplog):
    caplog.set_level(logging.INFO)
    with LogProgress("condense", 10_000) as bar:
        clock(20)
        bar.update(40, "loss 1", 120)
    assert caplog.messages == ["condense 40/120  loss 1  eta 40.0 s"]


def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch):
    for terminal, kind in ((True, ProgressBar), (False, LogProgress)):
        shown = Console(file=io.StringIO(), force_terminal=terminal, width=100)
        monkeypatch.setattr(progress, "console", lambda shown=shown: shown)
        assert isinstance(progress_display("condense", 10), kind)


def test_lines_on_a_terminal_that_cannot_move_its_cursor(monkeypatch):
    """Rich draws no bar there."""
    monkeypatch.setenv("TERM", "dumb")
    shown = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(progress, "console", lambda: shown)
    assert isinstance(progress_display("condense", 10), LogProgress)


def test_the_bar_shows_count_note_and_time(monkeypatch):
    file = io.StringIO()
    shown = Console(file=file, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "console", lambda: shown)
    with ProgressBar("condense", 40, done=10) as bar:
        bar.update(30, "[/MLP] loss 0.25")
    text = file.getvalue()
    for word in ("condense", "30/40", "[/MLP] loss 0.25", "eta"):
        assert word in text


def test_the_bar_shows_the_time_that_is_left_of_a_changing_number(monkeypatch):
    file = io.StringIO()
    shown = Console(file=file, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "console", lambda: shown)
    with ProgressBar("condense", 10_000) as bar:
        bar._progress.get_time = itertools.count(0, 10).__next__
        for done in range(1, 6):
            bar.update(done, "loss 1", 40 + done % 2)
        (task,) = bar._progress.tasks
        assert task.total == 41
        assert task.time_remaining is not None


def test_what_takes_a_while_says_what_it_is_once(caplog, monkeypatch):
    monkeypatch.setattr("dcond.run.progress.SLOW_S", 0.01)
    with caplog.at_level(logging.INFO), log_if_slow("reading 100 % of it"):
        for _ in range(500):
            if caplog.messages:
                break
            time.sleep(0.01)
    assert caplog.messages == ["reading 100 % of it"]


def test_what_ends_or_fails_at_once_says_nothing(caplog, monkeypatch):
    monkeypatch.setattr("dcond.run.progress.SLOW_S", 0.2)
    with caplog.at_level(logging.INFO):
        with log_if_slow("reading"):
            pass
        with suppress(OSError), log_if_slow("reading"):
            raise OSError
        time.sleep(0.4)
    assert caplog.messages == []

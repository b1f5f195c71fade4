"""Fixtures for the command as a process: interrupted at random times, and counted."""

import random
import signal
import time
from pathlib import Path

import pytest
from hypothesis import settings

from dcond.run import checkpoint
from helpers.cutting import Command, Whole, done, images
from helpers.tallying import SEED, Tally, merge

# The same examples in every session; many with --runslow.
settings.register_profile("few", max_examples=10, derandomize=True, deadline=None, database=None)
settings.register_profile("many", parent=settings.get_profile("few"), max_examples=1000)


def pytest_configure(config):
    settings.load_profile("many" if config.getoption("--runslow") else "few")


@pytest.fixture
def command(tmp_path):
    # Processes started in the background by a shell ignore Ctrl-C, and so would their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Command(tmp_path)
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def whole(command, tmp_path):
    """Make an uninterrupted run, the reference for the others."""

    def make(*arguments: object) -> Whole:
        run, start = tmp_path / "whole", time.monotonic()
        process = command.condense(run, *arguments)
        while process.poll() is None and not (run / checkpoint.NAME).exists():
            time.sleep(0.002)
        first = time.monotonic()
        ended = command.ended(process)
        end = time.monotonic()
        assert ended.code == 0, ended.err
        loop_s = end - first if (run / checkpoint.NAME).exists() else None
        return Whole(command, arguments, run, images(run), end - start, loop_s)

    return make


@pytest.fixture
def rng(request) -> random.Random:
    """Random times and sizes, the same for a test in every session."""
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture(scope="session")
def kills(request) -> int:
    return request.config.getoption("--kills")


@pytest.fixture(scope="session")
def tally(request, kills):
    found = Tally(kills)
    yield found
    file = request.config.getoption("--faults-csv")
    if file:
        merge(found.rows, Path(file))


@pytest.fixture
def chain(whole, tmp_path, rng, kills):
    """Interrupt a run ``--kills`` times, resume it after each, and let it finish.

    A run that ends before its signal is compared with the reference, and a new run is started."""

    def follow(
        signum: signal.Signals, *arguments: object, in_loop: bool, allowed: set[int]
    ) -> tuple[int, list[str]]:
        reference = whole(*arguments)
        run, struck, found = tmp_path / "cut0", 0, []
        for attempt in range(10 * kills):
            ended = reference.cut(run, rng, signum, in_loop=in_loop)
            struck += ended.struck
            found += reference.problems(run)
            undone = ended.code == -signal.SIGINT and done(run)  # Ctrl-C after the work
            ours = (
                "Traceback" in ended.err and ", in main" in ended.err
            )  # else the signal came during the start of Python
            if ended.code not in allowed or undone or ours:
                found.append(f"ended with {ended.code}: {ended.err[-2000:]}")
            if struck >= kills:
                break
            if done(run):
                found += reference.problems_at_the_end(run)
                run = tmp_path / f"cut{attempt + 1}"
        if not done(run):  # a signal may have come after the last output
            last = reference.command.run(*reference.next_arguments(run))
            found += [last.err] if last.code else []
        return struck, found + reference.problems_at_the_end(run)

    return follow

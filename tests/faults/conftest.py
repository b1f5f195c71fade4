"""Driving the command as a process: cut at random moments, starved of disk, and counted."""

import csv
import datetime
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import dcond
from dcond import artefact
from dcond.engine import checkpoint
from dcond.errors import DcondError

SEED = 7
# Every step is followed by a checkpoint, so that many moments of a run lie within the writing of one.
TINY = ("debug=tiny", "threads=1", "checkpoint.every_s=0", "engine=exact", "model.width=8", "seed=3")
SOURCE = str(Path(dcond.__file__).parents[1])


# The same examples in every session; many of them where time is no matter.
settings.register_profile("few", max_examples=20, derandomize=True, deadline=None, database=None)
settings.register_profile("many", parent=settings.get_profile("few"), max_examples=1000)


def pytest_configure(config):
    settings.load_profile("many" if config.getoption("--runslow") else "few")


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status (below 0: killed by that signal) and its stderr."""

    code: int
    err: str
    struck: bool = True  # the signal came before the end

    @property
    def last(self) -> str:
        return (self.err.splitlines() or [""])[-1]


class Command:
    """Starts ``dcond`` in a folder of its own, with settings of no shell but this one."""

    def __init__(self, folder: Path):
        self.folder = folder
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DCOND_", "HYDRA_"))}
        self.env = {**kept, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}

    def start(
        self, *words: object, before: tuple[str, ...] = (), program: tuple[str, ...] = ("-m", "dcond"), **more: object
    ) -> subprocess.Popen:
        """Start it; ``before`` are the words of what starts it in its turn, ``program`` what Python is to run."""
        command = [*before, sys.executable, *program, *map(str, words)]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.env, **pipes, **more)

    def run(self, *words: object, **more: object) -> Ended:
        return self.ended(self.start(*words, **more))

    def condense(self, run: Path, *words: object, **more: object) -> subprocess.Popen:
        return self.start("condense", *TINY, *words, f"hydra.run.dir={run}", **more)

    @staticmethod
    def ended(process: subprocess.Popen, struck: bool = True) -> Ended:
        try:
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
        return Ended(process.returncode, err, struck)


def images(run: Path) -> bytes:
    return artefact.load(run).images.numpy().tobytes()


def steps(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def done(run: Path) -> bool:
    path = run / "result.json"
    return path.exists() and json.loads(path.read_text())["status"] == "done"


@dataclass
class Whole:
    """A run that was never broken, and how long it took."""

    command: Command
    words: tuple[object, ...]
    run: Path
    images: bytes
    life_s: float  # from its start to its end
    loop_s: float | None  # from its first checkpoint to its end; None for a method that takes no steps

    def cut(self, run: Path, rng: random.Random, signum: int, *, in_loop: bool) -> Ended:
        """Start or resume a run and send it a signal at a random moment, of its loop (if any) or of its whole life."""
        before, window_s = _stamp(run), self.loop_s if in_loop else None
        process = self.command.start(*self.next_words(run))
        while window_s is not None and process.poll() is None and _stamp(run) == before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, self.life_s if window_s is None else window_s))
        struck = process.poll() is None
        process.send_signal(signum)
        return self.command.ended(process, struck)

    def next_words(self, run: Path) -> tuple[object, ...]:
        if (run / checkpoint.NAME).exists():
            return ("condense", f"resume={run}")
        return ("condense", *TINY, *self.words, f"hydra.run.dir={run}")

    def problems(self, run: Path) -> list[str]:
        """Say what of a cut run's files is not whole; an absent file is."""
        found = []
        try:
            if (run / checkpoint.NAME).exists():
                checkpoint.load(run)
            if (run / "synthetic.safetensors").exists() and images(run) != self.images:
                found.append("other images")
            if (run / "result.json").exists():
                json.loads((run / "result.json").read_text())
        except (DcondError, ValueError) as error:
            found.append(str(error))
        return found

    def problems_at_the_end(self, run: Path) -> list[str]:
        """Say in what a run that was cut, resumed and finished differs from the whole one."""
        found = self.problems(run)
        if not done(run):
            found.append("not done")
        if images(run) != self.images:
            found.append("other images")
        if steps(run) != steps(self.run):
            found.append(f"records of steps {steps(run)}")
        return found + [path.name for path in run.glob(".*.tmp")]


def _stamp(run: Path) -> object:
    try:
        return (run / checkpoint.NAME).stat().st_ino, (run / checkpoint.NAME).stat().st_mtime_ns
    except OSError:
        return None


@pytest.fixture
def command(tmp_path):
    # A shell lets what it starts in the background ignore Ctrl-C, and so would every process from here on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Command(tmp_path)
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def whole(command, tmp_path):
    """Make a run that nothing breaks: what the broken ones are held against."""

    def make(*words: object) -> Whole:
        run, start = tmp_path / "whole", time.monotonic()
        process = command.condense(run, *words)
        while process.poll() is None and not (run / checkpoint.NAME).exists():
            time.sleep(0.002)
        first = time.monotonic()
        ended = command.ended(process)
        end = time.monotonic()
        assert ended.code == 0, ended.err
        loop_s = end - first if (run / checkpoint.NAME).exists() else None
        return Whole(command, words, run, images(run), end - start, loop_s)

    return make


@pytest.fixture
def rng(request) -> random.Random:
    """Random moments and sizes, the same ones for a test in every session."""
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture(scope="session")
def kills(request) -> int:
    return request.config.getoption("--kills")


@dataclass
class Tally:
    """What was tried and what survived; a row each in the file of ``--faults-csv``."""

    kills: int
    rows: list[dict[str, object]] = field(default_factory=list)

    def __call__(self, fault: str, subject: str, tries: int, problems: list[str]) -> None:
        self.rows.append(
            {
                "fault": fault,
                "subject": subject,
                "tries": tries,
                "problems": len(problems),
                "seed": SEED,
                "torch": torch.__version__,
                "machine": platform.machine(),
                "date": datetime.date.today().isoformat(),
                "command": f"pytest --runslow tests/faults --kills {self.kills}",
            }
        )
        assert problems == []


@pytest.fixture(scope="session")
def tally(request, kills):
    found = Tally(kills)
    yield found
    file = request.config.getoption("--faults-csv")
    if file and found.rows:
        with Path(file).open("w", newline="") as out:
            writer = csv.DictWriter(out, found.rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(found.rows)


@pytest.fixture
def chain(whole, tmp_path, rng, kills):
    """Cut a run ``--kills`` times, resuming after each, and see it to its end.

    A run that ends before its signal came is held against the whole one, and the next signal meets a new run.
    """

    def follow(signum: signal.Signals, *words: object, in_loop: bool, allowed: set[int]) -> tuple[int, list[str]]:
        reference = whole(*words)
        run, struck, found = tmp_path / "cut0", 0, []
        for attempt in range(10 * kills):
            ended = reference.cut(run, rng, signum, in_loop=in_loop)
            struck += ended.struck
            found += reference.problems(run)
            if ended.code not in allowed or "Traceback" in ended.err:
                found.append(f"ended with {ended.code}: {ended.err[-2000:]}")
            if struck >= kills:
                break
            if done(run):
                found += reference.problems_at_the_end(run)
                run = tmp_path / f"cut{attempt + 1}"
        if not done(run):  # a signal may have come after the last word
            last = reference.command.run(*reference.next_words(run))
            found += [last.err] if last.code else []
        return struck, found + reference.problems_at_the_end(run)

    return follow

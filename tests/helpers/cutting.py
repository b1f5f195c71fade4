"""Runs of the command as processes that are interrupted at random times and then checked."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import dcond
from dcond import artefact
from dcond.errors import DcondError
from dcond.run import checkpoint

# A checkpoint after every step, so that a signal often arrives while one is written.
TINY = (
    "debug=tiny",
    "threads=1",
    "loop.checkpoint_every_s=0",
    "engine=exact",
    "model.width=8",
    "seed=3",
)
SOURCE = str(Path(dcond.__file__).parents[1])


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
    """Starts ``dcond`` in a temporary folder, without environment variables of dcond and Hydra."""

    def __init__(self, folder: Path):
        self.folder = folder
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("DCOND_", "HYDRA_"))
        }
        self.env = {**kept, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}

    def start(
        self,
        *arguments: object,
        before: tuple[str, ...] = (),
        program: tuple[str, ...] = ("-m", "dcond"),
        **more: object,
    ) -> subprocess.Popen:
        """Start it; ``before`` is a command that wraps it, ``program`` the arguments of Python."""
        command = [*before, sys.executable, *program, *map(str, arguments)]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.env, **(pipes | more))

    def run(self, *arguments: object, **more: object) -> Ended:
        return self.ended(self.start(*arguments, **more))

    def condense(self, run: Path, *arguments: object, **more: object) -> subprocess.Popen:
        return self.start("condense", *TINY, *arguments, f"hydra.run.dir={run}", **more)

    @staticmethod
    def ended(process: subprocess.Popen, struck: bool = True) -> Ended:
        try:
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
        return Ended(process.returncode, err or "", struck)


def images(run: Path) -> bytes:
    return artefact.load(run).images.numpy().tobytes()


def steps(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    return (
        [json.loads(line)["step"] for line in path.read_text().splitlines()]
        if path.exists()
        else []
    )


def done(run: Path) -> bool:
    path = run / "result.json"
    return path.exists() and json.loads(path.read_text())["status"] == "done"


@dataclass
class Whole:
    """An uninterrupted run and its duration."""

    command: Command
    arguments: tuple[object, ...]
    run: Path
    images: bytes
    life_s: float  # from its start to its end
    loop_s: float | None  # from the first checkpoint to the end; None for a method without steps

    def cut(self, run: Path, rng: random.Random, signum: int, *, in_loop: bool) -> Ended:
        """Start or resume a run and send it a signal at a random time, in its loop if requested."""
        before, window_s = _stamp(run), self.loop_s if in_loop else None
        process = self.command.start(*self.next_arguments(run))
        while window_s is not None and process.poll() is None and _stamp(run) == before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, self.life_s if window_s is None else window_s))
        struck = process.poll() is None
        process.send_signal(signum)
        return self.command.ended(process, struck)

    def next_arguments(self, run: Path) -> tuple[object, ...]:
        if (run / checkpoint.NAME).exists():
            return ("condense", f"resume={run}")
        return ("condense", *TINY, *self.arguments, f"hydra.run.dir={run}")

    def problems(self, run: Path) -> list[str]:
        """Describe which files of an interrupted run are damaged; a missing file is not."""
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
        """Describe how an interrupted, resumed and finished run differs from this one."""
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

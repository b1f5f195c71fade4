"""Fixtures that call ``dcond``, in this process where possible: importing torch takes seconds."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import dcond
from dcond.cli import main as cli
from helpers.tidying import tidied

# A run of about a second that uses every part.
TINY = ("debug=tiny", "method=dm", "method.batch_real=8", "model.width=8")
SMALL_POOL = ("pool=convnet", "pool.networks.ConvNet.width=8")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on stderr of a command that failed."""
        lines = self.err.splitlines()
        assert self.code == 1, (self.code, self.out)
        assert len(lines) == 1, self.err
        assert lines[0].startswith("dcond: ")
        return lines[0].removeprefix("dcond: ")


RunCli = Callable[..., Done]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty current folder, without environment variables of dcond and Hydra."""
    for name in ("DCOND_DATA", "DCOND_OUTPUTS", "HYDRA_FULL_ERROR", "COMP_LINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("dcond.run.progress.SLOW_S", 60.0)  # however busy the machine is
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_cli(capsys, monkeypatch) -> Iterator[RunCli]:
    """Run ``dcond ARGUMENTS`` in this process and restore the state of Hydra and logging."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["dcond", *map(str, arguments)])
        capsys.readouterr()
        with tidied():
            try:
                code = cli.main()
            except SystemExit as end:  # argparse, and Hydra after --cfg and the like
                code = end.code or 0
        return Done(code, *capsys.readouterr())

    with tidied():
        yield run


@pytest.fixture
def condense(run_cli) -> RunCli:
    """Run a small ``dcond condense`` with more arguments."""
    return lambda *arguments: run_cli("condense", *TINY, *SMALL_POOL, *arguments)


@pytest.fixture
def run_process() -> RunCli:
    """Run ``python -m dcond ARGUMENTS`` as a process, which takes seconds."""

    def run(*arguments: str, env: dict[str, str] | None = None, **settings: object) -> Done:
        source = {"PYTHONPATH": str(Path(dcond.__file__).parents[1])}
        done = subprocess.run(
            [sys.executable, "-m", "dcond", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **source, **(env or {})},
            check=False,
            timeout=300,
            **settings,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def results(folder) -> Callable[[], list[dict]]:
    """Read every ``result.json`` under the current folder, in order of path."""
    return lambda: [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]


@pytest.fixture
def half_written(folder, results) -> Callable[[], list[str]]:
    """Return the artefacts, temporary files and finished results under the current folder."""

    def found() -> list[str]:
        names = [path.name for path in folder.rglob("*") if path.is_file()]
        bad = [name for name in names if name.startswith(".") or name == "synthetic.safetensors"]
        return bad + [result["status"] for result in results() if result["status"] == "done"]

    return found


@pytest.fixture(scope="session")
def kept(tmp_path_factory) -> Path:
    """Folder of the runs that many tests start from."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def finished(condense, folder, kept) -> Path:
    """The folder of a finished run without an evaluation."""
    if not (made := kept / "finished.made").exists():
        shutil.rmtree(kept / "finished", ignore_errors=True)  # of an attempt that failed
        assert condense("evaluate=false", f"hydra.run.dir={kept / 'finished'}").code == 0
        made.touch()
    return shutil.copytree(kept / "finished", folder / "run")


@pytest.fixture
def signalled(monkeypatch) -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which every run receives SIGTERM in its second step."""
    from dcond.run.loop import Run

    advance = Run._advance

    def advance_signalled(self: Run, state: object) -> object:
        if self.step == 1:
            self.stop._handle(signal.SIGTERM, None)
        return advance(self, state)

    @contextmanager
    def context() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(Run, "_advance", advance_signalled)
            yield

    return context


@pytest.fixture
def stopped(condense, signalled, folder, kept) -> Path:
    """The folder of a run stopped by SIGTERM after the second of three steps."""
    if not (made := kept / "stopped.made").exists():
        shutil.rmtree(kept / "stopped", ignore_errors=True)
        with signalled():
            done = condense("evaluate=false", f"hydra.run.dir={kept / 'stopped'}")
        assert done.code == 128 + signal.SIGTERM
        assert "interrupted by SIGTERM" in done.err
        assert "Traceback" not in done.err
        made.touch()
    return shutil.copytree(kept / "stopped", folder / "run")


@pytest.fixture
def unpack(folder) -> Callable[[str], list[Path]]:
    """Write the titled code blocks of a documentation page into the current folder."""
    block = re.compile(
        r'^```\w+ title="(?P<title>[^"]+)"\n(?P<content>.*?)^```$', re.MULTILINE | re.DOTALL
    )

    def write(page: str) -> list[Path]:
        written = []
        for found in block.finditer((Path(__file__).parents[2] / page).read_text(encoding="utf-8")):
            path = folder / found["title"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found["content"], encoding="utf-8")
            written.append(path)
        return written

    return write


@pytest.fixture
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of every digit, class-major, in [0, 1]."""
    data = load_digits()
    rows = np.concatenate([np.flatnonzero(data.target == label)[:2] for label in range(10)])
    return torch.tensor(data.images[rows, None] / 16, dtype=torch.float32), torch.tensor(
        data.target[rows]
    )


@pytest.fixture
def two_files(digits):
    """A set, and the same images with wrong labels."""
    images, labels = digits
    np.savez("good.npz", images=images, labels=labels)
    np.savez("bad.npz", images=images, labels=(labels + 1) % 10)


@pytest.fixture
def quick() -> tuple[str, ...]:
    """Overrides of an evaluation that takes seconds."""
    return ("dataset=digits", *SMALL_POOL, "evaluation.repeats=2")


@pytest.fixture
def evaluate(run_cli, folder, quick):
    """Evaluate; return how the command ended and its result."""

    def run(*arguments, epochs=2):
        done = run_cli(
            "evaluate", *quick, "hydra.run.dir=e", f"evaluation.epochs={epochs}", *arguments
        )
        file = folder / "e" / "result.json"
        return done, json.loads(file.read_text()) if file.is_file() else None

    return run

"""Messages go to stderr as long as somebody reads it; a terminal that has gone away ends nothing."""

import os
import subprocess
import sys
import tty
from pathlib import Path

import pytest
from rich.progress import Progress

import dcond
from dcond.log import LastingConsole

SOURCE = str(Path(dcond.__file__).parents[1])


def test_a_terminal_that_has_gone_away_ends_nothing(monkeypatch):
    terminal, theirs = os.openpty()
    tty.setraw(theirs)
    console = LastingConsole(stderr=True)
    with open(theirs, "w") as stderr, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stderr)
        assert console.is_terminal
        console.print("before")
        assert os.read(terminal, 100).strip() == b"before"
        with Progress(console=console) as bar:
            task = bar.add_task("x", total=2)
            os.close(terminal)
            bar.update(task, completed=1, refresh=True)
            console.print("after")
        sys.stderr.write("and what others write")
        sys.stderr.flush()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_streams_that_are_closed_from_the_start(closed, tmp_path):
    """What is opened next would take their place, and be written to by whoever means stderr."""
    program = "import sys; from dcond.cli import command\nsys.argv[1:] = ['list', 'methods']\ntry:\n    command()\n"
    program += f"finally:\n    print(open({str(tmp_path / 'x')!r}, 'w').fileno(), file=open('{tmp_path}/fd', 'w'))"
    shell = f'exec "$0" -c "$1" {closed}'
    done = subprocess.run(["sh", "-c", shell, sys.executable, program], env={"PYTHONPATH": SOURCE}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"hmdc" in done.stdout or ">&-" in closed.split()
    assert int((tmp_path / "fd").read_text()) > 2

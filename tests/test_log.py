"""Messages on stderr, also when the terminal is closed."""

import fcntl
import logging
import os
import re
import struct
import subprocess
import sys
import termios
import tty
from contextlib import suppress
from pathlib import Path

import pytest
from rich.progress import Progress
from rich.table import Table

import dcond
from dcond import log
from dcond.log import SafeConsole

SOURCE = str(Path(dcond.__file__).parents[1])


def test_closed_terminal_is_ignored(monkeypatch):
    terminal, theirs = os.openpty()
    tty.setraw(theirs)
    console = SafeConsole(stderr=True)
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
        sys.stderr.write("text of another writer")
        sys.stderr.flush()


LOGGING = """
import logging
from dcond.log import console_handler
logging.basicConfig(handlers=[console_handler()], format="%(message)s")
logging.warning("condensed set: %s/synthetic.safetensors [red]", "folder/" * 20)
"""


def test_long_path_is_not_wrapped_on_a_terminal():
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {"PYTHONPATH": SOURCE, "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen([sys.executable, "-c", LOGGING], stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the other side is closed
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    line = re.sub(r"\x1b\[[\d;]*m", "", shown.decode())
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d condensed set: (folder/){20}/synthetic.safetensors \[red\]\r\n", line
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_streams_closed_from_the_start(closed, tmp_path):
    """A file opened later must not take the descriptor of a standard stream."""
    program = "import sys; from dcond.cli.main import command\nsys.argv[1:] = ['list', 'methods']\n"
    program += "try:\n    command()\nfinally:\n"
    program += f"    descriptor = open({str(tmp_path / 'x')!r}, 'w').fileno()\n"
    program += f"    print(descriptor, file=open('{tmp_path}/fd', 'w'))"
    shell = f'exec "$0" -c "$1" {closed}'
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable, program],
        env={"PYTHONPATH": SOURCE},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"hmdc" in done.stdout or ">&-" in closed.split()
    assert int((tmp_path / "fd").read_text()) > 2


def test_a_count_logs_when_a_line_is_due(caplog, monkeypatch):
    clock = iter(float(second) for second in range(100))
    monkeypatch.setattr(log.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO):
        assert list(log.counted(16, "working", every_s=10)) == list(range(16))
    assert caplog.messages == ["working 2/16  eta 21 s", "working 12/16  eta 4 s"]


@pytest.mark.parametrize("columns", ["20", "40", "120"])
def test_no_number_of_a_table_is_cut(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    table = Table("network", min_width=64)
    for name in ("condensed", "random", "random, shrunken"):
        table.add_column(name, no_wrap=True)
    table.add_row("ConvNet", "91.9 ± 2.6", "71.9 ± 20.5", "73.5 ± 10.5")
    log.print_results(table, "a line")
    shown = capsys.readouterr().out
    for number in ("91.9 ± 2.6", "71.9 ± 20.5", "73.5 ± 10.5", "random, shrunken", "a line"):
        assert number in shown

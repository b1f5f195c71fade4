"""Terminals closed during a run that was started with nohup or setsid."""

import os
import select
import subprocess
import time

import pytest

from helpers.cutting import done, images

OVERRIDES = (
    "method=dm",
    "method.batch_real=8",
    "max_steps=150",
    "pool=convnet",
    "pool.networks.ConvNet.width=8",
)


def window(terminal: int, open_s: float) -> None:
    """Read the output of a terminal for some time, then close it."""
    end = time.monotonic() + open_s
    while (left_s := end - time.monotonic()) > 0:
        ready, _, _ = select.select([terminal], [], [], left_s)
        try:
            if ready and not os.read(terminal, 4096):
                break
        except OSError:  # the other side is closed
            break
    os.close(terminal)


@pytest.mark.slow
def test_a_terminal_that_goes_away(whole, command, tmp_path, rng, kills, tally):
    """The terminal is closed at a random time, without SIGHUP, as with ``nohup`` or ``setsid``."""
    reference, found = whole(*OVERRIDES), []
    for number in range(kills):
        run = tmp_path / f"run{number}"
        ours, theirs = os.openpty()
        streams = {"stdin": subprocess.DEVNULL, "stdout": theirs, "stderr": theirs}
        process = command.condense(run, *OVERRIDES, start_new_session=True, **streams)
        os.close(theirs)
        window(ours, rng.uniform(0, reference.life_s))
        code = command.ended(process).code
        if code != 0 or not done(run) or images(run) != reference.images:
            found.append(f"ended with {code}")
    tally("the terminal goes away", "dm with its evaluation", kills, found)

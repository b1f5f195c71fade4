"""Terminals that are closed under a run that was told to outlive them."""

import os
import select
import subprocess
import time

import pytest

from helpers.cutting import done, images

WORDS = (
    "method=dm",
    "method.batch_real=8",
    "max_steps=150",
    "pool=convnet",
    "pool.networks.ConvNet.width=8",
)


def window(terminal: int, open_s: float) -> None:
    """Show what a terminal is sent, and close it."""
    end = time.monotonic() + open_s
    while (left_s := end - time.monotonic()) > 0:
        ready, _, _ = select.select([terminal], [], [], left_s)
        try:
            if ready and not os.read(terminal, 4096):
                break
        except OSError:  # nobody has the other side any more
            break
    os.close(terminal)


@pytest.mark.slow
def test_a_terminal_that_goes_away(whole, command, tmp_path, rng, kills, tally):
    """At a moment between the start and the end; no SIGHUP comes, as for what ``nohup`` or ``setsid`` started."""
    reference, found = whole(*WORDS), []
    for number in range(kills):
        run = tmp_path / f"run{number}"
        ours, theirs = os.openpty()
        streams = {"stdin": subprocess.DEVNULL, "stdout": theirs, "stderr": theirs}
        process = command.condense(run, *WORDS, start_new_session=True, **streams)
        os.close(theirs)
        window(ours, rng.uniform(0, reference.life_s))
        code = command.ended(process).code
        if code != 0 or not done(run) or images(run) != reference.images:
            found.append(f"ended with {code}")
    tally("the terminal goes away", "dm with its evaluation", kills, found)

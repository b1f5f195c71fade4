"""Two processes in one folder, and a process with too little memory."""

import signal
import time

import pytest

from dcond.run import checkpoint

OVERRIDES = ("method=dm", "method.batch_real=8", "max_steps=20", "evaluate=false")
LONGER = (
    *OVERRIDES,
    "max_steps=300",
)  # long enough for both processes to start
REFUSED = "in use by process"  # reported only while the other process runs
NEVER = "in no try did the two processes overlap"
# The limit counts from the memory mapped by torch, which differs between machines.
LIMITED = """
import resource, sys, torch, hydra, sklearn.datasets, torchvision
from dcond.cli.main import main
pages = int(open("/proc/self/statm").read().split()[0])
size = pages * resource.getpagesize() + int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (size, size))
sys.exit(main())
"""


def met(both) -> bool:
    """Return whether one of two processes found the other running."""
    return any(REFUSED in ended.last for ended in both)


def killed_at_the_first_checkpoint(process, run):
    """Kill a run after its first checkpoint."""
    while not (run / checkpoint.NAME).exists() and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err


@pytest.mark.slow
def test_two_runs_started_in_one_folder_at_once(whole, command, tmp_path, kills, tally):
    reference, found, overlaps = whole(*OVERRIDES), [], 0
    for number in range(kills):
        run = tmp_path / f"run{number}"
        both = [
            command.ended(process)
            for process in [command.condense(run, *OVERRIDES) for _ in range(2)]
        ]
        first, second = sorted(both, key=lambda ended: ended.code)
        overlaps += met(both)
        refused = (REFUSED, "holds a finished run")
        if (first.code, second.code) != (0, 1) or not any(
            message in second.last for message in refused
        ):
            found.append(f"{first} {second}")
        found += reference.problems_at_the_end(run)
    tally("two runs in one folder", "started at once", kills, found + ([] if overlaps else [NEVER]))


@pytest.mark.slow
def test_two_resume_one_run_at_once(whole, command, tmp_path, kills, tally):
    reference, found, overlaps = whole(*LONGER), [], 0
    for number in range(kills):
        run = tmp_path / f"run{number}"
        killed_at_the_first_checkpoint(command.condense(run, *LONGER), run)
        arguments = reference.next_arguments(run)
        both = [command.ended(process) for process in [command.start(*arguments) for _ in range(2)]]
        overlaps += met(both)
        if not {0, 1} >= {ended.code for ended in both} or any(
            "Traceback" in ended.err for ended in both
        ):
            found.append(str(both))
        found += reference.problems_at_the_end(run)
    tally("two runs in one folder", "resumed at once", kills, found + ([] if overlaps else [NEVER]))


@pytest.mark.slow
def test_a_limit_of_memory_names_what_bounds_it(command, tmp_path, rng, kills, tally):
    arguments, found = (
        ("method=dm", "model.width=128", "method.batch_real=20000", "engine.chunk=200000"),
        [],
    )
    way_out = (
        "Start again with a smaller engine.chunk (now 200000), method.batch_real (now 20000), "
    )
    for number in range(kills):
        spare, run = rng.randrange(2**28, 2**30), tmp_path / f"run{number}"
        ended = command.ended(
            command.condense(run, *arguments, program=("-c", LIMITED, str(spare)))
        )
        told = ended.last.startswith("dcond: out of memory (") and way_out in ended.last
        if ended.code != 1 or not told or "Traceback" in ended.err:
            found.append(f"{spare} bytes: ended with {ended.code}: {ended.err[-2000:]}")
        found += [path.name for path in run.rglob("synthetic.safetensors")]
    tally("memory limit", "dm", kills, found)

"""Two runs in one folder, and too little memory, as processes."""

import signal

import pytest

WORDS = ("method=dm", "method.batch_real=8", "max_steps=20", "evaluate=false")
# What torch and its libraries map differs from machine to machine: the limit counts from there.
LIMITED = """
import resource, sys, torch, hydra, sklearn.datasets, torchvision
from dcond.cli import main
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (size, size))
sys.exit(main())
"""


@pytest.mark.slow
def test_two_runs_started_in_one_folder_at_once(whole, command, tmp_path, kills, tally):
    reference, found = whole(*WORDS), []
    for number in range(kills):
        run = tmp_path / f"run{number}"
        both = [command.ended(process) for process in [command.condense(run, *WORDS) for _ in range(2)]]
        first, second = sorted(both, key=lambda ended: ended.code)
        refused = ("in use by process", "holds a finished run")
        if (first.code, second.code) != (0, 1) or not any(words in second.last for words in refused):
            found.append(f"{first} {second}")
        found += reference.problems_at_the_end(run)
    tally("two runs in one folder", "started at once", kills, found)


@pytest.mark.slow
def test_two_resume_one_run_at_once(whole, command, tmp_path, rng, kills, tally):
    reference, found = whole(*WORDS), []
    for number in range(kills):
        run = tmp_path / f"run{number}"
        reference.cut(run, rng, signal.SIGKILL, in_loop=True)
        words = reference.next_words(run)
        both = [command.ended(process) for process in [command.start(*words) for _ in range(2)]]
        if not {0, 1} >= {ended.code for ended in both} or any("Traceback" in ended.err for ended in both):
            found.append(str(both))
        found += reference.problems_at_the_end(run)
    tally("two runs in one folder", "resumed at once", kills, found)


@pytest.mark.slow
def test_a_limit_of_memory_names_what_bounds_it(command, tmp_path, rng, kills, tally):
    words, found = ("method=dm", "model.width=128", "method.batch_real=20000", "engine.chunk=200000"), []
    way_out = "Start again with a smaller engine.chunk (now 200000), method.batch_real (now 20000), "
    for number in range(kills):
        spare, run = rng.randrange(2**28, 2**30), tmp_path / f"run{number}"
        ended = command.ended(command.condense(run, *words, program=("-c", LIMITED, str(spare))))
        told = ended.last.startswith("dcond: out of memory (") and way_out in ended.last
        if ended.code != 1 or not told or "Traceback" in ended.err:
            found.append(f"{spare} bytes: ended with {ended.code}: {ended.err[-2000:]}")
        found += [path.name for path in run.rglob("synthetic.safetensors")]
    tally("memory limit", "dm", kills, found)

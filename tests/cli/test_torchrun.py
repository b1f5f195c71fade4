"""``torchrun ... -m dcond``: one run in several processes by gloo, and the end of one of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import dcond
from dcond import artefact
from dcond.paths import conf_dir
from dcond.run import checkpoint

TINY = ("debug=tiny", "device=cpu", "model.width=8", "engine=exact", "threads=1")
ONE_NETWORK = (
    "pool=convnet",
    "pool.networks.ConvNet.width=8",
    "evaluation.epochs=2",
    "evaluation.repeats=3",
)
ALONE = {"datm", "lgm", "mtt"}  # refused: they do not divide their classes
TRAIN_FIRST = {"ncfm", "rded"}  # for minutes; ranks as threads are in tests/methods
METHODS = sorted(
    {path.stem for path in (conf_dir() / "method").glob("*.yaml")} - ALONE - TRAIN_FIRST
)
TAKING_STEPS = [
    name
    for name in METHODS
    if yaml.safe_load((conf_dir() / f"method/{name}.yaml").read_text()).get("steps")
]
FILES = [
    ".hydra",
    "README.md",
    "checkpoint.pt",
    "condense.log",
    "grid.png",
    "metrics.jsonl",
    "result.json",
    "run.lock",
    "synthetic.safetensors",
]
TOLERANCE = 5e-6  # of a pixel in [0, 1]


def arguments(method, run, *more):
    small = ["method.batch_real=8"] if method in TAKING_STEPS else []
    return ["condense", f"method={method}", *TINY, *small, f"hydra.run.dir={run}", *more]


def torchrun(count, *command) -> subprocess.Popen:
    """Start processes; ``--standalone`` finds a free port."""
    launcher = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={count}",
    )
    source = {"PYTHONPATH": str(Path(dcond.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*launcher, *map(str, command)], env={**os.environ, **source}, **pipes)


def ended(process, within=500):
    """Wait for the end and return stdout and stderr; fail if a process hangs."""
    try:
        return process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.terminate()
        raise AssertionError(process.communicate()) from None


def together(count, *commands):
    """Run commands one after another in the same processes."""
    process = torchrun(
        count, Path(__file__).parents[1] / "helpers" / "together.py", json.dumps(commands)
    )
    out, err = ended(process)
    assert process.returncode == 0, err
    return out, err


def images(run):
    return artefact.load(Path(run)).images


def moved(run, method, run_cli):
    """Return the largest change of a pixel since the start, of the image that changed least."""
    first = f"first/{run}"
    assert run_cli(*arguments(method, first, "evaluate=false", "max_steps=0")).code == 0
    return (images(run) - images(first)).abs().amax((1, 2, 3)).min()


def result(run):
    return json.loads((Path(run) / "result.json").read_text())


def test_run_of_two_processes(run_cli, folder):
    """The files and the table of a run, and the same images as with one process."""
    out, err = together(2, arguments("degm", "two", *ONE_NETWORK))
    assert err.count("degm on digits, ipc 1: 10 images, seed 0, cpu, 2 processes -> two\n") == 1
    assert out.count("average test accuracy") == out.count("-> two") == 1
    assert "Traceback" not in err
    assert sorted(path.name for path in (folder / "two").iterdir()) == FILES
    assert run_cli(*arguments("degm", "one", *ONE_NETWORK)).code == 0
    assert (images("one") - images("two")).abs().max() <= TOLERANCE
    assert moved("one", "degm", run_cli) > 100 * TOLERANCE  # so that the comparison is meaningful
    lines = [(folder / f"{run}/metrics.jsonl").read_text().splitlines() for run in ("one", "two")]
    assert len(lines[0]) == len(lines[1]) == 3
    one, two = result("one"), result("two")
    assert (one["cost"]["processes"], two["cost"]["processes"]) == (1, 2)
    assert one["config_sha256"] == two["config_sha256"]
    networks = [found["evaluation"]["networks"]["ConvNet"]["accuracies"] for found in (one, two)]
    assert networks[0] == pytest.approx(networks[1], abs=0.02)
    assert len(networks[1]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_method_gives_the_images_of_one_process(count, run_cli):
    together(count, *(arguments(name, f"{count}/{name}", "evaluate=false") for name in METHODS))
    for name in METHODS:
        assert run_cli(*arguments(name, f"alone/{name}", "evaluate=false")).code == 0
        assert (images(f"alone/{name}") - images(f"{count}/{name}")).abs().max() <= TOLERANCE, name
        assert (
            name not in TAKING_STEPS or moved(f"alone/{name}", name, run_cli) > 100 * TOLERANCE
        ), name


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(ALONE))
def test_a_method_of_one_process_is_refused_in_one_line(method):
    process = torchrun(2, "-m", "dcond", *arguments(method, "run"))
    _, err = ended(process)
    assert process.returncode == 1
    (line,) = own_lines(err)
    assert line.startswith(f"dcond: method={method} does not divide its classes among processes; ")
    assert result("run")["status"] == "failed"


LONG = ("max_steps=100000", "loop.checkpoint_every_s=0.2", "evaluate=false", "loop.record_every=1")


def begun(run, process, steps=3):
    """Wait until a run has taken some steps and has written a checkpoint."""
    file, end = Path(run) / "metrics.jsonl", time.monotonic() + 240
    while (
        not file.exists()
        or file.read_text().count("\n") < steps
        or checkpoint.load(Path(run)).step < 1
    ):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


def worker(process, rank) -> int:
    """Return the process id of a rank."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
                found = f"RANK={rank}" in entry.joinpath("environ").read_text().split("\0")
            except OSError:
                continue
            if parent == process.pid and found:
                return int(entry.name)
    raise AssertionError(f"no rank {rank}")


def own_lines(err):
    return [line for line in err.splitlines() if line.startswith("dcond: ")]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes through /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_killed_process_ends_the_run_and_keeps_the_checkpoint(rank, folder):
    process = torchrun(2, "-m", "dcond", *arguments("dsa", "run", *LONG))
    begun("run", process)
    os.kill(worker(process, rank), signal.SIGKILL)
    killed = time.monotonic()
    _, err = ended(process)
    assert process.returncode == 1
    assert time.monotonic() - killed < 60
    (line,) = own_lines(err)
    said = "another of the 2 processes ended without a reason: it was killed, or out of memory. "
    said += (
        "The last checkpoint stays; continue with resume=RUN_FOLDER, with any number of processes."
    )
    assert line == ("dcond: " if rank else "dcond: process 1 of 2: ") + said
    if rank:  # rank 0 writes the result
        assert (result("run")["status"], result("run")["error"]) == ("failed", said)
    assert checkpoint.load(folder / "run").step >= 1


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_torchrun_saves_a_checkpoint_of_the_last_step(signum, folder):
    process = torchrun(3, "-m", "dcond", *arguments("degm", "run", *LONG))
    begun("run", process)
    process.send_signal(signum)
    _, err = ended(process)
    assert process.returncode != 0
    assert f"interrupted by {signum.name}" in err
    assert own_lines(err) == []
    stopped = result("run")
    assert (stopped["status"], stopped["error"]) == ("interrupted", f"interrupted by {signum.name}")
    step = checkpoint.load(folder / "run").step
    assert step == stopped["cost"]["steps"]
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == step


@pytest.mark.slow
def test_stopped_run_of_one_process_continues_with_two(stopped, condense, folder):
    before = {file.name: file.read_bytes() for file in (stopped / ".hydra").iterdir()}
    together(2, ["condense", f"resume={stopped}"])
    assert condense("evaluate=false", "hydra.run.dir=whole").code == 0
    assert (images(stopped) - images("whole")).abs().max() <= TOLERANCE
    assert [result(stopped)["cost"][name] for name in ("steps", "processes")] == [3, 2]
    assert {file.name: file.read_bytes() for file in (stopped / ".hydra").iterdir()} == before


@pytest.mark.slow
def test_evaluation_in_several_processes(finished, run_cli):
    arguments = ("evaluate", f"synthetic={finished}", "device=cpu", *ONE_NETWORK, "baselines=false")
    together(2, [*arguments, "hydra.run.dir=two"])
    assert run_cli(*arguments, "hydra.run.dir=one").code == 0
    one, two = (
        result(run)["evaluation"]["networks"]["ConvNet"]["accuracies"] for run in ("one", "two")
    )
    assert one == pytest.approx(two, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["ipc=0"], "ipc=0 is out of range; allowed: whole numbers from 1."),
        (["method=dn"], "method='dn' is unknown; allowed: "),
        (
            ["-m", "seed=0,1"],
            "-m starts jobs of one process each; omit torchrun, or start one at a time without -m.",
        ),
        (
            ["resume=nowhere"],
            "nothing to resume: nowhere is not a folder; give that of an unfinished run.",
        ),
        (["method.lr=1e30", "method.pixel_box=free"], "loss is not finite at step 2 "),
        (
            ["device=cuda:7"],
            "device='cuda:7' is one device for 2 processes; device=cuda gives each its own.",
        ),
    ],
)
def test_error_is_reported_once(more, said):
    # A sweep has no folder of a single run.
    command = [w for w in arguments("dm", "run") if "-m" not in more or "hydra.run.dir" not in w]
    process = torchrun(2, "-m", "dcond", *command, *more)
    _, err = ended(process)
    assert process.returncode == 1
    (line,) = own_lines(err)
    assert line.startswith(f"dcond: {said}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "word"), [(["--help"], "dcond condense: make a"), (["--cfg", "job"], "record_every")]
)
def test_printing_flags_print_once(flags, word, folder):
    process = torchrun(2, "-m", "dcond", "condense", *flags)
    out, err = ended(process)
    assert process.returncode == 0, err
    assert out.count(word) == 1
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []

"""What befalls a run from outside: another one in its folder, a folder that vanishes, a moved
clock, no memory.
"""

import datetime
import fcntl
import json
import shutil
import time

import pytest
import torch

from dcond import artefact
from dcond.run import checkpoint, context, lock
from dcond.run.recorder import save_png


@pytest.fixture
def occupied(stopped):
    """The folder of a stopped run that another process is going on with."""
    with (stopped / lock.NAME).open("w") as file:
        file.write("process 4321 on elsewhere")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        yield stopped


@pytest.mark.parametrize(
    "arguments", [("hydra.run.dir=run", "ipc=2"), ("resume=run",)], ids=["new", "resume"]
)
def test_a_folder_in_use_is_refused_and_left_as_it_is(arguments, occupied, condense):
    def content():
        return {
            path: path.read_bytes()
            for path in occupied.rglob("*")
            if path.is_file() and path.suffix != ".log"
        }

    before = content()
    assert condense(*arguments).line == (
        f"{occupied} is in use by process 4321 on elsewhere; wait until that run ends, or choose another folder."
    )
    assert content() == before


def test_a_run_finished_by_another_process_in_the_meantime(stopped, run_cli, monkeypatch):
    """Between the first look at a folder and the lock on it, the run in it may have come to its
    end.
    """
    locked, done = lock.lock_folder, '{"status": "done"}'

    def late(folder):
        (folder / "result.json").write_text(done)
        return locked(folder)

    monkeypatch.setattr(context, "lock_folder", late)
    line = run_cli("condense", f"resume={stopped}").line
    assert (
        line
        == f"{stopped} holds a finished run, which is never overwritten; choose another folder."
    )
    assert (stopped / "result.json").read_text() == done


def test_a_folder_whose_log_cannot_be_written(condense, folder):
    (folder / "run" / "condense.log").mkdir(parents=True)
    line = condense("hydra.run.dir=run").line
    assert line.startswith("cannot write ")
    assert line.endswith(
        "condense.log: Is a directory. Free some space or choose another folder with hydra.run.dir=FOLDER."
    )


def at_step(monkeypatch, step, what):
    """Let something happen before a step is taken."""
    from dcond.run.loop import Run

    advance = Run._advance

    def disturbed(self, state):
        if self.step == step:
            what(self)
        return advance(self, state)

    monkeypatch.setattr(Run, "_advance", disturbed)


def test_a_folder_that_vanishes(condense, folder, monkeypatch):
    at_step(monkeypatch, 1, lambda run: shutil.rmtree(run.folder))
    done = condense("evaluate=false", "hydra.run.dir=run")
    assert done.code == 1
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert last.startswith(f"dcond: cannot write {folder / 'run' / 'checkpoint.pt'} at step 3: ")
    assert "No such file or directory" in last
    assert "there is none before it" in last


def test_a_folder_that_vanishes_at_the_end(condense, folder, monkeypatch):
    def gone(image, path):
        shutil.rmtree(path.parent)
        save_png(image, path)

    monkeypatch.setattr("dcond.run.condensation.save_png", gone)
    last = condense("evaluate=false", "hydra.run.dir=run").err.splitlines()[-1]
    assert (
        last == f"dcond: cannot write {folder / 'run'}: the folder has been removed. Start again."
    )


def test_memory_that_runs_out_names_the_settings_that_bound_it(
    condense, results, folder, monkeypatch
):
    at_step(monkeypatch, 2, lambda run: torch.empty(2**55))
    line = condense("hydra.run.dir=run").err.splitlines()[-1]
    assert line.startswith("dcond: out of memory (")
    assert "Start again with a smaller engine.chunk, method.batch_real (now 8), " in line
    assert line.endswith("or ipc.")
    assert results()[0]["status"] == "failed"
    assert checkpoint.load(folder / "run").step == 0
    assert not (folder / "run" / "synthetic.safetensors").exists()


@pytest.mark.parametrize(
    "message",
    [
        "MPS backend out of memory (18 GB)",
        "CUDA error: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_memory_of_a_device_that_runs_out_without_an_error_of_its_own(
    message, condense, monkeypatch
):
    def out(run):
        raise RuntimeError(message)

    at_step(monkeypatch, 1, out)
    assert f"dcond: out of memory ({message}" in condense().err.splitlines()[-1]


def test_memory_that_runs_out_in_an_evaluation(finished, run_cli, monkeypatch):
    def out(*_, **__):
        raise MemoryError

    monkeypatch.setattr("dcond.run.evaluation.Evaluator.evaluate", out)
    line = run_cli("evaluate", f"synthetic={finished}", "pool=convnet").line
    assert line.startswith(
        "out of memory (MemoryError). Start again with a smaller evaluation.test_batch (now 1000), "
        "evaluation.batch (now 256), "
    )
    assert line.endswith("or a pool of smaller networks.")


def test_an_error_that_only_looks_like_it_stays_what_it_is(condense, monkeypatch):
    def other(run):
        raise RuntimeError("expected scalar type Float")

    at_step(monkeypatch, 1, other)
    with pytest.raises(RuntimeError, match="expected scalar type Float"):
        condense()


def test_what_is_nobodys_fault_keeps_its_cause(condense, monkeypatch):
    def broken(run):
        raise RuntimeError("the method broke") from ValueError("for this")

    at_step(monkeypatch, 1, broken)
    with pytest.raises(RuntimeError) as error:
        condense()
    assert repr(error.value.__cause__) == "ValueError('for this')"


@pytest.mark.parametrize("hours", [-1, 1000])
def test_a_clock_that_moves_changes_no_figure(hours, condense, results, folder, monkeypatch):
    """Durations are taken from a clock that nobody sets."""
    now = time.time
    moved = []
    at_step(monkeypatch, 1, lambda run: moved.append(hours * 3600))
    monkeypatch.setattr(time, "time", lambda: now() + sum(moved))
    assert condense("hydra.run.dir=run", "tensorboard=true").code == 0
    assert moved
    (result,) = results()
    times = [value for key, value in result["cost"].items() if "_s" in key]
    times += [network["wall_s"] for network in result["evaluation"]["networks"].values()]
    records = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    times += [json.loads(line)["condense/wall_s"] for line in records]
    assert all(0 < value < 600 for value in times)


def test_a_clock_set_back_overwrites_no_folder(condense, folder, monkeypatch):
    """Folders are named by the time: a name that comes again is that of a finished run."""

    class Stopped(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr("hydra.core.utils.datetime", Stopped)
    assert condense("evaluate=false").code == 0
    (run,) = (folder / "outputs" / "condense" / "dm_digits_ipc1").iterdir()
    before = (run / "synthetic.safetensors").read_bytes()
    assert condense("evaluate=false", "seed=1").line == (
        f"{run} holds a finished run, which is never overwritten; choose another folder."
    )
    assert (run / "synthetic.safetensors").read_bytes() == before


def test_what_a_killed_run_left_half_written_is_cleared(stopped, run_cli):
    (stopped / ".checkpoint.pt.abcd1234.tmp").write_bytes(b"half of a checkpoint")
    (stopped / lock.NAME).write_text("process 4321 on elsewhere")
    with (stopped / "metrics.jsonl").open("ab") as file:
        file.write(b'\xff\x00{"step": 3, "conde')
    assert run_cli("condense", f"resume={stopped}").code == 0
    assert not [path for path in stopped.iterdir() if path.name.endswith(".tmp")]
    assert (stopped / lock.NAME).read_text() == ""
    records = (stopped / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == [1, 2, 3]
    artefact.load(stopped)


def test_images_too_small_for_a_network_are_refused_before_condensing(condense, tmp_path):
    """Not after hours of steps, by the evaluation."""
    done = condense("pool.networks.ConvNet.depth=5", "hydra.run.dir=run")
    assert "depth=5" in done.line
    assert json.loads((tmp_path / "run" / "result.json").read_text())["cost"]["steps"] is None
    assert not (tmp_path / "run" / "checkpoint.pt").exists()

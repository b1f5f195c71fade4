"""The loop as several ranks run it: every decision is taken by all of them alike, and rank 0 keeps
the run.
"""

import json
import math
import signal
import time

import pytest
import torch

from dcond.device import resolve_device, share_of_cores
from dcond.distributed import Ranks, use_group
from dcond.errors import ConfigError, DivergedError
from dcond.run import checkpoint
from dcond.run.loop import LoopSettings
from dcond.run.recorder import NullRecorder
from dcond.run.signals import Interrupted, Stop
from helpers.lockstep import endings, lockstep


@pytest.fixture
def as_rank(make_run, tmp_path):
    """Make the run of one rank: rank 0 records in the test's folder, the others nowhere."""

    def make(rank, method=None, **more):
        run = make_run(method, folder=tmp_path / f"rank{rank.rank}", **more)
        if not rank.first:
            run.recorder = NullRecorder()
        return run

    return make


@pytest.mark.parametrize("slow", [0, 1])
def test_time_is_up_for_all_ranks_at_once_whichever_is_slow(slow, as_rank, drift, tmp_path):
    naps = {step: (lambda _: time.sleep(0.02)) for step in range(1, 30)}

    def work(rank):
        run = as_rank(
            rank,
            drift(steps=30, at=naps if rank.rank == slow else {}),
            max_seconds=0.05,
            loop=LoopSettings(checkpoint_every_s=0.01),
        )
        run.condense()
        return run.step, run.wall_s

    first, second = lockstep(2, work)
    assert first == second
    assert first[0] <= 3
    assert checkpoint.load(tmp_path / "rank0").step == first[0]


@pytest.mark.parametrize("at", [0, 1])
def test_a_signal_to_one_rank_stops_all_after_the_same_step_with_one_checkpoint(
    at, as_rank, drift, tmp_path
):
    def work(rank):
        stop = Stop()
        signalled = {5: lambda _: stop._handle(signal.SIGTERM, None)} if rank.rank == at else {}
        as_rank(rank, drift(at=signalled), stop=stop).condense()

    ends = endings(2, work)
    assert [type(end) for end in ends] == [Interrupted, Interrupted]
    assert [end.signum for end in ends] == [signal.SIGTERM, signal.SIGTERM]
    assert checkpoint.load(tmp_path / "rank0").step == 5
    assert not (tmp_path / "rank1" / "checkpoint.pt").exists()


def test_a_signal_during_an_evaluation_keeps_the_step_before_it(as_rank, tmp_path):
    def work(rank):
        stop = Stop()
        heard = (
            (lambda *_: stop._handle(signal.SIGINT, None)) if rank.rank == 1 else (lambda *_: None)
        )
        as_rank(rank, stop=stop, loop=LoopSettings(evaluate_every=4), evaluate=heard).condense()

    assert [end.signum for end in endings(2, work)] == [signal.SIGINT, signal.SIGINT]
    assert checkpoint.load(tmp_path / "rank0").step == 4


def test_a_non_finite_value_on_one_rank_stops_all_before_saving(as_rank, drift, tmp_path):
    def work(rank):
        bad = {6: lambda _: torch.tensor(math.nan)} if rank.rank == 1 else {}
        as_rank(rank, drift(at=bad), loop=LoopSettings(record_every=3)).condense()

    ends = endings(2, work)
    assert [type(end) for end in ends] == [DivergedError] * 2
    assert {str(end).partition(" (")[0] for end in ends} == {"loss is not finite at step 6"}
    assert checkpoint.load(tmp_path / "rank0").step == 0


def test_the_losses_of_all_ranks_are_added_up_once(as_rank, tmp_path):
    lockstep(
        2,
        lambda rank: as_rank(
            rank, loop=LoopSettings(record_every=5, checkpoint_every_s=0)
        ).condense(),
    )
    last = json.loads((tmp_path / "rank0" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["condense/loss"] == pytest.approx(2 / 20)


def test_first_images_and_random_streams_become_those_of_rank_0(as_rank, tmp_path):
    def work(rank):
        run = as_rank(rank)
        with torch.no_grad():
            run.synthetic.images.add_(
                rank.rank
            )  # as if a network had been trained there to another end
        torch.rand(rank.rank, generator=run.rng.real)
        run.condense()
        return run.synthetic.images

    first, second = lockstep(2, work)
    assert torch.equal(first, second)
    assert first.max() < 1


# --- what a process computes on
# -----------------------------------------------------------------------------------


def test_cores_are_divided_among_the_processes_of_a_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it
    assert share_of_cores() == torch.get_num_threads()
    for local_count, share in ((2, 4), (3, 2), (16, 1)):
        with use_group(Ranks(0, 32, 0, local_count)):
            assert share_of_cores() == share
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # as the user did
    with use_group(Ranks(0, 2, 0, 2)):
        assert share_of_cores() == torch.get_num_threads()


def test_every_process_gets_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    chosen = []
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    for name in ("auto", "cuda"):
        with use_group(Ranks(3, 4, 1, 2)):  # two machines
            assert resolve_device(name) == torch.device("cuda:1")
    assert chosen == [1, 1]
    with use_group(Ranks(1, 4, 1, 4)):
        assert resolve_device("cpu") == torch.device("cpu")
        with pytest.raises(ConfigError) as error:
            resolve_device("auto")
    assert str(error.value) == (
        "4 processes on a machine with 2 GPU(s), but each needs its own; "
        "start 2 (torchrun --nproc-per-node=2), or use device=cpu."
    )


@pytest.mark.parametrize("name", ["cuda:1", "mps"])
def test_one_device_for_several_processes_is_refused(name):
    with use_group(Ranks(0, 2, 0, 2)), pytest.raises(ConfigError) as error:
        resolve_device(name)
    assert (
        str(error.value)
        == f"device='{name}' is one device for 2 processes; device=cuda gives each its own."
    )


def test_without_gpus_all_share_the_cpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with use_group(Ranks(1, 2, 1, 2)):
        assert resolve_device("auto") == torch.device("cpu")
        with pytest.raises(
            ConfigError, match="'cuda' is not available here; use device=auto or device=cpu"
        ):
            resolve_device("cuda")

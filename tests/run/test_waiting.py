"""A device that computes while the loop goes on: when it is waited for, and what a step then took."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from dcond.run.loop import LoopSettings


@pytest.fixture(params=["cuda:1", "mps"])
def on_a_device(request, make_run, monkeypatch):
    """A run of nothing, whose images say that they are on a device; and what is waited for."""
    waited, device = [], torch.device(request.param)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append(torch.device("mps")))
    monkeypatch.setattr("dcond.run.loop.seeded_layers", lambda *_: nullcontext())
    images = SimpleNamespace(device=device)
    nothing = SimpleNamespace(step=lambda *_: {}, steps=5)
    return make_run(
        nothing, synthetic=SimpleNamespace(images=images), loop=LoopSettings(record_every=2)
    ), waited


def test_only_the_runs_own_device_is_waited_for(on_a_device):
    run, waited = on_a_device
    for _ in range(5):
        run._advance(None)
    assert waited == [run.synthetic.images.device] * 3  # at every record, and at the end


def test_a_limit_of_time_is_compared_with_computed_steps(on_a_device):
    run, waited = on_a_device
    run.max_seconds = 60
    for _ in range(3):
        run._advance(None)
    assert len(waited) == 3


def test_a_step_took_its_share_of_the_time_between_two_waits(on_a_device, monkeypatch):
    """A device takes its work and returns; the step that waits has the time of all of them on its
    clock.
    """
    run, _ = on_a_device
    clock = iter([0, 1, 1, 10, 10, 11, 11, 20, 20, 26])
    monkeypatch.setattr("dcond.run.loop.time.perf_counter", lambda: float(next(clock)))
    for _ in range(5):
        run._advance(None)
    assert run.step_times == [5, 5, 5, 5, 6]
    assert run.step_s_median == 5
    assert run.wall_s == 26


def test_a_run_that_ends_before_the_first_wait_has_a_time_all_the_same(on_a_device):
    run, waited = on_a_device
    run._advance(None)
    assert waited == []
    assert run.step_s_median == run.wall_s > 0

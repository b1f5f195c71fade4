"""The faster of two ways, found within the device's memory."""

import time

import pytest
import torch

from dcond.device import fastest, seconds
from dcond.errors import DcondError

CPU = torch.device("cpu")


def test_what_does_not_fit_in_memory_is_tried_smaller():
    tried = []

    def step(at_once):
        tried.append(at_once)
        if at_once > limit:
            raise torch.OutOfMemoryError

    limit = 3
    assert fastest(10, step, CPU, "too large") in (1, 3)
    assert tried == [10, 5, 3, 3, 1, 1]
    limit = 0
    with pytest.raises(DcondError, match=r"^too large$"):
        fastest(4, step, CPU, "too large")


@pytest.fixture
def clock(monkeypatch):
    """Return a function that lets time pass; nothing else does."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


@pytest.mark.parametrize("slow", [1, 4])
def test_the_faster_way_is_taken(slow, clock):
    assert fastest(4, lambda at_once: clock(1 + (at_once == slow)), CPU, "") == 5 - slow


def test_the_first_call_warms_up(clock):
    naps = iter([5.0, 1.0, 1.0, 1.0, 1.0])
    assert seconds(lambda: clock(next(naps)), CPU) == 1

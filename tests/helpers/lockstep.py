"""Ranks as threads of one process, of which one runs at a time, from collective to collective.

What each computes is what a process would: global generators and caches are never used by two at
    once. A rank that
calls another collective than the others, or none, is an error in words instead of a run that hangs.
"""

import threading
from collections.abc import Callable
from typing import Any

import torch

from dcond.distributed import Ranks, use_group
from dcond.errors import LostError

COMBINE = {
    "sum": lambda given: given.sum(0),
    "max": lambda given: given.amax(0),
    "share": lambda given: given[0],
}


class _Rank(Ranks):
    def __init__(self, rank: int, count: int, stage: "_Stage"):
        super().__init__(rank, count, rank, count)
        self._stage, self.calls = stage, []

    def _combine(self, flat, how):
        number = len(self.calls)
        self.calls.append((how, flat.clone()))
        self._stage.next(self.rank)
        met = [rank.calls[number] for rank in self._stage.ranks if len(rank.calls) > number]
        if len(met) < self.count:
            raise LostError(f"rank {self.rank} waits in vain at collective {number}, a {how}")
        assert len({(kind, given.shape, given.dtype) for kind, given in met}) == 1, [
            call[0] for call in met
        ]
        flat.copy_(COMBINE[how](torch.stack([given for _, given in met])))


class _Stage:
    """The rank whose turn it is; ranks that have ended are skipped."""

    def __init__(self, count: int):
        self.ranks = [_Rank(rank, count, self) for rank in range(count)]
        self.alive = list(range(count))
        self.on, self.changed = 0, threading.Condition()

    def next(self, rank: int, *, ended: bool = False) -> None:
        """Pass the turn to the next rank, and wait for it again unless this rank has ended."""
        with self.changed:
            place = self.alive.index(rank)
            if ended:
                self.alive.remove(rank)
            if self.alive:
                self.on = self.alive[(place + (not ended)) % len(self.alive)]
            self.changed.notify_all()
            if not ended:
                self.changed.wait_for(lambda: self.on == rank)

    def play(self, rank: _Rank, work: Callable[[Ranks], Any], ends: list[Any]) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.on == rank.rank)
        try:
            with use_group(rank):
                ends[rank.rank] = work(rank)
        except BaseException as error:  # raised again by lockstep
            ends[rank.rank] = error
        finally:
            self.next(rank.rank, ended=True)


def endings(count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """Run ``work`` as each of ``count`` ranks; return the result or the exception of each."""
    stage, ends = _Stage(count), [None] * count
    threads = [threading.Thread(target=stage.play, args=(rank, work, ends)) for rank in stage.ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def lockstep(count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """Return the results of :func:`endings`; raise the first exception not due to another rank."""
    ends = endings(count, work)
    errors = sorted(
        (end for end in ends if isinstance(end, BaseException)),
        key=lambda e: isinstance(e, LostError),
    )
    if errors:
        raise errors[0]
    return ends

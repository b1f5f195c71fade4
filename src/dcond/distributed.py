"""Several processes as one run: which classes each computes, and what they exchange.

``torchrun`` starts N processes, called ranks. Each takes a share of the classes; images, random
streams and decisions are the same on all of them. A run of one process is the same code: its calls
below do nothing.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dcond.errors import ConfigError, LostError
from dcond.rng import Streams

# The others may wait for hours while one trains; a process that dies is noticed at once.
COLLECTIVE_TIMEOUT = timedelta(days=2)
ERROR_TIMEOUT = timedelta(seconds=2)  # for rank 0 to report why it failed

How = Literal["sum", "max", "share"]


class Ranks:
    """One process among ``count``; a single process is a group of one.

    Methods that end in an underscore work in place. All ranks must call the methods that
    communicate (all but :meth:`divide`, :meth:`own`, :meth:`range`, :meth:`classes`) in the same
    order.

    Args:
        rank: number of this process, from 0. Only rank 0 writes files and prints.
        count: number of processes.
        local_rank: number of this process on its machine.
        local_count: number of processes on this machine.
    """

    def __init__(self, rank: int = 0, count: int = 1, local_rank: int = 0, local_count: int = 1):
        self.rank, self.count = rank, count
        self.local_rank, self.local_count = local_rank, local_count
        self.first = rank == 0
        self._classes: int | None = None

    def divide(self, classes: int) -> None:
        """Give every rank its consecutive classes; their numbers differ by one at most.

        Raises:
            ConfigError: there are more ranks than classes.
        """
        if self.count > classes:
            raise ConfigError(
                f"{self.count} processes for {classes} classes: some would have none; "
                f"start at most {classes} (torchrun --nproc-per-node={classes})."
            )
        if self.count > 1:
            self._classes = classes

    def own(self, by_class: Tensor) -> Tensor:
        """Return this rank's part of a tensor (k, ...) over all classes."""
        return by_class[self.range()]

    def range(self) -> slice:
        """Return the numbers of this rank's classes; all before :meth:`divide`."""
        if self._classes is None:
            return slice(None)
        return slice(*(self._classes * rank // self.count for rank in (self.rank, self.rank + 1)))

    def classes(self, own: int) -> int:
        """Return the number of all classes, given the number of this rank's."""
        return own if self._classes is None else self._classes

    def gathered(self, own: Tensor) -> Tensor:
        """Return the rows of all classes, given this rank's, detached."""
        if self._classes is None:
            return own
        rows = own.new_zeros(self._classes, *own.shape[1:])
        rows[self.range()] = own.detach()
        self.sum_([rows])
        return rows

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all ranks, with the same bytes on each."""
        self._together(tensors, "sum")

    def share_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of rank 0."""
        self._together(tensors, "share")

    def share_streams_(self, rng: Streams) -> None:
        """Replace the states of all random streams by those of rank 0."""
        if self.count > 1:
            state = rng.state_dict()
            self.share_([*state.values()])
            rng.load_state_dict(state)

    def largest(self, *values: float) -> list[float]:
        """Return the maximum of each value over all ranks, so that timed decisions agree."""
        if self.count == 1:
            return [*values]
        found = torch.tensor(values, dtype=torch.float64)
        self._together([found], "max")
        return [*found.tolist()]

    def from_first(self, text: str) -> str:
        """Return the text that rank 0 passes."""
        if self.count == 1:
            return text
        content = torch.tensor([*text.encode()] if self.first else [], dtype=torch.uint8)
        size = torch.tensor([len(content)])
        self.share_([size])
        content = content if self.first else torch.empty(int(size), dtype=torch.uint8)
        if int(size) > 0:
            self.share_([content])
        return bytes(content.tolist()).decode()

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Let rank 0 run a block before the others: it downloads files that they then find."""
        if not self.first:
            self.largest(0)
        yield
        if self.first:
            self.largest(0)

    @torch.no_grad()
    def _together(self, tensors: Sequence[Tensor], how: How) -> None:
        """Combine all tensors of one type and device at once."""
        if self.count == 1:
            return
        groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for group in groups.values():
            flat = torch.cat([tensor.detach().flatten() for tensor in group])
            self._combine(flat, how)
            for tensor, part in zip(
                group, flat.split([tensor.numel() for tensor in group]), strict=True
            ):
                tensor.copy_(part.view_as(tensor))

    def _combine(self, flat: Tensor, how: How) -> None:
        """Replace a tensor by the sum or maximum over all ranks, or by that of rank 0."""
        raise NotImplementedError


class TorchRanks(Ranks):
    """The processes that torchrun started, in PyTorch's default process group: gloo and nccl.

    CPU tensors use gloo in any case, so that agreeing on a decision never waits for a GPU.
    """

    def __init__(self) -> None:
        from torch.distributed.distributed_c10d import PrefixStore  # not in every build of torch
        from torch.distributed.rendezvous import rendezvous

        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        super().__init__(*(int(os.environ[name]) for name in names))
        nccl = torch.cuda.is_available() and dist.is_nccl_available()
        store, _, _ = next(rendezvous("env://"))
        # A second group of this process must not read the entries of the first.
        self._store = PrefixStore(f"dcond/{next(_groups)}", store)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if nccl else "gloo",
            store=self._store,
            rank=self.rank,
            world_size=self.count,
            timeout=COLLECTIVE_TIMEOUT,
        )

    def close(self) -> None:
        """End the group once all processes have finished."""
        self.largest(0)
        dist.destroy_process_group()

    def report_end(self, reason: str) -> None:
        """Tell the other processes why this one ends."""
        self._store.set(f"ended/{self.rank}", reason)

    def rank0_has_reported(self) -> bool:
        """Wait a moment for rank 0's reason to end; return whether there is one."""
        try:
            self._store.wait(["ended/0"], ERROR_TIMEOUT)
        except RuntimeError:
            return False
        return True

    def _combine(self, flat: Tensor, how: How) -> None:
        """Replace a tensor by the sum or maximum over all ranks, or by that of rank 0.

        Raises:
            LostError: another process has ended; with its reason, if it reported one.
        """
        try:
            if how == "share":
                dist.broadcast(flat, 0)
            else:
                dist.all_reduce(flat, dist.ReduceOp.SUM if how == "sum" else dist.ReduceOp.MAX)
        except RuntimeError as error:
            raise LostError(self._lost()) from error

    def _lost(self) -> str:
        for rank in range(self.count):
            if rank != self.rank and self._store.check([f"ended/{rank}"]):
                reason = self._store.get(f"ended/{rank}").decode()
                return f"process {rank} of {self.count} ended: {reason}"
        return (
            f"another of the {self.count} processes ended without a reason: it was killed, or "
            "out of memory. The last checkpoint stays; continue with resume=RUN_FOLDER, with any "
            "number of processes."
        )


_groups = itertools.count()  # numbers the groups of this process
_current: ContextVar[Ranks] = ContextVar("ranks", default=Ranks())  # noqa: B039 - never changed


def current() -> Ranks:
    """Return the group this process belongs to."""
    return _current.get()


@contextmanager
def use_group(ranks: Ranks) -> Iterator[Ranks]:
    """Make a group the current one for the length of a block."""
    before = _current.set(ranks)
    try:
        yield ranks
    finally:
        _current.reset(before)


def run_on_rank0(
    work: Callable[[], None], changed: Sequence[nn.Module | Tensor], rng: Streams
) -> None:
    """Run ``work`` on rank 0; copy what it changed, and its random streams, to the other ranks.

    Training on every rank would give the same weights only with the same arithmetic to the last
    bit: not with other numbers of threads, nor on GPUs. The state of an optimiser stays on rank 0,
    which also writes the checkpoints.

    Args:
        work: trains networks, for example.
        changed: the networks and tensors that it changes in place.
        rng: the streams that it draws from.
    """
    ranks = current()
    if ranks.first:
        work()
    if ranks.count > 1:
        for part in changed:
            ranks.share_([part] if isinstance(part, Tensor) else [*part.state_dict().values()])
        ranks.share_streams_(rng)

"""Several processes as one run: whose classes are whose, and what the processes tell each other.

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

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dcond.errors import ConfigError, LostError
from dcond.rng import Streams

PATIENCE = timedelta(
    days=2
)  # the others may wait for hours while one trains; one that dies is seen at once
WORDS = timedelta(seconds=2)  # how long rank 0 may take to say why it failed


class Ranks:
    """One process among ``count``; by itself a group of one. What ends in an underscore works in place.

    What exchanges something, all but :meth:`divide` to :meth:`classes`, must be called by all ranks
    in the same order.

    Args:
        rank: which one, from 0. Rank 0 alone writes files and speaks.
        count: how many.
        local_rank: which one on this machine.
        local_count: how many there.
    """

    def __init__(self, rank: int = 0, count: int = 1, local_rank: int = 0, local_count: int = 1):
        self.rank, self.count, self.local_rank, self.local_count = (
            rank,
            count,
            local_rank,
            local_count,
        )
        self.first = rank == 0
        self._classes: int | None = None

    def divide(self, classes: int) -> None:
        """Give every rank its classes from here on: consecutive ones, and numbers that differ by one at most.

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
        """Return this rank's part of a tensor whose first axis are all classes."""
        return by_class[self.range()]

    def range(self) -> slice:
        """Return the numbers of this rank's classes; all of them where they were not divided."""
        if self._classes is None:
            return slice(None)
        return slice(*(self._classes * rank // self.count for rank in (self.rank, self.rank + 1)))

    def classes(self, own: int) -> int:
        """Return how many classes there are, of which ``own`` are this rank's."""
        return own if self._classes is None else self._classes

    def gathered(self, own: Tensor) -> Tensor:
        """Return the rows of all classes, given those of this rank's, without a graph."""
        if self._classes is None:
            return own
        rows = own.new_zeros(self._classes, *own.shape[1:])
        rows[self.range()] = own.detach()
        self.sum_([rows])
        return rows

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all ranks, the same bytes on each."""
        self._together(tensors, self._sum)

    def share_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of rank 0."""
        self._together(tensors, self._share)

    def share_streams_(self, rng: Streams) -> None:
        """Go on with rank 0's random numbers."""
        if self.count > 1:
            state = rng.state_dict()
            self.share_([*state.values()])
            rng.load_state_dict(state)

    def largest(self, *values: float) -> list[float]:
        """Return the largest of each value among all ranks: what depends on time is decided alike by this."""
        if self.count == 1:
            return [*values]
        found = torch.tensor(values, dtype=torch.float64)
        self._together([found], self._max)
        return [*found.tolist()]

    def from_first(self, text: str) -> str:
        """Return the text that rank 0 calls with."""
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
        """Let rank 0 do a block before the others begin it: it fetches files that they then find."""
        if not self.first:
            self.largest(0)
        yield
        if self.first:
            self.largest(0)

    @torch.no_grad()
    def _together(self, tensors: Sequence[Tensor], collective: Callable[[Tensor], None]) -> None:
        """Do a collective on all tensors of one type and device at once."""
        if self.count == 1:
            return
        alike: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            alike.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for group in alike.values():
            flat = torch.cat([tensor.detach().flatten() for tensor in group])
            collective(flat)
            for tensor, part in zip(
                group, flat.split([tensor.numel() for tensor in group]), strict=True
            ):
                tensor.copy_(part.view_as(tensor))

    def _sum(self, flat: Tensor) -> None:
        raise NotImplementedError

    def _max(self, flat: Tensor) -> None:
        raise NotImplementedError

    def _share(self, flat: Tensor) -> None:
        raise NotImplementedError


class TorchRanks(Ranks):
    """The processes that torchrun started, joined by PyTorch's default process group: gloo, on CUDA also nccl.

    What is on the CPU goes by gloo on either device, so that agreeing on something never waits for
    a GPU.
    """

    def __init__(self) -> None:
        from torch.distributed.distributed_c10d import PrefixStore  # not in every build of torch
        from torch.distributed.rendezvous import rendezvous

        rank, count, *local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", *_LOCAL))
        super().__init__(rank, count, *local)
        nccl = torch.cuda.is_available() and dist.is_nccl_available()
        store, _, _ = next(rendezvous("env://"))
        self._store = PrefixStore(
            f"dcond/{next(_groups)}", store
        )  # a second group must not read the first's
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if nccl else "gloo",
            store=self._store,
            rank=rank,
            world_size=count,
            timeout=PATIENCE,
        )

    def close(self) -> None:
        """End the group, when all have come to their end."""
        self.largest(0)
        dist.destroy_process_group()

    def say(self, words: str) -> None:
        """Leave the reason why this process ends, for the others."""
        self._store.set(f"ended/{self.rank}", words)

    def first_has_spoken(self) -> bool:
        """Wait a little for the reason why rank 0 ends, and tell whether there is one."""
        try:
            self._store.wait(["ended/0"], WORDS)
        except RuntimeError:
            return False
        return True

    def _sum(self, flat: Tensor) -> None:
        self._heard(lambda: dist.all_reduce(flat))

    def _max(self, flat: Tensor) -> None:
        self._heard(lambda: dist.all_reduce(flat, op=dist.ReduceOp.MAX))

    def _share(self, flat: Tensor) -> None:
        self._heard(lambda: dist.broadcast(flat, 0))

    def _heard(self, collective: Callable[[], object]) -> None:
        """Do a collective.

        Raises:
            LostError: another process is gone; its own words where it left any.
        """
        try:
            collective()
        except RuntimeError as error:
            raise LostError(self._lost()) from error

    def _lost(self) -> str:
        for rank in range(self.count):
            if rank != self.rank and self._store.check([f"ended/{rank}"]):
                words = self._store.get(f"ended/{rank}").decode()
                return f"process {rank} of {self.count} ended: {words}"
        return (
            f"another of the {self.count} processes died without a word, as when it is killed or out of memory. "
            "The last checkpoint stays; go on with resume=RUN_FOLDER, with any number of processes."
        )


_LOCAL = ("LOCAL_RANK", "LOCAL_WORLD_SIZE")
_groups = itertools.count()  # that this process has joined
_current: ContextVar[Ranks] = ContextVar("ranks", default=Ranks())  # noqa: B039 - undivided, it is never changed


def current() -> Ranks:
    """Return the group this process belongs to."""
    return _current.get()


@contextmanager
def use_group(ranks: Ranks) -> Iterator[Ranks]:
    """Belong to a group for the length of a block."""
    before = _current.set(ranks)
    try:
        yield ranks
    finally:
        _current.reset(before)


def run_on_rank0(
    work: Callable[[], None], moved: Sequence[nn.Module | Tensor], rng: Streams
) -> None:
    """Let rank 0 work; the others take over what was moved, such as weights and statistics, and its random numbers.

    Training everywhere would come to the same only as long as the arithmetic does, to the last bit:
    not with other numbers of threads, nor on GPUs. An optimiser's state stays with rank 0, which
    also writes the checkpoints.
    """
    ranks = current()
    if ranks.first:
        work()
    if ranks.count > 1:
        for part in moved:
            ranks.share_([part] if isinstance(part, Tensor) else [*part.state_dict().values()])
        ranks.share_streams_(rng)

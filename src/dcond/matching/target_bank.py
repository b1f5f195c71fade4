"""A bank of real targets: what real images give in a step, computed once and used in turn.

Methods whose networks are random and never trained match the synthetic images against features or
gradients of real images that do not depend on the synthetic ones, so these can be used again.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dcond.device import free_bytes, free_host_bytes, to_device
from dcond.matching.lazy_batch import RealBatch
from dcond.rng import Streams, derive, seeded_layers

SHARE = 0.5  # of the free memory of the device, and of the host, that a bank may fill


class TargetBank:
    """The real targets of a run: new ones in every step, or those of ``count`` steps in turn.

    Step t uses target j = t mod ``count``. Network, real batch and augmentation of target j come
    from random streams of its own: they are the same at every visit, and only the synthetic side of
    the step is computed again. Targets are kept on the device, or in host memory if the device is
    full; if both are full, they are computed at every visit. No number depends on that.

    Args:
        count: number of targets; None for new ones in every step.
        rng: the streams of the run.

    Example:
        >>> bank = TargetBank(300, rng)
        >>> streams = bank.next_step()
        >>> batch = real_by_class(real, 128, streams.real)
        >>> target = bank.get(batch, lambda: [network.embed(batch.tensor()[0])])
    """

    def __init__(self, count: int | None, rng: Streams):
        self.count = count
        self._rng = rng
        self._begun = 0  # steps
        self._kept: dict[tuple[int, int, int], list[tuple[Tensor, torch.dtype]]] = {}
        self._room: dict[torch.device, float] = {}  # bytes left in each place

    def computed(self, steps: int) -> int:
        """Return in how many of the first ``steps`` steps real images pass, if all are kept."""
        return steps if self.count is None else min(steps, self.count)

    def next_step(self) -> Streams:
        """Begin a step and return its random streams: those of its target, or of the run.

        ``synthetic`` is the run's own in both cases.
        """
        self._begun += 1
        return self.streams(self._begun - 1)

    def streams(self, step: int) -> Streams:
        """Return the streams that a step (from 0) begins with."""
        if self.count is None:
            return self._rng
        streams = Streams(derive(self._rng.seed, f"target/{step % self.count}"))
        streams.synthetic = self._rng.synthetic
        return streams

    def get(
        self, batch: RealBatch, make: Callable[[], list[Tensor]], dtype: torch.dtype | None = None
    ) -> list[Tensor]:
        """Return this step's target for the classes of a batch: kept, or made now.

        Args:
            batch: real images of some or all classes; not made if the target is kept.
            make: computes the target.
            dtype: in which it is kept, None for its own. It is returned in its own, but rounded to
                this one at every visit, also the first.
        """
        if self.count is None:
            return make()
        target = (self._begun - 1) % self.count
        key = (target, batch.first_class, len(batch))
        if key in self._kept:
            return [to_device(tensor, batch.device).to(own) for tensor, own in self._kept[key]]
        with seeded_layers(self._rng.seed, f"target/{target}", batch.device):
            made = make()
        rounded = [(tensor.to(dtype), tensor.dtype) for tensor in made]
        place = self._place(sum(tensor.nbytes for tensor, _ in rounded), batch.device)
        if place is not None:
            self._kept[key] = [(tensor.to(place), own) for tensor, own in rounded]
        return [tensor.to(own) for tensor, own in rounded]

    def _place(self, size: int, device: torch.device) -> torch.device | None:
        """Return the first place with room for ``size`` bytes, and take them; None if none has."""
        if not self._room:
            self._room[device] = _room(free_bytes(device))
            if device.type == "cuda":
                self._room[torch.device("cpu")] = _room(free_host_bytes())
        for place, left in self._room.items():
            if size <= left:
                self._room[place] -= size
                return place
        return None

    def state_dict(self) -> dict[str, int]:
        """Return the number of steps begun; the targets themselves are computed again."""
        return {} if self.count is None else {"begun": self._begun}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._begun = state.get("begun", 0)


def _room(free: int | None) -> float:
    return math.inf if free is None else SHARE * free

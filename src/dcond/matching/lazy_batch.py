"""The real side of a step: images of every class, made all together, or some classes at a time where they are many."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

WHOLE_BYTES = 2**29  # of float32: a batch of this size or less is made once, as one tensor
PART_BYTES = 2**26  # of one that is not: what is made at a time, one class at least

Make = Callable[
    [int, int], Tensor
]  # the images (g, b, c, h, w) of the classes from one up to another


@dataclass(frozen=True, eq=False)
class RealBatch:
    """A real batch (k, b, c, h, w), normalised, of which only those classes need exist that are used together.

    All that is drawn for it is drawn when it is described, for all classes: it holds the same
    images whether it is made at once or in parts, as often as it is used.

    Args:
        shape: (k, b, c, h, w).
        device: where the images are wanted.
        make: makes the images of some classes.
        at_once: how many classes are made at a time.
    """

    shape: tuple[int, ...]
    device: torch.device
    make: Make
    at_once: int

    @classmethod
    def made_by(cls, make: Make, shape: tuple[int, ...], device: torch.device) -> Self:
        """Return the batch that ``make`` makes: made now if it is small, else when it is used."""
        one = 4 * math.prod(shape[1:])
        if one * shape[0] > WHOLE_BYTES:
            return cls(shape, device, make, max(1, PART_BYTES // one))
        images = make(0, shape[0])
        return cls(shape, device, lambda begin, end: images[begin:end], shape[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        for part in self.parts():
            yield from part

    def tensor(self) -> Tensor:
        """Return all of it."""
        return self.make(0, len(self))

    def parts(self) -> Iterator[Tensor]:
        """Yield all of it, as many classes at a time as are made at once."""
        return (part.tensor() for part in self.split(self.at_once))

    def split(self, classes: int) -> list[Self]:
        """Return batches of so many classes each; the last may have fewer."""
        return [
            self._slice(begin, min(begin + classes, len(self)))
            for begin in range(0, len(self), classes)
        ]

    def first(self, count: int) -> Tensor:
        """Return the first ``count`` images of every class, (k, count, c, h, w)."""
        return torch.cat([part[:, :count] for part in self.parts()])

    def then(self, change: Callable[[Tensor, int, int], Tensor]) -> Self:
        """Return the batch changed by ``change(images, first class, class after the last)``, which keeps the shape."""
        return self.made_by(
            lambda begin, end: change(self.make(begin, end), begin, end), self.shape, self.device
        )

    def _slice(self, begin: int, end: int) -> Self:
        return replace(
            self,
            shape=(end - begin, *self.shape[1:]),
            make=lambda a, b: self.make(begin + a, begin + b),
        )


def whole(batch: Tensor | RealBatch) -> Tensor:
    """Return a batch as a tensor."""
    return batch.tensor() if isinstance(batch, RealBatch) else batch

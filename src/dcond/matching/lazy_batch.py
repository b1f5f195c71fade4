"""Real batches, made on use: as a whole, or, if they are large, a few classes at a time."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Self

import torch
from torch import Tensor

WHOLE_BYTES = 2**29  # maximum size, in float32, of a batch that is made once, as one tensor
PART_BYTES = 2**26  # maximum size of a part of a larger batch, but at least one class

# Returns the images (g, b, c, h, w) of the classes from the first index up to the second.
Make = Callable[[int, int], Tensor]


@dataclass(frozen=True, eq=False)
class RealBatch:
    """A real batch (k, b, c, h, w), normalised, of which only the classes in use need exist.

    All random numbers are drawn when the batch is defined, for all classes. So it has the same
    images whether it is made at once or in parts, and however often it is used.

    Args:
        shape: (k, b, c, h, w).
        device: device of the images.
        make: makes the images of a range of classes.
        at_once: number of classes that are made at a time.
        first_class: index of the first class in the batch that this one is a part of.
    """

    shape: tuple[int, ...]
    device: torch.device
    make: Make
    at_once: int
    first_class: int = 0

    @classmethod
    def made_by(cls, make: Make, shape: tuple[int, ...], device: torch.device) -> Self:
        """Return the batch that ``make`` makes: once if it is small, else whenever it is used."""
        one = 4 * math.prod(shape[1:])
        if one * shape[0] > WHOLE_BYTES:
            return cls(shape, device, make, max(1, PART_BYTES // one))
        images = cache(lambda: make(0, shape[0]))
        return cls(shape, device, lambda begin, end: images()[begin:end], shape[0])

    def __len__(self) -> int:
        return self.shape[0]

    def tensor(self) -> Tensor:
        """Return the whole batch."""
        return self.make(0, len(self))

    def parts(self) -> Iterator[Tensor]:
        """Yield the batch in parts of ``at_once`` classes."""
        return (part.tensor() for part in self.split(self.at_once))

    def split(self, classes: int) -> list[Self]:
        """Return batches of ``classes`` classes each; the last may have fewer."""
        return [
            self._slice(begin, min(begin + classes, len(self)))
            for begin in range(0, len(self), classes)
        ]

    def first(self, count: int) -> Tensor:
        """Return the first ``count`` images of every class, (k, count, c, h, w)."""
        return torch.cat([part[:, :count] for part in self.parts()])

    def then(self, change: Callable[[Tensor, int, int], Tensor]) -> Self:
        """Return the batch changed by ``change(images, begin, end)``, which keeps the shape."""
        changed = self.made_by(
            lambda begin, end: change(self.make(begin, end), begin, end), self.shape, self.device
        )
        return replace(changed, first_class=self.first_class)

    def _slice(self, begin: int, end: int) -> Self:
        return replace(
            self,
            shape=(end - begin, *self.shape[1:]),
            first_class=self.first_class + begin,
            make=lambda a, b: self.make(begin + a, begin + b),
        )


def whole(batch: Tensor | RealBatch) -> Tensor:
    """Return a batch as a tensor."""
    return batch.tensor() if isinstance(batch, RealBatch) else batch

"""CutMix: paste one box of another image into every image of a batch, and mix the two losses by area.

The loss of a mixed batch is weight * loss(y) + (1 - weight) * loss(y[partner]).

Paper: CutMix, arXiv 1905.04899, in the form that the IDC family trains with: one box and one
permutation per batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dcond.memory import to_device


@dataclass(frozen=True, eq=False)
class Mix:
    """One box for the whole batch, rows [top, bottom) and columns [left, right), and every image's partner."""

    partner: Tensor  # (n,), int64 on the CPU: a permutation
    size: tuple[int, int]
    top: int
    bottom: int
    left: int
    right: int

    @property
    def weight(self) -> float:
        """The share of each image that stays its own: lambda' = 1 - box area / (h w)."""
        return 1 - (self.bottom - self.top) * (self.right - self.left) / (
            self.size[0] * self.size[1]
        )


def draw(shape: torch.Size, probability: float, rng: torch.Generator) -> Mix | None:
    """Draw a mix for a batch of this shape (n, c, h, w), or None with 1 - ``probability``.

    The box has sides sqrt(1 - lambda) of the image's, lambda ~ Beta(1, 1) = U(0, 1), and a uniform
    centre; what sticks out is clipped. ``rng`` is on the CPU and the only source; a probability of
    0 draws nothing.
    """
    if probability <= 0 or torch.rand((), generator=rng).item() >= probability:
        return None
    n, _, h, w = shape
    area = torch.rand((), generator=rng).item()
    partner = torch.randperm(n, generator=rng)
    return Mix(partner, (h, w), *_interval(h, area, rng), *_interval(w, area, rng))


def apply(x: Tensor, mix: Mix) -> Tensor:
    """Mix a batch (n, c, h, w), normalised or not; differentiable in x, which is kept."""
    if len(x) != len(mix.partner) or x.shape[2:] != mix.size:
        raise ValueError(
            f"a mix of {len(mix.partner)} images of size {mix.size} does not fit {tuple(x.shape)}"
        )
    box = (..., slice(mix.top, mix.bottom), slice(mix.left, mix.right))
    mixed = x.clone()
    mixed[box] = x[box].index_select(0, to_device(mix.partner, x.device))
    return mixed


def nothing(n: int, size: tuple[int, int]) -> Mix:
    """Return the mix that leaves n images of this size (h, w) as they are."""
    return Mix(torch.arange(n), size, 0, 0, 0, 0)


def apply_each(x: Tensor, mixes: Sequence[Mix]) -> Tensor:
    """Mix the batches of r networks (r, n, c, h, w) in one go: each as :func:`apply` does with its own mix."""
    edges = to_device(
        torch.tensor([(mix.top, mix.bottom, mix.left, mix.right) for mix in mixes]), x.device
    )
    top, bottom, left, right = edges.T[..., None]  # (r, 1) each
    rows, cols = (torch.arange(side, device=x.device) for side in x.shape[3:])
    box = ((rows >= top) & (rows < bottom))[:, :, None] & ((cols >= left) & (cols < right))[
        :, None, :
    ]
    return torch.where(box[:, None, None], chosen(x, partners(mixes, x.device)), x)


def partners(mixes: Sequence[Mix], device: torch.device) -> Tensor:
    """Return every image's partner, (r, n)."""
    return to_device(torch.stack([mix.partner for mix in mixes]), device)


def chosen(x: Tensor, rows: Tensor) -> Tensor:
    """Return x[i, rows[i, j]] of x (r, n, ...) for rows (r, m): (r, m, ...)."""
    return x[torch.arange(len(x), device=x.device)[:, None], rows]


def _interval(side: int, area: float, rng: torch.Generator) -> tuple[int, int]:
    """Draw where the box, sqrt(area) of the side long, begins and ends: a uniform centre, clipped at the border."""
    centre = int(torch.randint(side, (1,), generator=rng))
    half = int(side * math.sqrt(area)) // 2
    return max(centre - half, 0), min(centre + half, side)

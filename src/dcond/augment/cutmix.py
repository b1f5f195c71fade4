"""CutMix: paste one box of another image into every image of a batch; mix the two losses by area.

The loss of a mixed batch is weight * loss(y) + (1 - weight) * loss(y[partner]).

Paper: CutMix, arXiv 1905.04899, in the form that the IDC family trains with: one box and one
permutation per batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dcond.device import to_device


@dataclass(frozen=True, eq=False)
class Mix:
    """One box for a batch, rows [top, bottom) and columns [left, right), and the images' partners."""

    partner: Tensor  # (n,), int64 on the CPU: a permutation
    size: tuple[int, int]  # height and width of the images
    top: int
    bottom: int
    left: int
    right: int

    @property
    def weight(self) -> float:
        """Weight of the images' own labels: lambda' = 1 - box area / (h w)."""
        area = (self.bottom - self.top) * (self.right - self.left)
        return 1 - area / (self.size[0] * self.size[1])


def draw(shape: torch.Size, probability: float, rng: torch.Generator) -> Mix | None:
    """Draw a mix for a batch (n, c, h, w), or None with probability 1 - ``probability``.

    The box has sides sqrt(1 - lambda) of the image's, lambda ~ Beta(1, 1) = U(0, 1), and a uniform
    centre; it is clipped at the border.

    Args:
        shape: of the batch.
        probability: of a mix; 0 draws no random number.
        rng: a generator on the CPU, the only source of randomness.
    """
    if probability <= 0 or torch.rand((), generator=rng).item() >= probability:
        return None
    n, _, h, w = shape
    area = torch.rand((), generator=rng).item()
    partner = torch.randperm(n, generator=rng)
    return Mix(partner, (h, w), *_interval(h, area, rng), *_interval(w, area, rng))


def apply(x: Tensor, mix: Mix) -> Tensor:
    """Return the mixed batch (n, c, h, w), normalised or not; differentiable in x."""
    if len(x) != len(mix.partner) or x.shape[2:] != mix.size:
        raise ValueError(
            f"a mix of {len(mix.partner)} images of size {mix.size} does not fit {tuple(x.shape)}"
        )
    box = (..., slice(mix.top, mix.bottom), slice(mix.left, mix.right))
    mixed = x.clone()
    mixed[box] = x[box].index_select(0, to_device(mix.partner, x.device))
    return mixed


def nothing(n: int, size: tuple[int, int]) -> Mix:
    """Return the mix that does not change n images of this size (h, w)."""
    return Mix(torch.arange(n), size, 0, 0, 0, 0)


def apply_each(x: Tensor, mixes: Sequence[Mix]) -> Tensor:
    """Mix the batches of r networks (r, n, c, h, w) at once, each as :func:`apply` by its mix."""
    device = x.device
    edges = torch.tensor([(mix.top, mix.bottom, mix.left, mix.right) for mix in mixes])
    top, bottom, left, right = to_device(edges, device).T[..., None]  # (r, 1) each
    rows, cols = (torch.arange(side, device=device) for side in x.shape[3:])
    in_rows, in_cols = (rows >= top) & (rows < bottom), (cols >= left) & (cols < right)
    box = in_rows[:, None, None, :, None] & in_cols[:, None, None, None, :]
    return torch.where(box, chosen(x, partners(mixes, device)), x)


def partners(mixes: Sequence[Mix], device: torch.device) -> Tensor:
    """Return every image's partner, (r, n)."""
    return to_device(torch.stack([mix.partner for mix in mixes]), device)


def chosen(x: Tensor, rows: Tensor) -> Tensor:
    """Return x[i, rows[i, j]] of x (r, n, ...) for rows (r, m): (r, m, ...)."""
    return x[torch.arange(len(x), device=x.device)[:, None], rows]


def _interval(side: int, area: float, rng: torch.Generator) -> tuple[int, int]:
    """Draw begin and end of a box of sqrt(area) of the side: a uniform centre, clipped."""
    centre = int(torch.randint(side, (1,), generator=rng))
    half = int(side * math.sqrt(area)) // 2
    return max(centre - half, 0), min(centre + half, side)

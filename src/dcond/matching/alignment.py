"""Mutual distillation of different networks: features in a common form, and their distance.

Spatial-semantic decomposition, layer mixing, and the mean squared difference of the results.

Source: HMDC (arXiv 2409.14538) and the authors' code.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcond.matching.mmd import full_precision
from dcond.types import Features

Axis = Literal["source", "target"]
Form = Literal["mean", "pairwise"]
Size = tuple[int, int]


class Alignment(nn.Module):
    """The learned parts of mutual distillation between K networks, and its loss.

    Every tap i of every network k has a linear map P_ki to the common width d. Every mixed network
    has logits M that mix its taps to those of another. The network with more taps is mixed; on a
    tie, the earlier one.

    form "mean": all networks are mixed to the taps of the network with the fewest, F'_k
    (n, L, 1 + s, d). L_MD = 2 / (K - 1) · Σ_k mean (F'_k - F̄')², which is the mean of
    (F'_i - F'_j)² over all pairs and entries. form "pairwise": each pair is mixed to its own
    smaller number of taps, by its own logits; L_MD is the mean over the pairs. For K = 2 both are
    the paper's. Initial values: PyTorch's for P, zeros for M.

    Args:
        widths: d_ki, the width of every tap of every network.
        size: height and width of the common grid, s = height · width positions.
        axis: see :func:`mixing_weights`.
        form: "mean" or "pairwise".
    """

    def __init__(
        self,
        widths: Sequence[Sequence[int]],
        size: Size,
        *,
        axis: Axis = "source",
        form: Form = "mean",
    ):
        super().__init__()
        common = min(min(taps) for taps in widths)
        self.size, self.axis, self.form = size, axis, form
        self.maps = nn.ModuleList(
            nn.ModuleList(nn.Linear(d, common) for d in taps) for taps in widths
        )
        self.links = links([len(taps) for taps in widths], form)
        shapes = [(len(widths[source]), len(widths[target])) for source, target in self.links]
        self.logits = nn.ParameterList(torch.zeros(shape) for shape in shapes)

    @classmethod
    def of(cls, taps: Sequence[Sequence[Features]], *, axis: Axis, form: Form) -> "Alignment":
        """Make an alignment for features like these, an example of each network's.

        Its width and grid are the smallest of all taps.
        """
        widths = [[tap.spatial.shape[1] for tap in network] for network in taps]
        sides = [tap.spatial.shape[2:] for network in taps for tap in network]
        size = (min(height for height, _ in sides), min(width for _, width in sides))
        return cls(widths, size, axis=axis, form=form)

    def forward(self, taps: Sequence[Sequence[Features]]) -> Tensor:
        """Return L_MD, a scalar in float32 or higher, of all networks' features of the images."""
        stacks = [full_precision(own) for own in self.stacks(taps)]
        with torch.autocast(stacks[0].device.type, enabled=False):
            return self.distance(stacks)

    def stacks(self, taps: Sequence[Sequence[Features]]) -> list[Tensor]:
        """Return F_k (n, L_k, 1 + s, d) of every network."""
        return [stack(own, maps, self.size) for own, maps in zip(taps, self.maps, strict=True)]  # type: ignore[arg-type]

    def distance(self, stacks: Sequence[Tensor]) -> Tensor:
        """Return L_MD of stacked features."""
        mixed = [
            mix(stacks[s], logits, self.axis)
            for (s, _), logits in zip(self.links, self.logits, strict=True)
        ]
        if self.form == "pairwise":
            targets = [stacks[target] for _, target in self.links]
            return torch.stack(
                [F.mse_loss(ours, theirs) for ours, theirs in zip(mixed, targets, strict=True)]
            ).mean()
        together = torch.stack([*mixed, stacks[self.links[0][1]]])  # (K, n, L, 1 + s, d)
        squares = (together - together.mean(0)).square()
        return 2 / (len(together) - 1) * squares.flatten(1).mean(1).sum()


def links(taps: Sequence[int], form: Form) -> list[tuple[int, int]]:
    """Return which network is mixed to which, (source, target), from their numbers of taps.

    The source has more taps than the target; on a tie it is the earlier one.
    """
    if form == "pairwise":
        return [
            (j, i) if taps[i] < taps[j] else (i, j) for i, j in combinations(range(len(taps)), 2)
        ]
    fewest = max(range(len(taps)), key=lambda k: (-taps[k], k))
    return [(k, fewest) for k in range(len(taps)) if k != fewest]


def stack(taps: Sequence[Features], maps: Sequence[nn.Module], size: Size) -> Tensor:
    """Decompose taps into a semantic vector and a grid of spatial vectors, all of one width.

    Args:
        taps: L taps, semantic (n, d_i) and spatial (n, d_i, h_i, w_i).
        maps: map of each tap from d_i to d, the same for both parts.
        size: grid to which the spatial parts are resized: bilinearly with align_corners True, as in
            the public code. If a side is 1, that would take the first pixel, so cell means are
            taken instead.

    Returns:
        (n, L, 1 + s, d): the semantic vector, then the s = height · width positions row by row.
    """
    rows = []
    for tap, linear in zip(taps, maps, strict=True):
        spatial = tap.spatial
        if spatial.shape[2:] != size:
            spatial = _resized(spatial, size)
        rows.append(linear(torch.cat([tap.semantic[:, None], spatial.flatten(2).mT], 1)))
    return torch.stack(rows, 1)


def _resized(spatial: Tensor, size: Size) -> Tensor:
    if 1 in size:
        return F.adaptive_avg_pool2d(spatial, size)
    return F.interpolate(spatial, size=size, mode="bilinear", align_corners=True)


def mix(features: Tensor, logits: Tensor, axis: Axis) -> Tensor:
    """Mix taps: F'[:, t] = Σ_s W_st F[:, s], (n, L_source, 1 + s, d) to (n, L_target, 1 + s, d)."""
    return torch.einsum("nspd,st->ntpd", features, mixing_weights(logits, axis))


def mixing_weights(logits: Tensor, axis: Axis) -> Tensor:
    """Return W = softmax(M), (L_source, L_target).

    Over "source" every mixed tap is a weighted mean. The public code's softmax is over "target":
    the weights of a source tap sum to 1, those of a mixed tap to L_source / L_target at the start.
    """
    return logits.softmax(0 if axis == "source" else 1)

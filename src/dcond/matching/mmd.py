"""Distances of real and synthetic features, one value per class: DM's means and M3D's MMD.

The squared maximum mean discrepancy (MMD) is the biased V-statistic, diagonals included, no root:
L = mean(K_XX) - 2 mean(K_XY) + mean(K_YY) with X = syn (k, a, d), Y = real (k, b, d).

Source: M3D (arXiv 2312.15927). Its code computes distances by matrix products and leaves a non-zero
diagonal; here features are centred first and the diagonal is 0. A distance is a small difference of
large products, so leave TF32 off (PyTorch's default).
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from dcond.errors import one_of

Kernel = Callable[[Tensor, Tensor], Tensor]
KernelName = Literal["gaussian", "linear", "poly2", "gauss_fixed"]

MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the bandwidth, one Gaussian each
FIXED_GAMMAS = (0.1, 1.0, 5.0)


class Blocks(NamedTuple):
    """The three blocks of a symmetric (a + b, a + b) matrix per class."""

    xx: Tensor  # (k, a, a)
    xy: Tensor  # (k, a, b)
    yy: Tensor  # (k, b, b), without a gradient

    def map(self, function: Callable[[Tensor], Tensor]) -> "Blocks":
        """Apply an elementwise function to all blocks."""
        return Blocks(function(self.xx), function(self.xy), function(self.yy))

    def statistic(self) -> Tensor:
        """Return mean(xx) - 2 mean(xy) + mean(yy), (k,)."""
        return self.xx.mean((1, 2)) - 2 * self.xy.mean((1, 2)) + self.yy.mean((1, 2))


def full_precision(x: Tensor) -> Tensor:
    """Return x in float32 if it is in half precision, else unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def mean_distance(syn: Tensor, real: Tensor) -> Tensor:
    """Return ‖mean_a syn - mean_b real‖² of every class, without a factor 1/d or 1/k.

    Args:
        syn: (k, a, d), synthetic features.
        real: (k, b, d), real features; detached here.

    Returns:
        (k,), in float32 or higher. Source: DM (arXiv 2110.04181, equation 4).
    """
    gap = full_precision(syn).mean(1) - full_precision(real.detach()).mean(1)  # (k, d)
    return gap.square().sum(1)


def mmd(syn: Tensor, real: Tensor, kernel: Kernel) -> Tensor:
    """Return the biased squared MMD of every class, in float32 or higher even under autocast.

    Args:
        syn: (k, a, d), synthetic features.
        real: (k, b, d), real features; detached here.
        kernel: one of :data:`KERNELS`, see :func:`get_kernel`.

    Returns:
        (k,). Classes do not interact, so chunks of classes give the same values.
    """
    with torch.autocast(syn.device.type, enabled=False):
        return kernel(full_precision(syn), full_precision(real.detach()))


def gaussian(syn: Tensor, real: Tensor) -> Tensor:
    """Return the MMD for K_ij = sum_q exp(-D_ij / (h m_q)), h a bandwidth per class.

    D_ij = ||z_i - z_j||^2 over Z = [X; Y], N = a + b, h = sum_ij D_ij / (N^2 - N) + 1e-12,
    without a gradient. The exponent has no factor 2; K_ii is the number of multipliers.
    """
    distances = squared_distances(syn, real)
    h = bandwidth(distances)[:, None, None]
    return distances.map(lambda d: _mixture(-d / h, [1 / m for m in MULTIPLIERS])).statistic()


linear = mean_distance  # the MMD for K_ij = <z_i, z_j> is DM's loss


def poly2(syn: Tensor, real: Tensor) -> Tensor:
    """Return the MMD for K_ij = (<z_i, z_j> + 1)^2, called "polinominal" in the public code."""
    return _products(syn, real).map(lambda p: (p + 1).square()).statistic()


def gauss_fixed(syn: Tensor, real: Tensor) -> Tensor:
    """Return the MMD for K_ij = sum_g exp(-g D_ij), g in {0.1, 1, 5}.

    The public code calls it "laplace"; its distances are squared.
    """
    return squared_distances(syn, real).map(lambda d: _mixture(-d, FIXED_GAMMAS)).statistic()


KERNELS: dict[str, Kernel] = {name: globals()[name] for name in get_args(KernelName)}


def get_kernel(name: str) -> Kernel:
    """Return the kernel called ``name``.

    Raises:
        ConfigError: the name is unknown.
    """
    one_of("kernel", name, KERNELS)
    return KERNELS[name]


def squared_distances(syn: Tensor, real: Tensor) -> Blocks:
    """Return squared Euclidean distances within and between the sets: >= 0, diagonal 0."""
    # Distances do not depend on the origin, but the rounding of the matrix products does.
    centre = real.mean(1, keepdim=True)
    x, y = syn - centre, real - centre
    xx, xy, yy = _products(x, y)
    norm_x, norm_y = x.square().sum(2), y.square().sum(2)
    return Blocks(
        _without_diagonal((norm_x[:, :, None] + norm_x[:, None, :] - 2 * xx).clamp_min(0)),
        (norm_x[:, :, None] + norm_y[:, None, :] - 2 * xy).clamp_min(0),
        _without_diagonal((norm_y[:, :, None] + norm_y[:, None, :] - 2 * yy).clamp_min(0)),
    )


def bandwidth(distances: Blocks) -> Tensor:
    """Return the mean over all ordered pairs of the joint set plus 1e-12, (k,), detached."""
    _, a, b = distances.xy.shape
    total = distances.xx.sum((1, 2)) + 2 * distances.xy.sum((1, 2)) + distances.yy.sum((1, 2))
    return total.detach() / ((a + b) ** 2 - (a + b)) + 1e-12


def _products(x: Tensor, y: Tensor) -> Blocks:
    return Blocks(x @ x.mT, x @ y.mT, y @ y.mT)


def _mixture(exponent: Tensor, rates: Sequence[float]) -> Tensor:
    """Return sum_r exp(r * exponent)."""
    return sum(((exponent * rate).exp() for rate in rates), torch.zeros_like(exponent))


def _without_diagonal(x: Tensor) -> Tensor:
    return x.masked_fill(torch.eye(x.shape[-1], dtype=torch.bool, device=x.device), 0)

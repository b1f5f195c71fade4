"""Squared maximum mean discrepancy (MMD) of real and synthetic features under M3D's kernels, one value per class.

Biased V-statistic, diagonals included, no root:
L = mean(K_XX) - 2 mean(K_XY) + mean(K_YY) with X = syn (k, a, d), Y = real (k, b, d).

Source: M3D (arXiv 2312.15927). Its code computes distances in the matrix-product form and leaves a
non-zero diagonal; here features are centred first and the diagonal is 0. The products are only as
exact as the device's float32: leave TF32 off (PyTorch's default), since a distance is a small
difference of large products.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from dcond.errors import ConfigError, did_you_mean
from dcond.matching.moments import full_precision, mean_distance

Kernel = Callable[[Tensor, Tensor], Tensor]

MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the bandwidth, one Gaussian each
FIXED_GAMMAS = (0.1, 1.0, 5.0)


class Blocks(NamedTuple):
    """The three parts of a symmetric (a + b, a + b) matrix per class."""

    xx: Tensor  # (k, a, a)
    xy: Tensor  # (k, a, b)
    yy: Tensor  # (k, b, b), without a gradient

    def map(self, function: Callable[[Tensor], Tensor]) -> "Blocks":
        """Apply an elementwise function to all parts."""
        return Blocks(function(self.xx), function(self.xy), function(self.yy))

    def statistic(self) -> Tensor:
        """Return mean(xx) - 2 mean(xy) + mean(yy), (k,)."""
        return self.xx.mean((1, 2)) - 2 * self.xy.mean((1, 2)) + self.yy.mean((1, 2))


def mmd(syn: Tensor, real: Tensor, kernel: Kernel) -> Tensor:
    """Return the biased squared MMD of every class, computed in float32 or higher even under autocast.

    Args:
        syn: (k, a, d), synthetic features.
        real: (k, b, d), real features; detached here.
        kernel: one of :data:`KERNELS`, see :func:`get_kernel`.

    Returns:
        (k,). Classes do not interact: chunks of classes give the same values.
    """
    with torch.autocast(syn.device.type, enabled=False):
        return kernel(full_precision(syn), full_precision(real.detach()))


def gaussian(syn: Tensor, real: Tensor, multipliers: Sequence[float] = MULTIPLIERS) -> Tensor:
    """MMD for K_ij = sum_q exp(-D_ij / (h m_q)), with a bandwidth h per class that carries no gradient.

    D_ij = ||z_i - z_j||^2 over Z = [X; Y], N = a + b, h = sum_ij D_ij / (N^2 - N) + 1e-12. There is
    no 2 in the exponent; K_ii = number of multipliers.
    """
    distances = squared_distances(syn, real)
    h = bandwidth(distances)[:, None, None]
    return distances.map(lambda d: _mixture(-d / h, [1 / m for m in multipliers])).statistic()


def linear(syn: Tensor, real: Tensor) -> Tensor:
    """MMD for K_ij = <z_i, z_j>: exactly the DM loss, and computed as such."""
    return mean_distance(syn, real)


def poly2(syn: Tensor, real: Tensor) -> Tensor:
    """MMD for K_ij = (<z_i, z_j> + 1)^2; the public code's "polinominal"."""
    return _products(syn, real).map(lambda p: (p + 1).square()).statistic()


def gauss_fixed(syn: Tensor, real: Tensor) -> Tensor:
    """MMD for K_ij = sum_g exp(-g D_ij), g in {0.1, 1, 5}; the public code's "laplace", on squared distances."""
    return squared_distances(syn, real).map(lambda d: _mixture(-d, FIXED_GAMMAS)).statistic()


KERNELS: MappingProxyType[str, Kernel] = MappingProxyType(
    {"gaussian": gaussian, "linear": linear, "poly2": poly2, "gauss_fixed": gauss_fixed}
)
PUBLISHED_NAMES = {"polinominal": "poly2", "polynomial": "poly2", "laplace": "gauss_fixed"}


def get_kernel(name: str) -> Kernel:
    """Return the kernel of this name.

    Raises:
        ConfigError: unknown name; the public code's names are answered with ours.
    """
    if name not in KERNELS:
        hint = did_you_mean(PUBLISHED_NAMES.get(name, name), KERNELS)
        raise ConfigError(
            f"method.kernel={name!r} is unknown; allowed: {', '.join(KERNELS)}.{hint}"
        )
    return KERNELS[name]


def squared_distances(syn: Tensor, real: Tensor) -> Blocks:
    """Return the squared Euclidean distances within and between the two sets; never negative, 0 on the diagonal."""
    # Distances do not depend on the origin, but the rounding of their matrix-product form does.
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
    """Return the mean squared distance over all ordered pairs of the joint set, (k,), detached, plus 1e-12."""
    _, a, b = distances.xy.shape
    total = distances.xx.sum((1, 2)) + 2 * distances.xy.sum((1, 2)) + distances.yy.sum((1, 2))
    return total.detach() / ((a + b) ** 2 - (a + b)) + 1e-12


def _products(x: Tensor, y: Tensor) -> Blocks:
    return Blocks(x @ x.mT, x @ y.mT, y @ y.mT)


def _mixture(exponent: Tensor, rates: Sequence[float]) -> Tensor:
    """Return sum_r exp(r * exponent)."""
    total = torch.zeros_like(exponent)
    for rate in rates:
        total = total + (exponent * rate).exp()
    return total


def _without_diagonal(x: Tensor) -> Tensor:
    return x.masked_fill(torch.eye(x.shape[-1], dtype=torch.bool, device=x.device), 0)

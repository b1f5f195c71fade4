"""Distances of moments of features, one value per class."""

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """Return x in float32 where it is half precision, and as it is otherwise."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def mean_distance(syn: Tensor, real: Tensor) -> Tensor:
    """Squared distance of class-mean features, || mean_a syn - mean_b real ||^2: no factor 1/d, none 1/k.

    Args:
        syn: (k, a, d), synthetic features.
        real: (k, b, d), real features; detached here.

    Returns:
        (k,), at least float32. Source: DM (arXiv 2110.04181, equation 4).
    """
    gap = full_precision(syn).mean(1) - full_precision(real.detach()).mean(1)  # (k, d)
    return gap.square().sum(1)

"""The gradient balance module: weights that give losses of different size an equal share.

Source: HMDC (arXiv 2409.14538) and the authors' code. Letters: k classes, j losses.
"""

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["sum", "max"]

START = 1e-6  # of the accumulator
EPS = 1e-6  # added to an image's peak gradient


def peaks(gradients: Tensor) -> Tensor:
    """Return max |∂L_j/∂S_c| of image gradients (j, k, n, c, h, w), as (k, j)."""
    return gradients.abs().flatten(2).amax(2).mT


def accumulate(accumulator: Tensor, new_peaks: Tensor, reduce: Reduction) -> Tensor:
    """Return A (k, j) updated by new peaks (k, j): their "sum" (the public code) or their "max"."""
    if reduce == "sum":
        return accumulator + new_peaks
    return torch.maximum(accumulator, new_peaks)


def weights(accumulator: Tensor) -> Tensor:
    """Return w_cj = min_i A_ci / A_cj, (k, j).

    The largest weight of a class is 1, and w_cj · A_cj is the same for all j.
    """
    return accumulator.amin(1, keepdim=True) / accumulator


def unit_peaks(gradient: Tensor) -> Tensor:
    """Return g / (max|g| + ε), maxima per image and channel, of a gradient (..., h, w)."""
    return gradient / (gradient.abs().amax((-2, -1), keepdim=True) + EPS)

"""The gradient balance module: losses of unlike size get an equal say in the images.

Source: HMDC (arXiv 2409.14538) and the authors' code. Letters: k classes, j losses.
"""

import torch
from torch import Tensor

from dcond.errors import one_of

REDUCTIONS = ("sum", "max")
START = 1e-6  # of the accumulator
EPS = 1e-6  # added to an image's peak gradient


def peaks(gradients: Tensor) -> Tensor:
    """Return max |∂L_j/∂S_c| of image gradients (j, k, n, c, h, w), as (k, j)."""
    return gradients.abs().flatten(2).amax(2).mT


def accumulate(accumulator: Tensor, found: Tensor, reduce: str) -> Tensor:
    """Return A (k, j) with new peaks (k, j) taken in: their sum (the public code) or the largest seen ("max")."""
    one_of("gbm_reduce", reduce, REDUCTIONS)
    return accumulator + found if reduce == "sum" else torch.maximum(accumulator, found)


def weights(accumulator: Tensor) -> Tensor:
    """Return w_cj = min_i A_ci / A_cj, (k, j): the largest of a class is 1, and w_cj · A_cj is the same for all j."""
    return accumulator.amin(1, keepdim=True) / accumulator


def unit_peaks(gradient: Tensor) -> Tensor:
    """Return g / (max|g| + ε) of a gradient (..., h, w): the largest entry of every image and channel is nearly 1."""
    return gradient / (gradient.abs().amax((-2, -1), keepdim=True) + EPS)

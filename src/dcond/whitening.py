"""ZCA whitening: pixel space is scaled to about unit variance in every direction, and rotated back.

Sets condensed in whitened space (MTT, DATM, KIP) can only be used with the transform that they were
made with.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

EPS = 0.1  # added to every eigenvalue by MTT's code
CHUNK = 1000  # images at a time, in float64


@dataclass(frozen=True, eq=False)
class Whitening:
    """x -> (x - mean) @ matrix on flattened images, and its inverse.

    Args:
        mean: (d,), d = c·h·w, pixel space.
        matrix: (d, d), symmetric.
        inverse: (d, d), its inverse.
    """

    mean: Tensor
    matrix: Tensor
    inverse: Tensor

    def apply(self, pixels: Tensor) -> Tensor:
        """Map (..., c, h, w) from [0, 1] to whitened space."""
        mean, matrix = self.mean.to(pixels), self.matrix.to(pixels)
        return ((pixels.flatten(-3) - mean) @ matrix).view(pixels.shape)

    def undo(self, images: Tensor) -> Tensor:
        """Map (..., c, h, w) from whitened to pixel space."""
        mean, inverse = self.mean.to(images), self.inverse.to(images)
        return (images.flatten(-3) @ inverse + mean).view(images.shape)

    def pixel_step(self, gradient: Tensor) -> Tensor:
        """Map ∂L/∂pixels (..., c, h, w) to the change of pixels by a whitened step ∂L/∂whitened.

        With w = (x - mean) @ W, a step -g_w on w is a step -g_x @ W⁻² on x, since g_w = g_x @ W⁻¹.
        """
        return self.gradient(self.gradient(gradient))

    def gradient(self, gradient: Tensor) -> Tensor:
        """Map ∂L/∂pixels (..., c, h, w) to ∂L/∂whitened: g_x @ W⁻¹."""
        return (gradient.flatten(-3) @ self.inverse.to(gradient)).view(gradient.shape)

    def pixel_gradient(self, gradient: Tensor) -> Tensor:
        """Map ∂L/∂whitened (..., c, h, w) to ∂L/∂pixels: g_w @ W."""
        return (gradient.flatten(-3) @ self.matrix.to(gradient)).view(gradient.shape)

    def to(self, device: torch.device) -> "Whitening":
        """Return the same whitening on another device."""
        return Whitening(self.mean.to(device), self.matrix.to(device), self.inverse.to(device))


def fit_whitening(images: Tensor, eps: float = EPS) -> Whitening:
    """Fit ZCA on uint8 images (n, c, h, w): matrix = U (S + eps)^(-1/2) Uᵀ.

    U S Uᵀ is the covariance with denominator n - 1. Returns float32 tensors on the device of the
    images; sums are computed in float64.

    Source: MTT's code (arXiv 2203.11932), which uses kornia's ``ZCAWhitening(eps=0.1)``.
    """
    home = images.device
    if home.type == "mps":  # which has no float64
        images = images.cpu()
    n, d = len(images), images[0].numel()
    total = torch.zeros(d, dtype=torch.float64, device=images.device)
    for part in images.split(CHUNK):
        total += part.flatten(1).double().sum(0) / 255
    mean = total / n
    covariance = torch.zeros(d, d, dtype=torch.float64, device=images.device)
    for part in images.split(CHUNK):
        centred = part.flatten(1).double() / 255 - mean
        covariance += centred.T @ centred
    values, vectors = torch.linalg.eigh(covariance / max(n - 1, 1))
    scale = (values.clamp_min(0) + eps).sqrt()
    matrix, inverse = ((vectors * by) @ vectors.T for by in (1 / scale, scale))
    return Whitening(mean.float(), matrix.float(), inverse.float()).to(home)


def restored(mean: Tensor, matrix: Tensor) -> Whitening:
    """Return the whitening of a stored mean (d,) and matrix (d, d)."""
    return Whitening(mean.float(), matrix.float(), torch.linalg.inv(matrix.double()).float())

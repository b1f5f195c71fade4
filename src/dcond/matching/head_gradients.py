"""The gradient of a linear classifier on given features, in closed form."""

import torch.nn.functional as F
from torch import Tensor


def head_gradient(z: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the gradient of the mean cross-entropy in W and b; differentiable in ``z``.

    With P = softmax(Z Wᵀ + b) and one-hot labels Y it is ∂L/∂W = (P - Y)ᵀ Z / n,
    ∂L/∂b = Σ_i (p_i - y_i) / n, so nothing is differentiated twice.

    Args:
        z: features (n, d).
        labels: int64 (n,).
        weight: W (k, d).
        bias: b (k,).

    Returns:
        (k, d + 1): ∂L/∂W, with ∂L/∂b as the last column.
    """
    residual = F.linear(z, weight, bias).softmax(1) - F.one_hot(labels, len(weight)).to(z.dtype)
    with_one = F.pad(z, (0, 1), value=1.0)
    return residual.T @ with_one / len(z)

"""Norms from plain operations, for second derivatives of several classes at once.

``vmap`` silently gets the second derivative of PyTorch's layer norm and of its instance norm with
weights wrong (2.11 and 2.15).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class PlainNorms(TorchFunctionMode):
    """A context in which layer norm and instance norm are computed by plain operations."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function, or the plain form of a norm."""
        chosen: Callable[..., Any] = PLAIN.get(func, func)
        return chosen(*args, **(kwargs or {}))


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return what :func:`torch.nn.functional.layer_norm` does."""
    return _affine(_standardised(x, range(-len(normalized_shape), 0), eps), weight, bias)


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return what :func:`torch.nn.functional.instance_norm` does, for x (n, c, ...).

    Without statistics of the input, or if running ones are to be updated, it is PyTorch's.
    """
    if running_mean is not None or not use_input_stats:
        return F.instance_norm(
            x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
        )
    shape = (-1, *(1 for _ in x.shape[2:]))
    weight, bias = (None if own is None else own.view(shape) for own in (weight, bias))
    return _affine(_standardised(x, range(2, x.ndim), eps), weight, bias)


PLAIN: dict[Callable[..., Any], Callable[..., Any]] = {
    F.layer_norm: layer_norm,
    F.instance_norm: instance_norm,
}


def _standardised(x: Tensor, dims: Sequence[int], eps: float) -> Tensor:
    dims = list(dims)
    centred = x - x.mean(dims, keepdim=True)
    return centred * (centred.square().mean(dims, keepdim=True) + eps).rsqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias

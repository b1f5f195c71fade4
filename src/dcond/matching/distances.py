"""Distances between two lists of gradients, one tensor per parameter: what gradient matching minimises.

Every function takes the synthetic and the real gradients in the same order and returns a scalar;
the real side carries no graph. "Rows" are output units: a convolution (out, in, kh, kw) has `out`
rows, a linear layer (out, in) likewise, a layer norm (c, h, w) has c. Where rows are compared,
one-dimensional tensors (biases, norms) do not take part.

The distances named conv_... are IDC's. They compare convolution weights alone; as in the public
code these are the tensors of more than two dimensions, so a transformer's position embedding is
among them. Paper: IDC, arXiv 2205.14959; the choice of tensors is that of its public code.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from dcond.errors import one_of, require

Gradients = Sequence[Tensor]
Distance = Callable[[Gradients, Gradients], Tensor]

DC_EPS = 1e-6  # added to the product of the norms; with it, equal rows are about 1e-7 apart, not 0


def rowwise(syn: Gradients, real: Gradients) -> Tensor:
    """Σ_layers Σ_rows [1 - ⟨s, r⟩ / (‖s‖ ‖r‖ + 1e-6)]: the distance of DC and DSA.

    Paper: DC, arXiv 2006.05929, equation 5. A zero real row is at distance 1 and gives no gradient.
    """
    return _total([(1 - _dc_cosine(s, r)).sum() for s, r in _rows(syn, real)], syn)


def rowwise_cosine(syn: Gradients, real: Gradients) -> Tensor:
    """Σ_layers Σ_rows [1 - cos(s, r)]: DEGM's baseline, as `rowwise` but for the constant in the denominator."""
    return _total([(1 - _cosine(s, r)).sum() for s, r in _rows(syn, real)], syn)


def rowwise_angle_and_magnitude(syn: Gradients, real: Gradients) -> Tensor:
    """Σ_layers Σ_rows [1 - cos(s, r) + ‖s - r‖]: DEGM's distance (its D), the norm not squared, coefficient 1.

    Paper: DEGM, arXiv 2208.00311. The norm's gradient at equal rows is 0.
    """
    return _total([(1 - _cosine(s, r) + _norm(s - r)).sum() for s, r in _rows(syn, real)], syn)


def squared(syn: Gradients, real: Gradients) -> Tensor:
    """Σ (s - r)² over all entries of all tensors, biases and norms included."""
    return _total([(s - r).square().sum() for s, r in zip(syn, real, strict=True)], syn)


def whole_cosine(syn: Gradients, real: Gradients) -> Tensor:
    """1 - ⟨s, r⟩ / (‖s‖ ‖r‖ + 1e-6) of all tensors as one vector, biases and norms included."""
    s, r = (torch.cat([tensor.flatten() for tensor in side])[None] for side in (syn, real))
    return (1 - _dc_cosine(s, r)).sum()


def conv_squared(syn: Gradients, real: Gradients) -> Tensor:
    """Σ (s - r)² over convolution weights: IDC's "mse", a plain sum."""
    return _total([(s - r).square().sum() for s, r in _convolutions(syn, real)], syn)


def conv_l1(syn: Gradients, real: Gradients) -> Tensor:
    """Σ |s - r| over convolution weights: IDC's "l1". The gradient at equal entries is 0."""
    return _total([(s - r).abs().sum() for s, r in _convolutions(syn, real)], syn)


def conv_l1_mean(syn: Gradients, real: Gradients) -> Tensor:
    """Σ_layers Σ_rows mean |s - r| over convolution weights: IDC's "l1_mean"."""
    return _total([(s - r).abs().mean(1).sum() for s, r in _convolutions(syn, real)], syn)


def conv_cosine(syn: Gradients, real: Gradients) -> Tensor:
    """Σ_layers Σ_rows [1 - ⟨s, r⟩ / (‖s‖ ‖r‖ + 1e-6)] over convolution weights: IDC's "cos"."""
    return _total([(1 - _dc_cosine(s, r)).sum() for s, r in _convolutions(syn, real)], syn)


DISTANCES: MappingProxyType[str, Distance] = MappingProxyType(
    {
        "rowwise": rowwise,
        "rowwise_cosine": rowwise_cosine,
        "rowwise_angle_and_magnitude": rowwise_angle_and_magnitude,
        "squared": squared,
        "whole_cosine": whole_cosine,
        "conv_squared": conv_squared,
        "conv_l1": conv_l1,
        "conv_l1_mean": conv_l1_mean,
        "conv_cosine": conv_cosine,
    }
)


def get_distance(name: str) -> Distance:
    """Return the distance of this name.

    Raises:
        ConfigError: unknown name.
    """
    one_of("method.distance", name, DISTANCES)
    return DISTANCES[name]


def check_network(name: str, network: nn.Module) -> None:
    """Refuse to match a network by a distance that none of its tensors takes part in: its loss would always be 0.

    Raises:
        ConfigError: the distance compares convolution weights and the network has none.
    """
    convolutional = any(p.ndim > 2 for p in network.parameters() if p.requires_grad)
    require(
        convolutional or not name.startswith("conv_"),
        f"method.distance={name} compares convolution weights, and the network {type(network).__name__} has none; use "
        f"a network with convolutions, such as model=convnet, or another distance, such as method.distance=rowwise.",
    )


def _rows(syn: Gradients, real: Gradients) -> list[tuple[Tensor, Tensor]]:
    """Return the tensors of two or more dimensions as (rows, entries)."""
    return [(s.flatten(1), r.flatten(1)) for s, r in zip(syn, real, strict=True) if s.ndim > 1]


def _convolutions(syn: Gradients, real: Gradients) -> list[tuple[Tensor, Tensor]]:
    """Return the tensors of more than two dimensions as (rows, entries)."""
    return [(s.flatten(1), r.flatten(1)) for s, r in zip(syn, real, strict=True) if s.ndim > 2]


def _dc_cosine(s: Tensor, r: Tensor) -> Tensor:
    cosine: Tensor = (s * r).sum(1) / (_norm(s) * _norm(r) + DC_EPS)
    return cosine


def _cosine(s: Tensor, r: Tensor) -> Tensor:
    cosine: Tensor = torch.nn.functional.cosine_similarity(s, r, dim=1)
    return cosine


def _norm(rows: Tensor) -> Tensor:
    """‖row‖ with gradient 0, not NaN, where a row is all zero."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norm


def _total(parts: list[Tensor], like: Gradients) -> Tensor:
    return torch.stack(parts).sum() if parts else like[0].new_zeros(())

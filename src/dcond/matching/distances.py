"""Distances between two lists of gradients, one tensor per parameter.

Every function takes the synthetic and the real gradients in the same order and returns a scalar;
the real gradients carry no graph. "Rows" are output units: a convolution (out, in, kh, kw) and a
linear layer (out, in) have `out` rows, a layer norm (c, h, w) has c. Distances of rows ignore
one-dimensional tensors (biases, norms).

The conv_... distances are IDC's (arXiv 2205.14959). They compare convolution weights only. As in
the public code these are all tensors of more than two dimensions, which includes a transformer's
position embedding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dcond.errors import one_of, require

Gradients = Sequence[Tensor]
Distance = Callable[[Gradients, Gradients], Tensor]
DistanceName = Literal[
    "rowwise",
    "rowwise_cosine",
    "rowwise_angle_and_magnitude",
    "squared",
    "whole_cosine",
    "conv_squared",
    "conv_l1",
    "conv_l1_mean",
    "conv_cosine",
]

DC_EPS = 1e-6  # added to the product of the norms; equal rows then have a distance of about 1e-7


def rowwise(syn: Gradients, real: Gradients) -> Tensor:
    """Σ_layers Σ_rows [1 - ⟨s, r⟩ / (‖s‖ ‖r‖ + 1e-6)]: the distance of DC and DSA.

    Paper: DC, arXiv 2006.05929, equation 5. A zero real row has distance 1 and no gradient.
    """
    return _total([(1 - _dc_cosine(s, r)).sum() for s, r in _rows(syn, real)], syn)


def rowwise_cosine(syn: Gradients, real: Gradients) -> Tensor:
    """Σ_layers Σ_rows [1 - cos(s, r)]: DEGM's baseline, `rowwise` without the added constant."""
    return _total([(1 - _cosine(s, r)).sum() for s, r in _rows(syn, real)], syn)


def rowwise_angle_and_magnitude(syn: Gradients, real: Gradients) -> Tensor:
    """Σ_layers Σ_rows [1 - cos(s, r) + ‖s - r‖]: DEGM's distance, the norm not squared.

    Paper: DEGM (its D), arXiv 2208.00311. The norm's gradient at equal rows is 0.
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


DISTANCES: dict[str, Distance] = {name: globals()[name] for name in get_args(DistanceName)}


def get_distance(name: str) -> Distance:
    """Return the distance called ``name``.

    Raises:
        ConfigError: the name is unknown.
    """
    one_of("distance", name, DISTANCES)
    return DISTANCES[name]


def check_network(name: str, network: nn.Module) -> None:
    """Check that a network has tensors that the distance compares; else the loss would be 0.

    Raises:
        ConfigError: the distance compares convolution weights and the network has none.
    """
    convolutional = any(p.ndim > 2 for p in network.parameters() if p.requires_grad)
    require(
        convolutional or not name.startswith("conv_"),
        f"method.distance={name} compares convolution weights, and the network "
        f"{type(network).__name__} has none; use a network with convolutions, such as "
        f"model=convnet, or another distance, such as method.distance=rowwise.",
    )


def _rows(syn: Gradients, real: Gradients, above: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Return the tensors of more than ``above`` dimensions as (rows, entries)."""
    pairs = zip(syn, real, strict=True)
    return [(s.flatten(1), r.flatten(1)) for s, r in pairs if s.ndim > above]


_convolutions = partial(_rows, above=2)


def _dc_cosine(s: Tensor, r: Tensor) -> Tensor:
    cosine: Tensor = (s * r).sum(1) / (_norm(s) * _norm(r) + DC_EPS)
    return cosine


def _cosine(s: Tensor, r: Tensor) -> Tensor:
    cosine: Tensor = torch.nn.functional.cosine_similarity(s, r, dim=1)
    return cosine


def _norm(rows: Tensor) -> Tensor:
    """Return ‖row‖; its gradient is 0, not NaN, where a row is all zero."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norm


def _total(parts: list[Tensor], like: Gradients) -> Tensor:
    return torch.stack(parts).sum() if parts else like[0].new_zeros(())

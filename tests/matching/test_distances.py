"""Gradient distances: closed forms, and what the authors' public code returns (tests/golden), value
and gradient.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from dcond.errors import ConfigError
from dcond.matching import distances
from dcond.models import MLP, ConvNet
from dcond.types import ImageSpec

GOLDEN = Path(__file__).parents[1] / "golden"
# (file, its name for the distance, ours)
CASES = [
    ("dc_distance", "ours", "rowwise"),
    ("dc_distance", "mse", "squared"),
    ("dc_distance", "cos", "whole_cosine"),
    ("degm_distance", "baseline", "rowwise_cosine"),
    ("degm_distance", "improved", "rowwise_angle_and_magnitude"),
    ("degm_distance", "mse", "squared"),
    ("idc_loss", "mse", "conv_squared"),
    ("idc_loss", "l1", "conv_l1"),
    ("idc_loss", "l1_mean", "conv_l1_mean"),
    ("idc_loss", "cos", "conv_cosine"),
]
CONVOLUTIONAL = [ours for file, _, ours in CASES if file == "idc_loss"]


def lists(golden, dtype):
    count = len(golden["names"])
    syn = [
        torch.tensor(golden[f"syn_{i:02d}"], dtype=dtype, requires_grad=True) for i in range(count)
    ]
    return syn, [torch.tensor(golden[f"real_{i:02d}"], dtype=dtype) for i in range(count)]


def close(got, wanted, tolerance):
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    scale = max(float(wanted.abs().max()), 1e-30)
    return float((got.double() - wanted).abs().max()) / scale < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("file", "theirs", "ours"), CASES)
def test_value_and_gradient_of_the_public_code(file, theirs, ours, dtype, tolerance):
    golden = np.load(GOLDEN / f"{file}.npz")
    syn, real = lists(golden, dtype)
    loss = distances.get_distance(ours)(syn, real)
    assert close(loss.detach(), golden[f"loss_{theirs}"], tolerance)
    wanted = np.concatenate([golden[f"grad_{theirs}_{i:02d}"].ravel() for i in range(len(syn))])
    found = torch.autograd.grad(loss, syn, allow_unused=True)
    got = torch.cat(
        [
            torch.zeros_like(s).flatten() if g is None else g.flatten()
            for s, g in zip(syn, found, strict=True)
        ]
    )
    assert close(got, wanted, tolerance)


@pytest.mark.parametrize(
    ("file", "theirs", "ours"),
    [
        ("dc_distance", "ours", "rowwise"),
        *[case for case in CASES if case[0] == "degm_distance" and case[1] != "mse"],
    ],
)
def test_edge_rows_of_the_public_code(file, theirs, ours):
    golden = np.load(GOLDEN / f"{file}.npz")
    syn, real = (torch.tensor(golden[f"edge_{side}"]) for side in ("syn", "real"))
    syn.requires_grad_()
    loss = distances.get_distance(ours)([syn], [real])
    assert close(loss.detach(), golden[f"edge_loss_{theirs}"], 1e-9)
    (gradient,) = torch.autograd.grad(loss, syn)
    assert torch.isfinite(gradient).all()
    sane = [0, 1, 3, 4, 5]  # row 2 has a zero synthetic side: its public gradient explodes
    assert close(gradient[sane], golden[f"edge_grad_{theirs}"][sane], 1e-9)


@pytest.mark.parametrize("ours", ["rowwise", "rowwise_cosine"])
def test_angles_in_closed_form(ours):
    real = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    for row, wanted in [
        ((1.0, 0.0), 0.0),
        ((-1.0, 0.0), 2.0),
        ((0.0, 1.0), 1.0),
        ((7.0, 0.0), 0.0),
    ]:
        syn = real.clone()
        syn[2] = torch.tensor(row, dtype=torch.float64)
        assert float(distances.get_distance(ours)([syn], [real])) == pytest.approx(wanted, abs=1e-5)


def test_the_magnitude_is_added_exactly():
    rng = torch.Generator().manual_seed(0)
    syn, real = ([torch.randn(4, 3, generator=rng, dtype=torch.float64)] for _ in range(2))
    angle, both = (
        distances.get_distance(name)(syn, real)
        for name in ("rowwise_cosine", "rowwise_angle_and_magnitude")
    )
    assert float(both - angle) == pytest.approx(float((syn[0] - real[0]).norm(dim=1).sum()))


def test_vectors_count_only_where_everything_counts():
    syn, real = [torch.ones(3)], [-torch.ones(3)]
    for name in ("rowwise", "rowwise_cosine", "rowwise_angle_and_magnitude"):
        assert float(distances.get_distance(name)(syn, real)) == 0
    assert float(distances.get_distance("squared")(syn, real)) == 12
    assert float(distances.get_distance("whole_cosine")(syn, real)) == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("ours", CONVOLUTIONAL)
def test_only_convolution_weights_count(ours):
    rng = torch.Generator().manual_seed(0)
    shapes = [(4, 3, 3, 3), (4,), (5, 16)]  # a convolution, its bias, a linear layer
    syn, real = (
        [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]
        for _ in range(2)
    )
    distance = distances.get_distance(ours)
    assert float(distance(syn, real)) == float(distance(syn[:1], real[:1])) > 0
    others = [torch.zeros_like(tensor) for tensor in syn[1:]]
    assert float(distance(syn[:1] + others, real)) == float(distance(syn, real))


@pytest.mark.parametrize("ours", CONVOLUTIONAL)
def test_equal_and_zero_convolutions_have_a_finite_gradient(ours):
    weights = torch.randn(
        4, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    for side in (weights, torch.zeros_like(weights)):
        syn = side.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(distances.get_distance(ours)([syn], [side]), syn)
        assert torch.isfinite(gradient).all()
        assert float(gradient.abs().max()) < 1e-5


@pytest.mark.parametrize("name", distances.DISTANCES)
def test_a_network_without_convolutions_is_refused_by_distances_over_them(name):
    mlp = MLP(name="MLP").build(ImageSpec(1, 8, 8, 3, (0.5,), (0.5,)), torch.Generator())
    if name in CONVOLUTIONAL:
        message = f"method.distance={name} compares convolution weights, and the network .* has none; use .* model=convnet"
        with pytest.raises(ConfigError, match=message):
            distances.check_network(name, mlp)
    else:
        distances.check_network(name, mlp)


def test_a_network_with_convolutions_is_taken():
    convnet = ConvNet(name="ConvNet", width=4).build(
        ImageSpec(1, 8, 8, 3, (0.5,), (0.5,)), torch.Generator()
    )
    for name in distances.DISTANCES:
        distances.check_network(name, convnet)
    convnet.requires_grad_(False)
    with pytest.raises(ConfigError, match="has none"):
        distances.check_network("conv_l1", convnet)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"distance='rowise' is unknown; .* Did you mean 'rowwise'\?"
    ):
        distances.get_distance("rowise")

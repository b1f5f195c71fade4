"""M3D's discrepancy against the public code, a slow float64 re-derivation, and what must hold of
it.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from dcond.errors import ConfigError
from dcond.matching.mmd import (
    KERNELS,
    bandwidth,
    gaussian,
    get_kernel,
    mean_distance,
    mmd,
    squared_distances,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "m3d_loss.npz", allow_pickle=False)
ROWS = (1, 4, 10)


def features(k, n, d=6, seed=0, dtype=torch.float64):
    return torch.randn(k, n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def slow_mmd(x, y, name):
    """One class, in the words of the paper: every pair by broadcasting."""
    y = y.detach()
    z = torch.cat([x, y])
    d = ((z[:, None] - z[None]) ** 2).sum(-1)
    inner = (z[:, None] * z[None]).sum(-1)
    if name == "gaussian":
        h = d.detach().sum() / (len(z) ** 2 - len(z)) + 1e-12
        kernel = sum(torch.exp(-d / (h * 2.0 ** (q - 2))) for q in range(5))
    elif name == "linear":
        kernel = inner
    elif name == "poly2":
        kernel = (inner + 1) ** 2
    else:
        kernel = sum(torch.exp(-gamma * d) for gamma in (0.1, 1.0, 5.0))
    a = len(x)
    return kernel[:a, :a].mean() - 2 * kernel[:a, a:].mean() + kernel[a:, a:].mean()


def value_and_slope(loss, syn):
    weight = torch.arange(1, loss.numel() + 1, dtype=loss.dtype)
    return loss.detach(), torch.autograd.grad((loss * weight).sum(), syn)[0]


def relative_error(got, expected):
    return ((got.double() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_gradient_are_the_public_codes(name, rows, dtype):
    # The public constants of gauss_fixed are stored in float32.
    exact, single = (1e-6, 1e-4) if name == "gauss_fixed" else (1e-8, 5e-5)
    tolerance = exact if dtype == torch.float64 else single
    syn = torch.from_numpy(GOLDEN[f"syn_a{rows}"]).to(dtype)[None].requires_grad_()
    real = torch.from_numpy(GOLDEN["real"]).to(dtype)[None]
    value, slope = value_and_slope(mmd(syn, real, get_kernel(name)), syn)
    assert value.dtype == dtype
    assert relative_error(value[0], torch.from_numpy(GOLDEN[f"loss_{name}_a{rows}"])) < tolerance
    assert relative_error(slope[0], torch.from_numpy(GOLDEN[f"grad_{name}_a{rows}"])) < tolerance


@pytest.mark.parametrize("rows", ROWS)
def test_bandwidth_is_the_public_codes(rows):
    syn, real = (torch.from_numpy(GOLDEN[name])[None] for name in (f"syn_a{rows}", "real"))
    got = bandwidth(squared_distances(syn, real))
    assert relative_error(got[0], torch.from_numpy(GOLDEN[f"bandwidth_a{rows}"])) < 1e-10


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 4, 9), (2, 7, 3)])
@pytest.mark.parametrize("name", KERNELS)
def test_value_and_gradient_agree_with_a_plain_loop_over_classes(name, shape):
    k, a, b = shape
    syn, real = features(k, a).requires_grad_(), features(k, b, seed=1) * 1.3 + 0.2
    slow = torch.stack([slow_mmd(x, y, name) for x, y in zip(syn, real, strict=True)])
    for got, expected in zip(
        value_and_slope(mmd(syn, real, get_kernel(name)), syn),
        value_and_slope(slow, syn),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", KERNELS)
def test_chunks_of_classes_give_the_same_values(name):
    syn, real = features(5, 3), features(5, 4, seed=1)
    parts = [mmd(syn[i : i + 2], real[i : i + 2], get_kernel(name)) for i in (0, 2, 4)]
    torch.testing.assert_close(torch.cat(parts), mmd(syn, real, get_kernel(name)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", KERNELS)
def test_equal_sets_have_discrepancy_zero_in_any_order_and_multiplicity(name, dtype):
    x = features(3, 8, d=40, dtype=dtype)
    x = x / x.norm(dim=2, keepdim=True)
    for other in (
        x,
        x[:, torch.randperm(8, generator=torch.Generator().manual_seed(2))],
        x.repeat(1, 2, 1),
    ):
        assert mmd(x, other, get_kernel(name)).abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", KERNELS)
def test_the_discrepancy_is_never_negative(name, seed):
    loss = mmd(
        features(4, 3, seed=seed, dtype=torch.float32),
        features(4, 9, seed=seed + 50, dtype=torch.float32),
        get_kernel(name),
    )
    assert loss.min() > 0  # unlike sets: clearly above 0


def test_the_linear_kernel_is_the_loss_of_dm():
    syn, real = features(3, 4).requires_grad_(), features(3, 9, seed=1)
    slow = torch.stack([slow_mmd(x, y, "linear") for x, y in zip(syn, real, strict=True)])
    dm = mean_distance(syn, real)
    for got, expected in zip(value_and_slope(dm, syn), value_and_slope(slow, syn), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert torch.equal(mmd(syn, real, get_kernel("linear")), dm)


def test_the_gradient_is_the_finite_difference_with_the_bandwidth_fixed():
    syn, real = features(1, 3, d=4).requires_grad_(), features(1, 5, d=4, seed=1)
    h = bandwidth(squared_distances(syn, real)).item()

    def with_bandwidth(x, value):
        z = torch.cat([x, real[0]])
        kernel = sum(
            torch.exp(-((z[:, None] - z[None]) ** 2).sum(-1) / (value * m))
            for m in (0.25, 0.5, 1, 2, 4)
        )
        return (kernel[:3, :3].mean() - 2 * kernel[:3, 3:].mean() + kernel[3:, 3:].mean()).item()

    def difference(value_of):
        slope = torch.zeros(3, 4, dtype=torch.float64)
        for i in range(3):
            for j in range(4):
                step = torch.zeros(3, 4, dtype=torch.float64)
                step[i, j] = 1e-5
                slope[i, j] = (
                    value_of(syn.detach()[0] + step) - value_of(syn.detach()[0] - step)
                ) / 2e-5
        return slope

    _, slope = value_and_slope(gaussian(syn, real), syn)
    torch.testing.assert_close(
        slope[0], difference(lambda x: with_bandwidth(x, h)), rtol=1e-6, atol=1e-9
    )
    moving = difference(lambda x: gaussian(x[None], real).item())  # h follows x: another derivative
    assert (slope[0] - moving).abs().max() > 1e-3 * slope.abs().max()


def test_the_bandwidth_carries_no_gradient():
    h = bandwidth(squared_distances(features(2, 3).requires_grad_(), features(2, 4, seed=1)))
    assert not h.requires_grad


def test_the_real_side_carries_no_gradient():
    real = features(2, 4, seed=1).requires_grad_()
    for name in KERNELS:
        syn = features(2, 3).requires_grad_()
        mmd(syn, real, get_kernel(name)).sum().backward()
        assert real.grad is None
        assert syn.grad.abs().max() > 0


@pytest.mark.parametrize("factor", [1e-3, 0.5, 37.0])
def test_the_gaussian_discrepancy_does_not_depend_on_the_scale_of_features(factor):
    syn, real = features(3, 4), features(3, 9, seed=1) + 0.5
    torch.testing.assert_close(
        gaussian(factor * syn, factor * real), gaussian(syn, real), rtol=1e-5, atol=1e-8
    )


def test_one_synthetic_image_gets_its_gradient_from_the_cross_term_alone():
    syn, real = features(2, 1).requires_grad_(), features(2, 6, seed=1)
    distances = squared_distances(syn, real)
    assert torch.equal(distances.xx, torch.zeros_like(distances.xx))
    (within,) = torch.autograd.grad(distances.xx.sum(), syn, retain_graph=True)
    assert torch.equal(within, torch.zeros_like(within))
    h = bandwidth(distances)[:, None]
    cross = ((syn - real) ** 2).sum(-1)
    expected = (-2 * sum((-cross / (h * m)).exp() for m in (0.25, 0.5, 1, 2, 4)).mean(1)).sum()
    slopes = [
        torch.autograd.grad(loss, syn, retain_graph=True)[0]
        for loss in (gaussian(syn, real).sum(), expected)
    ]
    torch.testing.assert_close(*slopes)


def test_collapsed_features_stay_finite():
    same = torch.full((2, 3, 5), 7.0, requires_grad=True)
    loss = mmd(same, torch.full((2, 4, 5), 7.0), get_kernel("gaussian"))
    loss.sum().backward()
    assert loss.abs().max() < 1e-5
    assert same.grad.isfinite().all()


def test_distances_have_an_exact_zero_diagonal_and_survive_a_large_offset():
    near, far = (
        features(1, 20, d=512, dtype=torch.float32),
        features(1, 30, d=512, seed=1, dtype=torch.float32),
    )
    blocks = squared_distances(near + 300, far + 300)
    for block in (blocks.xx, blocks.yy):
        assert block.diagonal(dim1=1, dim2=2).abs().max() == 0
    exact = ((near.double() - far.double().transpose(0, 1)) ** 2).sum(-1).T  # (20, 30)
    assert ((blocks.xy[0] - exact).abs() / exact).max() < 1e-4


@pytest.mark.parametrize("name", KERNELS)
def test_half_features_and_autocast_are_computed_in_float32(name):
    syn, real = features(2, 3, dtype=torch.float32), features(2, 4, seed=1, dtype=torch.float32)
    syn, real = syn.bfloat16(), real.bfloat16()
    expected = mmd(syn.float(), real.float(), get_kernel(name))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mmd(syn, real, get_kernel(name)), expected)
        assert torch.equal(mmd(syn.float(), real.float(), get_kernel(name)), expected)
    assert expected.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gausian", "Did you mean 'gaussian'"),
        ("zzz", "kernel='zzz' is unknown; allowed: gaussian, linear, poly2, gauss_fixed.$"),
    ],
)
def test_an_unknown_kernel_is_named_with_the_nearest(name, message):
    with pytest.raises(ConfigError, match=message):
        get_kernel(name)

"""DM's distance of class means."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dcond.matching.mmd import mean_distance

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "dm_loss.npz", allow_pickle=False)
PRECISION = [(torch.float64, 1e-10), (torch.float32, 1e-5)]


def relative_error(got, expected):
    return ((got.double() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION)
def test_value_and_gradient_are_the_public_codes(dtype, tolerance):
    real, syn, loss, grad, joint, grad_joint, classes = (
        torch.from_numpy(GOLDEN[name])
        for name in ("real", "syn", "loss", "grad", "loss_joint", "grad_joint", "loss_class")
    )
    syn = syn.to(dtype).requires_grad_()
    got = mean_distance(syn, real.to(dtype))
    got.sum().backward()
    assert relative_error(got, classes) < tolerance
    for expected_loss, expected_grad in ((loss, grad), (joint, grad_joint)):
        assert relative_error(got.sum(), expected_loss) < tolerance
        assert relative_error(syn.grad, expected_grad) < tolerance


@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_agree_with_plain_loops(seed):
    rng = torch.Generator().manual_seed(seed)
    syn = torch.randn(4, 3, 6, dtype=torch.float64, generator=rng).requires_grad_()
    real = torch.randn(4, 7, 6, dtype=torch.float64, generator=rng)
    slow = torch.stack(
        [
            sum((sum(s[:, j]) / 3 - sum(r[:, j]) / 7) ** 2 for j in range(6))
            for s, r in zip(syn, real, strict=True)
        ]
    )
    got = mean_distance(syn, real)
    torch.testing.assert_close(got, slow)
    weight = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(
        *(torch.autograd.grad((loss * weight).sum(), syn)[0] for loss in (got, slow))
    )


def test_equal_sets_have_distance_zero_in_any_order_and_multiplicity():
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert mean_distance(x, x.flip(1).repeat(1, 3, 1)).max() < 1e-12


def test_the_gradient_is_the_same_for_all_synthetic_rows_and_none_reaches_the_real_ones():
    syn = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    real = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(2)).requires_grad_()
    mean_distance(syn, real).sum().backward()
    assert real.grad is None
    torch.testing.assert_close(syn.grad, syn.grad[:, :1].expand(2, 5, 8))
    assert syn.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_averaged_in_float32(dtype):
    syn = torch.full((1, 3000, 1), 100.0, dtype=dtype)  # the sum, 300000, is beyond float16
    got = mean_distance(syn, syn + 2)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(4)

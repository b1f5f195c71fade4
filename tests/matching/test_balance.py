"""Gradient balance and gradient normalisation: the public code's values, and what must hold."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dcond.matching.balance import START, accumulate, peaks, unit_peaks, weights
from dcond.matching.distances import squared
from dcond.rng import generator

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "hmdc.npz", allow_pickle=False)
precision = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)]
)


def golden(name, dtype):
    return torch.tensor(GOLDEN[name], dtype=dtype)


def close(got, name, tolerance):
    wanted = golden(name, torch.float64)
    return float((got.double() - wanted).abs().max() / wanted.abs().max()) < tolerance


@precision
def test_accumulator_and_weights_are_the_public_codes(dtype, tolerance):
    gradients = torch.stack(
        [golden(f"gbm_grad{j}", dtype) for j in (1, 2, 3)]
    )  # (j, k, n, c, h, w)
    after = accumulate(golden("gbm_accumulator_before", dtype), peaks(gradients), "sum")
    assert close(after, "gbm_accumulator_after", tolerance)
    assert close(weights(after), "gbm_weights", tolerance)


@precision
def test_normalisation_is_the_public_codes(dtype, tolerance):
    assert close(unit_peaks(golden("norm_grad_in", dtype)), "norm_grad_out", tolerance)


@precision
def test_the_matching_loss_is_the_public_codes(dtype, tolerance):
    count = sum(name.startswith("gm_syn_") for name in GOLDEN.files)
    syn, real = (
        [golden(f"gm_{side}_{i:02d}", dtype) for i in range(count)] for side in ("syn", "real")
    )
    assert close(squared(syn, real), "gm_loss", tolerance)


def some(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed, "some"), dtype=torch.float64)


def test_weights_have_a_maximum_of_one_and_make_the_peaks_equal():
    accumulator = START + 10 * some(7, 4)
    got = weights(accumulator)
    assert torch.equal(got.amax(1), torch.ones(7, dtype=torch.float64))
    balanced = got * accumulator
    torch.testing.assert_close(balanced, balanced[:, :1].expand(7, 4))


@pytest.mark.parametrize("reduce", ["sum", "max"])
def test_the_accumulator_never_decreases(reduce):
    accumulator = torch.full((3, 2), START, dtype=torch.float64)
    for seed in range(5):
        found = some(3, 2, seed=seed)
        now = accumulate(accumulator, found, reduce)
        assert (now >= accumulator).all()
        assert (now >= found).all()
        accumulator = now
    assert bool((accumulator <= 1).all()) == (reduce == "max")


def test_peaks_are_found_per_class_and_loss():
    gradients = torch.zeros(2, 3, 1, 1, 2, 2)
    gradients[1, 2, 0, 0, 1, 1] = -5
    assert peaks(gradients).tolist() == [[0, 0], [0, 0], [0, 5]]


def test_every_image_and_channel_peaks_at_one():
    gradient = (some(2, 3, 3, 8, 8) - 0.5) * torch.logspace(-2, 3, 18).view(2, 3, 3, 1, 1)
    peak = unit_peaks(gradient).abs().amax((-2, -1))
    assert (peak <= 1).all()
    assert (peak >= 1 - 1e-3).all()

"""NCFM's distance against the public code, plain loops and its closed form; and the sampler."""

import cmath
from pathlib import Path

import numpy as np
import pytest
import torch

from dcond.matching.characteristic import FrequencySampler, characteristic_distance
from dcond.rng import seeded_globals

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "ncfm_loss.npz", allow_pickle=False)


def golden(name, dtype=torch.float64):
    return torch.from_numpy(GOLDEN[name]).to(dtype)


def normal(*shape, seed=0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)


def relative_error(got, expected):
    return ((got.double() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("case", "amplitude"), [("half", 0.5), ("mixed", 0.25)])
def test_value_and_gradient_are_the_public_codes(case, amplitude, dtype, tolerance):
    syn = golden("syn", dtype)[None].requires_grad_()
    loss = characteristic_distance(
        syn, golden("real", dtype)[None], golden("freqs", dtype), amplitude
    )
    loss.sum().backward()
    assert loss.dtype == dtype
    assert relative_error(loss[0], golden(f"loss_{case}")) < tolerance
    assert relative_error(syn.grad[0], golden(f"grad_{case}")) < tolerance


def test_with_equal_weights_it_is_the_distance_of_the_complex_functions():
    real, syn = golden("phi_real"), golden("phi_syn")
    closed = 300 * (0.5**0.5 * (real - syn).norm(dim=0)).mean()
    loss = characteristic_distance(golden("syn")[None], golden("real")[None], golden("freqs"))
    assert relative_error(loss[0], closed) < 1e-9


def slow(syn, real, frequencies, amplitude):
    """One class, pair by pair, in complex numbers."""

    def function(features, t):
        unit = [[x / sum(y * y for y in own) ** 0.5 for x in own] for own in features]
        return sum(
            cmath.exp(1j * sum(a * b for a, b in zip(own, t, strict=True))) for own in unit
        ) / len(unit)

    total = 0.0
    for t in frequencies:
        r, s = function(real, t), function(syn, t)
        a = abs(r) - abs(s)
        p = 2 * (abs(r) * abs(s) - r.real * s.real - r.imag * s.imag)
        total += (amplitude * a * a + (1 - amplitude) * p) ** 0.5
    return 300 * total / len(frequencies)


@pytest.mark.parametrize("amplitude", [0.0, 0.3, 0.9])
def test_value_and_gradient_of_every_class_are_those_of_plain_loops(amplitude):
    syn, real, t = normal(2, 3, 4), normal(2, 5, 4, seed=1), normal(6, 4, seed=2)
    syn.requires_grad_()
    losses = characteristic_distance(syn, real, t, amplitude)
    (gradient,) = torch.autograd.grad(losses.sum(), syn)
    for c in range(2):
        value = slow(syn[c].tolist(), real[c].tolist(), t.tolist(), amplitude)
        assert losses[c].item() == pytest.approx(value, rel=1e-9)
        for i in range(3):
            for j in range(4):
                ends = []
                for step in (1e-6, -1e-6):
                    moved = syn[c].tolist()
                    moved[i][j] += step
                    ends.append(slow(moved, real[c].tolist(), t.tolist(), amplitude))
                assert gradient[c, i, j].item() == pytest.approx(
                    (ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-6
                )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_identical_sets_have_the_floor_as_distance_and_no_gradient(dtype):
    syn = golden("syn", dtype)[None].requires_grad_()
    loss = characteristic_distance(syn, syn.detach().clone(), golden("freqs", dtype))
    loss.sum().backward()
    assert relative_error(loss[0], golden("loss_identical")) < 1e-6  # 300 √(½ · 1e-12), not 0
    assert torch.equal(syn.grad, torch.zeros_like(syn))
    assert golden("grad_identical").abs().max() == 0


def test_a_frequency_of_zero_and_the_length_of_features_make_no_difference():
    syn, real = normal(1, 3, 4), normal(1, 5, 4, seed=1)
    zero = characteristic_distance(syn, real, torch.zeros(2, 4, dtype=torch.float64))
    assert zero.item() == pytest.approx(300 * (0.5e-12) ** 0.5)  # φ(0) = 1 for both
    t = normal(6, 4, seed=2)
    torch.testing.assert_close(
        characteristic_distance(3 * syn, 0.1 * real, t), characteristic_distance(syn, real, t)
    )


def test_half_precision_and_autocast_are_computed_in_float32():
    syn, real, t = (normal(*shape, dtype=torch.float32) for shape in ((2, 3, 4), (2, 5, 4), (6, 4)))
    syn, real = syn.bfloat16(), real.bfloat16()
    expected = characteristic_distance(syn.float(), real.float(), t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(characteristic_distance(syn, real, t), expected)
    assert expected.dtype == torch.float32


def sampler(width=4):
    with seeded_globals(torch.Generator().manual_seed(0)):
        return FrequencySampler(width)


def test_the_sampler_scales_normal_noise_sixteen_rows_alike():
    noise, latent = normal(20, 4, dtype=torch.float32), normal(2, 4, seed=1, dtype=torch.float32)
    scales = sampler()(noise, latent) / noise
    assert ((scales > 1 / torch.e) & (scales < torch.e)).all()
    torch.testing.assert_close(scales[:16], scales[:1].expand(16, 4))
    torch.testing.assert_close(scales[16:], scales[16:17].expand(4, 4))
    assert (scales[0] - scales[16]).abs().max() > 1e-3


def test_the_sampler_can_learn_to_increase_the_distance():
    own = sampler()
    optimiser = torch.optim.SGD(own.parameters(), lr=1e-3)
    syn, real = (normal(1, n, 4, seed=n, dtype=torch.float32) for n in (3, 5))
    noise, latent = normal(64, 4, dtype=torch.float32), normal(4, 4, seed=1, dtype=torch.float32)
    losses = []
    for _ in range(30):
        loss = characteristic_distance(syn, real, own(noise, latent)).sum()
        optimiser.zero_grad()
        (-loss).backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] > 1.02 * losses[0]

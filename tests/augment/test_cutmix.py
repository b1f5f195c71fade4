"""CutMix: the box, the partner and the weight that the loss is mixed with."""

import pytest
import torch

from dcond.augment.cutmix import Mix, apply, draw


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(8))
def test_the_weight_is_the_share_of_pixels_kept(seed):
    x = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 8, 6).clone().requires_grad_()
    mix = draw(x.shape, 1.0, rng(seed))
    mixed = apply(x, mix)
    assert sorted(mix.partner.tolist()) == list(range(5))
    for i in range(5):
        expected = torch.full((3, 8, 6), float(i))
        expected[:, mix.top : mix.bottom, mix.left : mix.right] = float(mix.partner[i])
        assert torch.equal(mixed[i], expected)
    pasted = (mix.bottom - mix.top) * (mix.right - mix.left)
    assert mix.weight == pytest.approx(1 - pasted / 48)
    mixed.sum().backward()
    assert torch.equal(
        x.grad, torch.ones_like(x)
    )  # every pixel is used once, in its own image or its partner's


def test_a_box_by_hand_in_a_new_tensor():
    x = torch.zeros(2, 1, 4, 4)
    x[1] = 1
    mix = Mix(torch.tensor([1, 0]), (4, 4), 1, 3, 0, 2)
    assert apply(x, mix)[0, 0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert x[0].abs().max() == 0
    assert mix.weight == 0.75


def test_the_probability_is_that_of_a_batch():
    drawn = [draw(torch.Size((4, 1, 8, 8)), 0.3, rng(seed)) for seed in range(1000)]
    assert 240 < sum(mix is not None for mix in drawn) < 360


def test_a_probability_of_zero_draws_nothing():
    generator = rng()
    before = generator.get_state()
    assert draw(torch.Size((4, 1, 8, 8)), 0.0, generator) is None
    assert torch.equal(generator.get_state(), before)


def test_the_area_before_clipping_is_uniform_and_so_is_the_centre():
    mixes = [draw(torch.Size((2, 1, 64, 64)), 1.0, rng(seed)) for seed in range(2000)]
    inside = [m for m in mixes if m.top > 0 and m.left > 0 and m.bottom < 64 and m.right < 64]
    assert all(m.bottom - m.top == m.right - m.left for m in inside)
    middle = torch.tensor([m.top + m.bottom for m in mixes if m.bottom > m.top]).double().mean() / 2
    assert middle == pytest.approx(32, abs=1.5)
    # A side s keeps s - s^2/4 of its axis on average, and s^2 is uniform: E[(s - s^2/4)^2] is this.
    kept = 1 - torch.tensor([m.weight for m in mixes]).mean()
    assert kept == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.02)


def test_the_passed_generator_is_the_only_source():
    before = torch.get_rng_state()
    first, second = (draw(torch.Size((6, 1, 8, 8)), 1.0, rng(4)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.partner, second.partner)
    assert (first.top, first.left, first.weight) == (second.top, second.left, second.weight)


def test_a_mix_that_does_not_fit_is_refused():
    mix = Mix(torch.arange(3), (8, 8), 0, 2, 0, 2)
    for shape in ((2, 1, 8, 8), (3, 1, 8, 9)):
        with pytest.raises(ValueError, match=r"3 images of size \(8, 8\) does not fit"):
            apply(torch.zeros(shape), mix)

"""Images as a sum of levels: what they show, how levels join, and what is saved."""

import copy

import pytest
import torch

from dcond.training.pyramid import ImagePyramid, level_sizes


def images(channels=3, h=8, w=8):
    rng = torch.Generator().manual_seed(0)
    return 0.1 + 0.8 * torch.rand(4, channels, h, w, generator=rng)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((8, 8), [(1, 1), (2, 2), (4, 4), (8, 8)]),
        ((9, 9), [(1, 1), (2, 2), (4, 4), (8, 8), (9, 9)]),
        ((4, 6), [(1, 1), (2, 2), (4, 4), (4, 6)]),
        ((1, 1), [(1, 1)]),
    ],
)
def test_levels_double_up_to_the_images(size, sizes):
    assert level_sizes(size) == sizes


@pytest.mark.parametrize(("channels", "h", "w"), [(3, 8, 8), (1, 9, 9), (2, 4, 6)])
def test_all_levels_together_are_the_first_images(channels, h, w):
    first = images(channels, h, w)
    pyramid = ImagePyramid(first, lr=0.1)
    for _ in range(10):  # more often than there are levels
        before, joined = pyramid._adam, pyramid.joined
        pyramid.grow()
        assert (pyramid._adam is before) == (joined == len(pyramid.levels))
    torch.testing.assert_close(pyramid.images(), first, rtol=0, atol=1e-5)


def test_the_first_level_is_one_colour_and_each_level_comes_nearer():
    first = images()
    pyramid = ImagePyramid(first, lr=0.1)
    shown = pyramid.images()
    torch.testing.assert_close(shown, shown[:, :, :1, :1].expand_as(shown))
    gaps = []
    for _ in pyramid.levels:
        gaps.append((pyramid.images() - first).square().mean().item())
        pyramid.grow()
    assert gaps == sorted(gaps, reverse=True)


def test_black_and_white_are_clipped():
    pyramid = ImagePyramid((images() > 0.5).float(), lr=0.1)
    for _ in pyramid.levels:
        pyramid.grow()
    assert pyramid.images().min() > 0.009
    assert pyramid.images().max() < 0.991


def test_a_step_is_adams_on_the_levels_that_have_joined():
    first = images()
    pyramid = ImagePyramid(first, lr=0.1)
    pyramid.grow()
    before = [level.detach().clone() for level in pyramid.levels]
    pyramid.step(torch.ones(4, 3, 8, 8))
    moved = [
        (new - old).abs().max().item() for new, old in zip(pyramid.levels, before, strict=True)
    ]
    assert moved[:2] == pytest.approx([0.1, 0.1], rel=1e-4)  # Adam's first step: the rate
    assert moved[2:] == [0, 0]


def test_what_is_saved_goes_on_alike():
    pyramid, other = ImagePyramid(images(), lr=0.1), ImagePyramid(images() / 2, lr=0.1)
    pyramid.grow()
    pyramid.step(torch.ones(4, 3, 8, 8))
    other.load_state_dict(copy.deepcopy(pyramid.state_dict()))
    for each in (pyramid, other):
        each.step(images() - 0.5)
        each.grow()
    assert torch.equal(pyramid.images(), other.images())

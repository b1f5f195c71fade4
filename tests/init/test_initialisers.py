"""First images: noise, whole images, packed images."""

import logging

import pytest
import torch

from dcond.errors import ConfigError, DataError
from dcond.init import FromReal, Noise, Random
from dcond.init.initialisers import check_ipc
from dcond.multi_formation import decode
from dcond.rng import Streams
from dcond.types import RealData, Split


@pytest.fixture
def flat() -> RealData:
    """Three classes; every image is one level of grey of its own: 4·row + class tells them apart."""
    labels = torch.arange(3).repeat(20)
    images = (
        (4 * torch.arange(60)).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    )
    split = Split(images, labels)
    return RealData("flat", split, split, ("a", "b", "c"), (0.5,), (0.25,))


@pytest.mark.parametrize("space", ["normalised", "pixel"])
def test_noise_has_the_stated_mean_and_deviation(space, toy):
    images = Noise(space=space, clip=False)(toy, 50, 1, Streams(0))
    assert images.shape == (150, 1, 8, 8)
    assert images.dtype == torch.float32
    mean, std = (0.25, 0.22) if space == "normalised" else (0.5, 0.25)
    assert float(images.mean()) == pytest.approx(mean, abs=0.01)
    assert float(images.std()) == pytest.approx(std, abs=0.01)
    assert images.min() < 0


def test_clipped_noise_is_the_same_noise_in_the_box(toy):
    free, clipped = (Noise(clip=clip)(toy, 5, 1, Streams(7)) for clip in (False, True))
    assert torch.equal(free.clamp(0, 1), clipped)


def test_noise_comes_from_the_initialisation_stream_alone(toy):
    rng = Streams(0)
    before = rng.state_dict()
    Noise()(toy, 2, 1, rng)
    changed = [
        name for name, state in rng.state_dict().items() if not torch.equal(state, before[name])
    ]
    assert changed == ["initialisation"]


def test_whole_images_are_real_ones_of_the_class_in_class_order(flat):
    images = FromReal(rule=Random(), pack=False)(flat, 4, 2, Streams(0))
    assert images.shape == (12, 1, 8, 8)
    rows = images[:, 0, 0, 0].mul(255 / 4).round().long()
    assert len(rows.unique()) == 12
    assert torch.equal(flat.train.labels[rows], torch.arange(3).repeat_interleave(4))
    assert torch.equal(images, flat.pixels(rows))


@pytest.mark.parametrize("shrink", ["antialias", "nearest"])
def test_packed_images_hold_factor_squared_different_real_ones(flat, shrink):
    images = FromReal(rule=Random(), shrink=shrink)(flat, 2, 2, Streams(0))
    assert images.shape == (6, 1, 8, 8)
    for c, stored in enumerate(images.view(3, 2, 1, 8, 8)):
        levels = decode(stored, 2).flatten(1)
        torch.testing.assert_close(
            levels, levels[:, :1].expand_as(levels)
        )  # each decoded image is one grey again
        rows = levels[:, 0].mul(255 / 4).round().long()
        assert len(rows.unique()) == 8
        assert (flat.train.labels[rows] == c).all()


def test_more_images_per_class_than_available_are_refused(toy):
    message = r"ipc=31 needs 31 images per class; class 'right' of toy has 30\. Use a smaller ipc, or init=noise\."
    for attempt in (
        lambda: check_ipc(toy, 31),
        lambda: FromReal(rule=Random())(toy, 31, 1, Streams(0)),
    ):
        with pytest.raises(DataError, match=message):
            attempt()
    check_ipc(toy, 30)


def test_packing_more_than_a_class_has_says_so_and_repeats(toy, caplog):
    with caplog.at_level(logging.WARNING):
        images = FromReal(rule=Random())(toy, 8, 2, Streams(0))  # 32 of 30
    assert images.shape == (24, 1, 8, 8)
    assert caplog.messages == [
        "packing uses 32 images per class; class 'right' has 30: some are used more than once"
    ]


def test_enough_images_are_no_news(toy, caplog):
    FromReal(rule=Random())(toy, 7, 2, Streams(0))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Noise(space="normalized"),
            "Noise.space='normalized' is unknown; allowed: normalised, pixel.",
        ),
        (
            lambda: FromReal(rule=Random(), shrink="box"),
            "FromReal.shrink='box' is unknown; allowed: antialias, nearest, aligned.",
        ),
    ],
)
def test_unknown_choices_are_refused(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(message)

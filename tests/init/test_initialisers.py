"""First images: noise, whole images, packed images."""

import logging
from dataclasses import replace

import pytest
import torch

from dcond import artefact
from dcond.errors import ArtefactError, ConfigError, DataError
from dcond.init import FromFile, FromReal, Noise, Random
from dcond.init.initialisers import check_ipc
from dcond.multi_formation import decode
from dcond.rng import Streams
from dcond.types import RealData, Split, SyntheticSet


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
    message = r"ipc=31 needs 31 images per class; class 'right' of toy has 30\. Use a smaller ipc; methods that change pixels can begin at init=noise\."
    with pytest.raises(DataError, match=message):
        check_ipc(toy, 31)
    check_ipc(toy, 30)


def test_packing_more_than_a_class_has_says_so_and_repeats(toy, caplog):
    with caplog.at_level(logging.WARNING):
        images = FromReal(rule=Random())(toy, 8, 2, Streams(0))  # 32 of 30
    assert images.shape == (24, 1, 8, 8)
    assert caplog.messages == [
        "class 'right' has 30 real images and 32 are needed: some are used more than once"
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
            "FromReal.shrink='box' is unknown; allowed: antialias, nearest, aligned, bilinear.",
        ),
    ],
)
def test_unknown_choices_are_refused(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(message)


@pytest.fixture
def saved(toy, tmp_path):
    """A set of two images per class, saved with the classes in another order."""
    order = [2, 0, 1]
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    names = tuple(toy.class_names[row] for row in order)
    synthetic = SyntheticSet.from_images(images, replace(toy, class_names=names))
    artefact.save(synthetic, tmp_path / "synthetic.safetensors")
    return images.view(3, 2, 1, 8, 8)[[1, 2, 0]].flatten(0, 1)


def test_a_saved_set_is_taken_by_the_names_of_its_classes(saved, toy, tmp_path):
    for path in (tmp_path, tmp_path / "synthetic.safetensors"):
        assert torch.equal(FromFile(path=str(path))(toy, 2, 1, Streams(0)), saved)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"class_names": ("0", "1", "ant")},
            r"its 3 classes \(.*\) match the 3 of 'toy' \(0, 1, ant\) neither",
        ),
        ({"ipc": 3}, "has ipc 2, this run needs 3; choose another set, or change the run's"),
        ({"factor": 2}, "has factor 1, this run needs 2; choose"),
        ({"size": 6}, r"has images \(c, h, w\) \(1, 8, 8\), this run needs \(1, 6, 6\); choose"),
    ],
)
def test_a_saved_set_that_does_not_fit_is_refused(changed, message, saved, toy, tmp_path):
    need = {"ipc": 2, "factor": 1, "size": 8, "class_names": toy.class_names} | changed
    side, names = need["size"], need["class_names"]
    train = Split(toy.train.images[..., :side, :side], toy.train.labels)
    real = replace(toy, train=train, class_names=names)
    with pytest.raises(DataError, match=message):
        FromFile(path=str(tmp_path))(real, need["ipc"], need["factor"], Streams(0))


def test_a_saved_set_with_soft_labels_is_refused(toy, tmp_path):
    soft = torch.full((3, 3), 1 / 3)
    synthetic = SyntheticSet.from_images(torch.rand(3, 1, 8, 8), toy, labels=soft)
    artefact.save(synthetic, tmp_path / "synthetic.safetensors")
    with pytest.raises(DataError, match="needs hard labels, 1 images of each class in class order"):
        FromFile(path=str(tmp_path))(toy, 1, 1, Streams(0))


def test_a_file_of_other_code_is_to_be_converted(toy, tmp_path):
    torch.save({"images": torch.zeros(3, 1, 8, 8)}, tmp_path / "data.pt")
    with pytest.raises(ArtefactError, match=r"data.pt.*dcond export FILE --to dcond dataset=NAME"):
        FromFile(path=str(tmp_path / "data.pt"))(toy, 1, 1, Streams(0))


def test_a_set_that_is_decoded_in_another_way_is_refused(toy, tmp_path):
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    made = replace(SyntheticSet.from_images(images, toy), align_corners=True)
    artefact.save(made, tmp_path / "synthetic.safetensors")
    assert torch.equal(FromFile(path=str(tmp_path))(toy, 1, 1, Streams(0)), images)
    artefact.save(replace(made, factor=2), tmp_path / "synthetic.safetensors")
    with pytest.raises(DataError, match="has align_corners True, this run needs False"):
        FromFile(path=str(tmp_path))(toy, 1, 2, Streams(0))

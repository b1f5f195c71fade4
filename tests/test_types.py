"""The records: normalisation, class rows, draws, decoded sets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dcond.errors import DataError
from dcond.multi_formation import decode
from dcond.types import ImageSpec, RealData, Split, SyntheticSet, draw_rows

SPEC = ImageSpec(3, 4, 4, 2, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def rng(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_normalising_is_per_channel_and_undone_by_its_inverse():
    pixels = torch.rand(5, 3, 4, 4, generator=rng(), dtype=torch.float64)
    normalised = SPEC.normalise(pixels)
    for c, (mean, std) in enumerate(zip(SPEC.mean, SPEC.std, strict=True)):
        torch.testing.assert_close(normalised[:, c], (pixels[:, c] - mean) / std)
    torch.testing.assert_close(SPEC.denormalise(normalised), pixels)
    by_class = pixels.view(5, 1, 3, 4, 4)
    torch.testing.assert_close(SPEC.normalise(by_class)[:, 0], normalised)


def test_class_rows_are_all_rows_of_the_class_in_order(toy):
    rows = toy.class_rows
    assert [len(r) for r in rows] == [40, 30, 50]
    assert torch.equal(torch.cat(rows).sort().values, torch.arange(120))
    for c, own in enumerate(rows):
        assert (toy.train.labels[own] == c).all()
        assert torch.equal(own, own.sort().values)


def test_a_class_without_images_has_no_rows():
    split = Split(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 2]))
    real = RealData("gap", split, split, ("a", "b", "c"), (0.5,), (0.5,))
    assert [len(r) for r in real.class_rows] == [1, 0, 1]


def test_pixels_are_bytes_over_255(toy):
    rows = torch.tensor([7, 3, 7])
    pixels = toy.pixels(rows)
    assert pixels.dtype == torch.float32
    assert torch.equal((pixels * 255).round().to(torch.uint8), toy.train.images[rows])
    torch.testing.assert_close(toy.normalised(rows), (pixels - 0.25) / 0.22)


def test_the_spec_says_what_a_network_must_know(toy):
    assert toy.spec == ImageSpec(1, 8, 8, 3, (0.25,), (0.22,))
    assert toy.device == torch.device("cpu")
    assert len(toy.train) == 120


def test_a_draw_takes_different_rows_where_there_are_enough(toy):
    drawn = toy.draw_per_class(30, rng())
    assert drawn.shape == (3, 30)
    for c, rows in enumerate(drawn):
        assert len(rows.unique()) == 30
        assert (toy.train.labels[rows] == c).all()


def test_a_small_class_gives_every_row_once_before_any_twice():
    rows = torch.tensor([10, 20, 30])
    drawn = draw_rows(rows, 8, rng())
    assert len(drawn) == 8
    assert set(drawn[:3].tolist()) == {10, 20, 30}
    assert set(drawn.tolist()) <= {10, 20, 30}


def test_every_row_is_drawn_equally_often():
    rows, generator = torch.arange(10), rng()
    counts = torch.bincount(
        torch.cat([draw_rows(rows, 3, generator) for _ in range(2000)]), minlength=10
    )
    assert (counts - 600).abs().max() < 100  # 600 each; the standard deviation is 20


def made(labels=None, factor=2, align_corners=False) -> SyntheticSet:
    images = torch.rand(6, 1, 8, 8, generator=rng(1))
    labels = torch.tensor([0, 0, 0, 1, 1, 1]) if labels is None else labels
    return SyntheticSet(images, labels, ("a", "b"), 3, (0.3,), (0.2,), factor, align_corners)


def test_by_class_is_a_view_that_gradients_pass_through():
    synthetic = made()
    synthetic.images.requires_grad_()
    assert synthetic.by_class.shape == (2, 3, 1, 8, 8)
    synthetic.by_class[1, 2].sum().backward()
    assert synthetic.images.grad.flatten(1).sum(1).tolist() == [0, 0, 0, 0, 0, 64]


@pytest.mark.parametrize("align_corners", [False, True])
def test_decoded_images_keep_their_labels(align_corners):
    synthetic = made(align_corners=align_corners)
    images, labels = synthetic.decoded()
    assert images.shape == (24, 1, 8, 8)
    assert torch.equal(images, decode(synthetic.images, 2, align_corners=align_corners))
    assert labels.tolist() == [0, 0, 0, 1, 1, 1] * 4
    level = (torch.arange(6) / 5).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    synthetic.images = level.clone()
    images, labels = synthetic.decoded()
    assert torch.equal(
        (images[:, 0, 0, 0] > 0.5).long(), labels
    )  # the image and its label, in the same row


def test_soft_labels_are_repeated_row_by_row():
    soft = torch.rand(6, 2, generator=rng(2))
    _, labels = made(soft).decoded()
    assert torch.equal(labels, soft.repeat(4, 1))


def test_the_class_of_an_image_with_a_soft_label_is_that_of_its_row():
    """Not the label's largest entry, which a teacher can get wrong; that only in a foreign set."""
    labels = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    ours = SyntheticSet(torch.rand(4, 3, 4, 4), labels, ("a", "b"), 2, SPEC.mean, SPEC.std)
    assert ours.classes.tolist() == [0, 0, 1, 1]
    foreign = replace(ours, metadata={"read_as": "pixels"})
    assert foreign.classes.tolist() == [0, 1, 0, 1]


def test_the_dataset_is_plain_decoded_and_normalised():
    synthetic = made()
    dataset = synthetic.dataset()
    assert len(dataset) == 24
    image, label = dataset[23]
    torch.testing.assert_close(image, (synthetic.decoded()[0][23] - 0.3) / 0.2)
    assert label == 1


@pytest.mark.parametrize("shape", [(6, 8, 8), (5, 1, 8, 8)])
def test_images_and_labels_must_match(shape):
    with pytest.raises(DataError) as error:
        SyntheticSet(
            torch.zeros(shape), torch.zeros(6, dtype=torch.long), ("a", "b"), 3, (0.3,), (0.2,)
        )
    assert str(error.value) == (
        f"a synthetic set needs images (n, c, h, w) and n labels; got images {shape} and labels (6,)."
    )


def test_moving_to_a_device_keeps_everything_else():
    synthetic = made()
    moved = synthetic.to(torch.device("meta"))
    assert moved.images.device.type == moved.labels.device.type == "meta"
    assert (moved.ipc, moved.factor, moved.class_names) == (3, 2, ("a", "b"))
    assert synthetic.images.device.type == "cpu"


def test_real_data_moves_whole(toy):
    moved = toy.to(torch.device("meta"))
    assert {t.device.type for s in (moved.train, moved.test) for t in (s.images, s.labels)} == {
        "meta"
    }
    assert toy.train.images.device.type == "cpu"


def test_records_are_shown_in_one_line(toy):
    assert repr(toy) == "RealData('toy', 60 training and 30 test images 1x8x8, 3 classes)".replace(
        "60", str(len(toy.train))
    ).replace("30", str(len(toy.test)))
    synthetic = SyntheticSet.from_images(torch.rand(6, 1, 8, 8), toy, factor=2)
    assert repr(synthetic) == "SyntheticSet(6 images 1x8x8, 3 classes, ipc=2, factor=2)"


def test_names_and_statistics_may_be_lists_and_numbers_of_any_kind(toy):
    given = replace(
        SyntheticSet.from_images(torch.rand(3, 1, 8, 8), toy),
        class_names=["a", "b", "c"],
        mean=torch.tensor([0.5]),
        std=[np.float32(0.25)],
    )
    assert (given.class_names, given.mean, given.std) == (("a", "b", "c"), (0.5,), (0.25,))


def test_pixels_as_bytes_are_not_normalised(toy):
    with pytest.raises(DataError, match=r"pixels are torch\.uint8; give pixels\.float\(\) / 255"):
        toy.spec.normalise(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))

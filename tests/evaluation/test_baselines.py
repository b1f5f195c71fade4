"""Random baselines: real images, whole or shrunken, drawn anew in every repeat."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dcond.evaluation import random_subset
from dcond.multi_formation import decode
from dcond.types import RealData, Split, SyntheticSet


@pytest.fixture
def condensed(toy) -> SyntheticSet:
    soft = torch.rand(9, 3, generator=torch.Generator().manual_seed(0))
    return SyntheticSet(
        torch.rand(9, 1, 8, 8),
        soft,
        toy.class_names,
        3,
        (0.3,),
        (0.4,),
        factor=2,
        align_corners=True,
    )


def test_stored_images_are_distinct_real_images_of_their_class(toy, condensed):
    got = random_subset(toy, condensed, 0, 0, factor=1)
    assert got.images.shape == (9, 1, 8, 8)
    assert got.labels.tolist() == [
        0,
        0,
        0,
        1,
        1,
        1,
        2,
        2,
        2,
    ]  # hard, though the condensed ones are soft
    real = toy.pixels(torch.arange(120)).flatten(1)
    matches = (got.images.flatten(1)[:, None] == real[None]).all(2)  # (stored, real)
    assert matches.any(1).all()
    rows = matches.float().argmax(1)
    assert len(rows.unique()) == 9
    assert torch.equal(toy.train.labels[rows], got.labels)


def test_shrunken_images_fill_the_same_storage_with_more_of_them(toy, condensed):
    got = random_subset(toy, condensed, 0, 0, factor=2)
    assert got.images.shape == condensed.images.shape
    assert got.factor == 2
    real = toy.pixels(torch.arange(120))
    small = F.interpolate(real, size=(4, 4), mode="bilinear", antialias=True).flatten(1)
    used = []
    for stored, label in zip(got.images, got.labels, strict=True):
        for row in (0, 4):
            for col in (0, 4):
                cell = stored[:, row : row + 4, col : col + 4].flatten()
                gap, which = (small - cell).abs().amax(1).min(0)
                assert gap < 1e-6
                assert toy.train.labels[which] == label
                used.append(int(which))
    assert len(set(used)) == 36
    images, labels = got.decoded()
    assert images.shape == (36, 1, 8, 8)
    assert len(labels) == 36


def test_normalisation_and_decoding_are_those_of_the_condensed_set(toy, condensed):
    got = random_subset(toy, condensed, 0, 0, factor=1)
    assert got.align_corners
    assert (got.mean, got.std, got.ipc, got.class_names) == ((0.3,), (0.4,), 3, toy.class_names)


def test_every_repeat_seed_and_factor_draws_anew(toy, condensed):
    def draw(seed, repeat):
        return random_subset(toy, condensed, seed, repeat, factor=1).images

    assert torch.equal(draw(0, 0), draw(0, 0))
    assert not torch.equal(draw(0, 0), draw(0, 1))
    assert not torch.equal(draw(0, 0), draw(1, 0))


def test_the_global_generator_is_unchanged(toy, condensed):
    before = torch.get_rng_state()
    random_subset(toy, condensed, 0, 0, factor=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_small_class_beside_one_with_more_stored_images(toy, condensed):
    """30 real images of a class, of which two are stored, and 40 of another one."""
    counts = torch.tensor([40, 2, 3])
    labels = torch.arange(3).repeat_interleave(counts)
    images = torch.rand(len(labels), 1, 8, 8)
    uneven = replace(condensed, images=images, labels=labels, ipc=15, factor=1)
    packed = random_subset(toy, uneven, 0, 0, factor=2)
    small = decode(packed.images[40:42], 2).flatten(1)  # of the class with two
    assert len(small.unique(dim=0)) == 8
    got = random_subset(toy, uneven, 0, 0, factor=1)
    assert torch.equal(got.counts.cpu(), counts)
    real = toy.pixels(torch.arange(120)).flatten(1)
    distances = torch.cdist(got.images.flatten(1), real)
    assert torch.equal(toy.train.labels[distances.argmin(1)], labels)
    assert len(distances.argmin(1).unique()) == len(labels)


def test_a_class_with_too_few_images_to_shrink_repeats_them(condensed):
    labels = torch.arange(3).repeat_interleave(5)
    images = torch.randint(
        256, (15, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    few = Split(images, labels)
    real = RealData("few", few, few, ("left", "right", "low"), (0.5,), (0.2,))
    assert random_subset(real, condensed, 0, 0, factor=2).decoded()[0].shape == (36, 1, 8, 8)

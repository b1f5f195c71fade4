"""Layouts of no public code: arrays in an npz, folders of images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dcond.artefact import content_hash
from dcond.errors import ArtefactError, DataError, UnsupportedError
from dcond.evaluation import random_subset
from dcond.importers import Source


@pytest.mark.parametrize("shape", ["n h w", "n h w c", "n c h w"])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
def test_npz(shape, kind, tmp_path, known, load):
    images = known.pixels.numpy()
    images = {"n h w": images[:, 0], "n h w c": images.transpose(0, 2, 3, 1), "n c h w": images}[
        shape
    ]
    images = (images * 255).astype(np.uint8) if kind == "uint8" else images.astype(kind)
    np.savez(tmp_path / "x.npz", images=images, labels=known.labels.numpy())
    got = load(tmp_path / "x.npz")
    assert known.same(got, tolerance=1 / 255 if kind == "uint8" else 1e-6)
    assert (got.mean, got.std) == ((0.25,), (0.22,))  # the data set's own


def test_npz_says_its_factor_and_classes(tmp_path, known, load):
    names = np.array(["low", "left", "right"])
    np.savez(
        tmp_path / "x.npz",
        images=known.pixels,
        labels=known.labels,
        class_names=names,
        factor=np.array(2),
    )
    got = load(tmp_path / "x.npz")
    assert got.factor == 2
    assert torch.equal(got.labels, known.labels)
    assert torch.allclose(
        got.images, known.pixels[[2, 3, 4, 5, 0, 1]]
    )  # "left" comes first in the data set


def test_npz_says_the_statistics_of_its_networks(tmp_path, known, load):
    content = {"images": known.pixels, "labels": known.labels}
    np.savez(tmp_path / "x.npz", mean=np.float32([0.5]), std=0.25, **content)
    got = load(tmp_path / "x.npz")
    assert known.same(got)
    assert (got.mean, got.std) == ((0.5,), (0.25,))
    np.savez(
        tmp_path / "n.npz",
        images=(known.pixels - 0.5) / 0.25,
        labels=known.labels,
        mean=np.float32([0.5]),
        std=0.25,
    )
    assert known.same(load(tmp_path / "n.npz", normalised=True))
    sources = [Source(path=str(tmp_path / name)).read() for name in ("x.npz", "n.npz")]
    plain = replace(sources[0], statistics=None)
    assert len({content_hash(each) for each in (*sources, plain)}) == 3
    np.savez(tmp_path / "flat.npz", images=np.ones(3), labels=np.ones(3), mean=[0.5], std=[1.0])
    with pytest.raises(ArtefactError, match="images must be"):
        load(tmp_path / "flat.npz")
    for mean, std, message in (
        ([0.5, 0.5], [0.2], r"mean is \[0\.5, 0\.5\]; save 1 finite number\(s\), or leave mean"),
        (
            [0.5],
            [0.0],
            r"std is \[0\.0\]; save 1 finite number\(s\) above 0, or leave mean and std",
        ),
        (["a"], [0.2], "mean is "),
    ):
        np.savez(tmp_path / "x.npz", mean=np.array(mean), std=np.array(std), **content)
        with pytest.raises(ArtefactError, match=message):
            load(tmp_path / "x.npz")


def test_npz_outside_the_box_stops(tmp_path, known, load):
    np.savez(tmp_path / "x.npz", images=known.normalised, labels=known.labels)
    with pytest.raises(UnsupportedError, match="does not say whether"):
        load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", images=known.pixels * 255, labels=known.labels)
    with pytest.raises(DataError, match=r"pixels are in \[0, 1\], or uint8\.$"):
        load(tmp_path / "x.npz", normalised=False)


def test_npz_beyond_the_range_of_float32(tmp_path, known, load):
    images = known.pixels.double().numpy()
    images[0, 0, 0, 0] = 1e300
    np.savez(tmp_path / "x.npz", images=images, labels=known.labels)
    with pytest.raises(DataError, match="images must be uint8 or finite floating point"):
        load(tmp_path / "x.npz", normalised=False)


def test_npz_that_lacks_something(tmp_path, known, load):
    np.savez(tmp_path / "x.npz", x=known.pixels)
    with pytest.raises(
        ArtefactError,
        match=r"lacks images, labels; an npz of a synthetic set holds images and labels",
    ):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "folders",
    [("00000", "00001", "00002"), ("new000", "new001", "new002"), ("left", "Right", "LOW"), "012"],
)
def test_image_folder(folders, tmp_path, known, load):
    """RDED, SRe2L, and folders by name: 8 bits, classes by name or number whatever the order of the
    folders.
    """
    for row, (pixels, label) in enumerate(zip(known.pixels, known.labels, strict=True)):
        file = tmp_path / folders[label] / f"class{label}_id{row:03d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray((pixels[0] * 255).byte().numpy()).save(file)
    got = load(tmp_path)
    assert known.same(got, tolerance=1 / 255)
    assert got.factor == 1
    with pytest.raises(
        DataError, match=r"holds 8-bit pixels, which excludes synthetic\.normalised; remove it\.$"
    ):
        load(tmp_path, normalised=True)
    with pytest.raises(DataError, match=r"which excludes synthetic\.mean"):
        load(tmp_path, mean=[0.5], std=[0.5])


def test_image_folder_of_unknown_classes(tmp_path, load):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "x.png")
    with pytest.raises(DataError) as error:
        load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: its 3 classes (a, b, c) match the 3 of 'mnist' (left, right, low) "
        "neither by name nor by numbers from 0; rename them, or use the data set that it was "
        "made from (dataset=NAME)."
    )
    Image.new("L", (9, 8)).save(tmp_path / "a" / "y.png")
    with pytest.raises(
        DataError,
        match=r"images differ in size: .* Bring them to the size of the data set first\.$",
    ):
        load(tmp_path)


def test_classes_may_have_different_numbers_of_images(tmp_path, load, known, mnist):
    """The random images are as many of each class."""
    labels = torch.tensor([2, 0, 0, 1, 0, 2])
    np.savez(tmp_path / "set.npz", images=known.pixels.numpy(), labels=labels.numpy())
    got = load(tmp_path / "set.npz")
    assert got.ipc == 2
    assert got.counts.tolist() == [3, 1, 2]
    assert got.labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert torch.equal(got.images, known.pixels[[1, 2, 4, 3, 0, 5]])
    for factor in (1, 2):
        random = random_subset(mnist, got, 0, 0, factor=factor)
        assert torch.equal(random.labels, got.labels)
        assert random.images.shape == got.images.shape
    images = random_subset(mnist, got, 0, 0, factor=1).images.flatten(1)
    real = mnist.pixels(torch.arange(len(mnist.train))).flatten(1)
    rows = (images[:, None] == real[None]).all(2).float().argmax(1)
    assert torch.equal(mnist.train.labels[rows], got.labels)

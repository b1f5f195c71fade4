"""Where images are kept changes no byte of a result; and made in parts, a step is the one made at
once.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from dcond.augment import DiffAug
from dcond.data import ImageFolder, Npz, write_prepared
from dcond.data.prepared import check_prepared
from dcond.matching import batches as views
from dcond.matching import lazy_batch as real_batch
from dcond.matching.batches import (
    class_features,
    mix_real_within_classes,
    mix_within_classes,
    siamese_augment,
)
from dcond.matching.lazy_batch import RealBatch
from dcond.models import MLP
from dcond.rng import Streams, generator

SMALL = {"steps": 2, "width": 8, "train_steps": 3}
METHODS = ["dm", "m3d", "dsa", "kmeans", "herding", "rded", "lgm"]
STEPPING = ["dm", "m3d", "ncfm", "idm", "dsa", "degm", "idc", "hmdc"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The same 24 and 6 images of three classes in an npz file and in a folder."""
    root = tmp_path_factory.mktemp("kept")
    rng = np.random.default_rng(0)
    arrays = {}
    for split, each in (("train", 8), ("test", 2)):
        images = rng.integers(0, 256, (3 * each, 8, 8, 1), dtype=np.uint8)
        labels = np.repeat(np.arange(3), each)
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = root / "folder" / split / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(place / f"{row:02}.png")
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    write_prepared(root / "toy.npz", check_prepared(arrays))
    folder = {"path": str(root / "folder"), "data_dir": str(root)}
    return {
        "device": Npz(path=str(root / "toy.npz"), keep="device").load(),
        "host": Npz(path=str(root / "toy.npz"), keep="host").load(),
        "disk": Npz(path=str(root / "toy.npz"), keep="disk").load(),
        "decoded": ImageFolder(**folder, keep="disk").load(),
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_bytes_are_the_same_wherever_images_are_kept(method, kept, condense):
    found = {place: condense(method, real, ipc=1, **SMALL).bytes for place, real in kept.items()}
    assert len(set(found.values())) == 1
    assert len(found["device"]) > 100


def in_parts(monkeypatch):
    """Let nothing be held whole: one class of a batch at a time, and the features of one class."""
    monkeypatch.setattr(real_batch, "WHOLE_BYTES", 0)
    monkeypatch.setattr(real_batch, "PART_BYTES", 0)
    monkeypatch.setattr(views, "FEATURE_BYTES", 0)


@pytest.mark.parametrize("method", STEPPING)
def test_a_step_made_class_by_class_is_the_one_made_at_once(method, toy, condense, monkeypatch):
    arguments = (
        ["init=real", "method.real_selection=random"] if method == "hmdc" else []
    )  # k-means draws class after class
    once = condense(method, toy, *arguments, **SMALL, chunk=16)
    in_parts(monkeypatch)
    parts = condense(method, toy, *arguments, **SMALL, chunk=1)
    assert parts.losses == pytest.approx(once.losses, rel=1e-3)
    torch.testing.assert_close(parts.synthetic.images, once.synthetic.images, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["herding", "k_center"])
def test_a_choice_made_class_by_class_is_the_one_made_at_once(method, toy, condense, monkeypatch):
    once = condense(method, toy, **SMALL).bytes
    in_parts(monkeypatch)
    assert condense(method, toy, **SMALL).bytes == once


def test_k_means_class_by_class_chooses_real_images_of_the_class(toy, condense, monkeypatch):
    in_parts(monkeypatch)
    chosen = condense("kmeans", toy, **SMALL).synthetic.by_class.detach()
    for own, rows in zip(chosen, toy.class_rows, strict=True):
        theirs = toy.pixels(rows).flatten(1)
        assert all((theirs == image.flatten()).all(1).any() for image in own)


def batch(seed: int = 0) -> RealBatch:
    images = torch.randn(5, 4, 3, 8, 8, generator=generator(seed, "batch"))
    return RealBatch.made_by(
        lambda begin, end: images[begin:end], tuple(images.shape), images.device
    )


def changed(real: RealBatch) -> tuple[RealBatch, torch.Tensor]:
    augment = DiffAug(["color", "crop", "cutout", "flip", "scale", "rotate"])
    rng = generator(1, "augmentation")
    ours, theirs = siamese_augment(augment, real, torch.zeros(5, 2, 3, 8, 8), rng)
    return mix_real_within_classes(ours, 0.5, rng), theirs


def test_a_batch_in_parts_holds_the_augmented_and_mixed_images_of_the_whole_one(monkeypatch):
    whole, synthetic = changed(batch())
    assert whole.at_once == 5
    in_parts(monkeypatch)
    parts, again = changed(batch())
    assert parts.at_once == 1
    torch.testing.assert_close(parts.tensor(), whole.tensor())
    torch.testing.assert_close(torch.cat(list(parts.parts())), whole.tensor())
    torch.testing.assert_close(
        torch.cat([part.tensor() for part in parts.split(2)]), whole.tensor()
    )
    torch.testing.assert_close(parts.split(2)[1].first(3), whole.tensor()[2:4, :3])
    assert torch.equal(synthetic, again)


def test_a_real_batch_is_mixed_as_a_synthetic_one():
    real = batch()
    mixed = mix_real_within_classes(real, 1.0, generator(0, "mix")).tensor()
    assert torch.equal(mixed, mix_within_classes(real.tensor(), 1.0, generator(0, "mix")))
    assert not torch.equal(mixed, real.tensor())


def test_no_more_of_a_large_batch_exists_than_is_used(monkeypatch):
    in_parts(monkeypatch)
    made = []

    def make(begin, end):
        made.append((begin, end))
        return torch.zeros(end - begin, 2, 1, 4, 4)

    large = RealBatch.made_by(make, (6, 2, 1, 4, 4), torch.device("cpu")).then(
        lambda images, begin, end: images + begin
    )
    assert made == []
    assert [float(images.max()) for images in large.parts()] == [0, 1, 2, 3, 4, 5]
    assert made == [(c, c + 1) for c in range(6)]


@pytest.mark.parametrize(
    ("sizes", "most", "groups"),
    [
        ([3, 3, 3], 9, [3]),
        ([3, 3, 3], 8, [2, 1]),
        ([5, 1, 1, 1, 1], 9, [1, 4]),  # five classes of nine images: 25 rows when padded
        ([1, 1, 5, 1, 1], 9, [2, 1, 2]),
        ([20, 1], 9, [1, 1]),
    ],
)
def test_a_group_of_classes_counts_as_its_largest(sizes, most, groups):
    found = views._groups([torch.arange(size) for size in sizes], most)
    assert [len(group) for group in found] == groups
    assert [len(rows) for group in found for rows in group] == sizes


@pytest.mark.parametrize(("held", "groups"), [(2**29, [3]), (4 * 16 * 100, [2, 1]), (0, [1, 1, 1])])
def test_features_are_held_for_as_many_classes_as_fit(toy, monkeypatch, held, groups):
    monkeypatch.setattr(views, "FEATURE_BYTES", held)
    network = MLP(name="MLP", hidden=(16,)).build(toy.spec, Streams(0).networks)
    found = list(class_features(network, toy, 256))
    assert [len(group.places) for group in found] == groups
    rows = [group.rows[places] for group in found for places in group.places]
    assert all(torch.equal(a, b) for a, b in zip(rows, toy.class_rows, strict=True))
    plain = network.eval().embed(toy.normalised(torch.arange(120)))
    for group in found:
        torch.testing.assert_close(group.features, plain[group.rows].detach())

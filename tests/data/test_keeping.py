"""Where images are kept: on the device, in host memory or on disk, always the same ones."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from PIL import Image

from dcond.data import Digits, ImageFolder, Npz, keeping, statistics, write_prepared
from dcond.data.member import open_member
from dcond.data.prepared import check_prepared
from dcond.errors import ConfigError, DataError
from dcond.evaluate import full
from dcond.evaluate.accuracy import accuracy
from dcond.evaluate.whole import fingerprint
from dcond.models import MLP
from dcond.rng import Streams
from dcond.types import Split


def arrays(train=20, test=6, side=4, channels=3):
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (train, side, side, channels), dtype=np.uint8),
        "train_labels": np.arange(train) % 3,
        "test_images": rng.integers(0, 256, (test, side, side, channels), dtype=np.uint8),
        "test_labels": np.arange(test) % 3,
    }


@pytest.fixture
def npz(tmp_path):
    """A prepared file of 20 and 6 images, 4 x 4 colour."""
    write_prepared(tmp_path / "toy.npz", check_prepared(arrays()))
    return tmp_path / "toy.npz"


@pytest.fixture
def folder(tmp_path):
    """40 classes of 3 training images and 1 test image, of unlike sizes and kinds."""
    rng = np.random.default_rng(0)
    for c in range(40):
        for split, count in (("train", 3), ("test", 1)):
            place = tmp_path / "images" / split / f"class {c:02}"
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (8 + i, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.{'jpg' if c % 2 else 'png'}")
    return tmp_path / "images"


def all_of(split: Split) -> torch.Tensor:
    return torch.cat([images for images, _ in split.batches(7)])


def assert_same(a: Split, b: Split) -> None:
    rows = torch.tensor([3, 1, 1, 5])
    assert torch.equal(a.labels, b.labels)
    assert a.images.shape == b.images.shape
    assert torch.equal(all_of(a), all_of(b))
    assert torch.equal(a.take(rows), b.take(rows))
    assert torch.equal(all_of(a.part(rows)), all_of(b.part(rows)))
    assert torch.equal(a.part(rows).take(torch.tensor([2, 0])), b.take(torch.tensor([1, 3])))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_left_on_disk_gives_the_images_of_one_in_memory(tmp_path, channels):
    write_prepared(tmp_path / "toy.npz", check_prepared(arrays(channels=channels)))
    memory, disk = (Npz(path=str(tmp_path / "toy.npz"), keep=keep).load() for keep in ("device", "disk"))
    assert isinstance(memory.train.images, torch.Tensor)
    assert not isinstance(disk.train.images, torch.Tensor)
    assert (memory.mean, memory.std, memory.spec) == (disk.mean, disk.std, disk.spec)
    for split in ("train", "test"):
        assert_same(getattr(memory, split), getattr(disk, split))


def test_grey_images_without_a_channel_axis_are_left_on_disk_too(tmp_path):
    given = arrays(channels=1)
    np.savez(tmp_path / "toy.npz", **{key: value[..., 0] if value.ndim == 4 else value for key, value in given.items()})
    real = Npz(path=str(tmp_path / "toy.npz"), keep="disk").load()
    assert real.train.images.shape == (20, 1, 4, 4)
    np.testing.assert_array_equal(real.train.take(torch.tensor([7]))[0, 0].numpy(), given["train_images"][7, ..., 0])


def test_a_folder_on_disk_is_decoded_as_one_in_memory_by_any_number_of_threads(folder, tmp_path):
    settings = {"path": str(folder), "size": 6, "data_dir": str(tmp_path / "data")}
    memory = ImageFolder(**settings).load()
    assert isinstance(memory.train.images, torch.Tensor)
    torch.set_num_threads(3)
    try:
        disk = ImageFolder(**settings, keep="disk").load()
        for split in ("train", "test"):
            assert_same(getattr(memory, split), getattr(disk, split))
    finally:
        torch.set_num_threads(1)
    assert (memory.mean, memory.std, memory.class_names) == (disk.mean, disk.std, disk.class_names)


def test_a_damaged_image_is_named_when_it_is_wanted(folder, tmp_path):
    damaged = folder / "train" / "class 04" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    dataset = ImageFolder(path=str(folder), size=6, channels=3, keep="disk", data_dir=str(tmp_path / "data"))
    words = r"class 04.1\.png cannot be read as an image \(.+\); replace or remove it\."
    with pytest.raises(DataError, match=words):
        dataset.load()  # mean and std look at every image
    train = dataset.arrays().train_images
    assert train[:5].shape == (5, 6, 6, 3)
    with pytest.raises(DataError, match=words):
        train[np.array([0, 13, 2])]


def test_an_image_replaced_by_one_of_another_size_is_named(tmp_path):
    for name in ("a", "b"):
        for split in ("train", "test"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("L", (4, 5)).save(tmp_path / split / name / "0.png")
    images = ImageFolder(path=str(tmp_path)).arrays().train_images
    Image.new("L", (4, 4)).save(tmp_path / "train/b/0.png")
    with pytest.raises(DataError, match=r"0\.png is 4 x 4 now and was 4 x 5 when it was listed; start anew"):
        images[:]


def test_mean_and_std_of_a_folder_on_disk_are_kept_until_an_image_changes(folder, tmp_path, caplog, monkeypatch):
    dataset = ImageFolder(path=str(folder), name="bugs", size=6, keep="disk", data_dir=str(tmp_path / "data"))
    with caplog.at_level(logging.INFO, logger="dcond"):
        first = dataset.load()
    (file,) = (tmp_path / "data" / "statistics").iterdir()
    assert file.name.startswith("bugs_")
    assert json.loads(file.read_text())["images"] == 120
    assert "bugs: taking mean and std of 120 images, once" in caplog.text
    assert "bugs: 120 training images, 0.0 MB, on disk, read when wanted (as dataset.keep says)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="dcond"):
        again = dataset.load()
        assert "once" not in caplog.text
        assert (again.mean, again.std) == (first.mean, first.std)
        Image.new("RGB", (9, 9), (255, 0, 0)).save(folder / "train" / "class 00" / "0.png")
        assert dataset.load().mean != first.mean
        file.write_text("{")
        Image.new("RGB", (9, 9), (255, 0, 0)).save(folder / "train" / "class 00" / "0.png")
    assert caplog.text.count("once") == 1


def test_a_sample_gives_mean_and_std_of_its_own_images(npz, monkeypatch):
    monkeypatch.setattr(statistics, "SAMPLE", 8)
    whole, one, two = (
        Npz(path=str(npz), stats=stats, keep=keep).load()
        for stats, keep in (("pixel", "disk"), ("sample", "device"), ("sample", "disk"))
    )
    assert (one.mean, one.std) == (two.mean, two.std) != (whole.mean, whole.std)
    monkeypatch.setattr(statistics, "SAMPLE", 20)
    assert Npz(path=str(npz), stats="sample").load().mean == whole.mean


def test_the_checksum_is_compared_when_all_is_read_in_order(npz):
    content = bytearray(npz.read_bytes())
    content[600] ^= 1  # among the training pixels
    npz.write_bytes(content)
    for keep in ("device", "disk"):
        with pytest.raises(DataError, match=r"toy\.npz cannot be read as an npz file \(Bad CRC-32 for file 'train_im"):
            Npz(path=str(npz), keep=keep).load()


def test_any_rows_are_read_from_their_place(npz):
    images = open_member(npz, "train_images")
    plain = np.load(npz)["train_images"]
    for rows in (np.array([19, 0, 4, 4]), slice(3, 20), slice(None), slice(2, 15, 4), slice(5, 5), np.array([], int)):
        np.testing.assert_array_equal(images[rows], plain[rows])


def test_a_file_cut_short_while_it_is_open_is_named(npz):
    images = open_member(npz, "test_images")
    npz.write_bytes(npz.read_bytes()[:700])
    with pytest.raises(DataError, match=r"toy\.npz ended before its images did; write or copy it again\."):
        images[np.array([5])]


@pytest.mark.parametrize("how", ["compressed", "floats"])
def test_what_must_be_read_whole_is_and_not_left_on_disk(tmp_path, how):
    given, file = arrays(), tmp_path / "toy.npz"
    if how == "compressed":
        np.savez_compressed(file, **given)
    else:
        np.savez(file, **given | {"test_images": given["test_images"] / 255})
    real = Npz(path=str(file)).load()
    np.testing.assert_array_equal(real.train.take(torch.tensor([3]))[0].permute(1, 2, 0), given["train_images"][3])
    with pytest.raises(DataError, match=r"dataset\.keep=disk: npz cannot be read piece by piece, for the npz file"):
        Npz(path=str(file), keep="disk").load()


def test_unknown_places_and_sets_made_in_memory_are_refused():
    with pytest.raises(ConfigError, match=r"dataset\.keep='dsik' is unknown; allowed: auto, device, host, disk\. Did"):
        Digits(keep="dsik")
    with pytest.raises(DataError, match=r"dataset\.keep=disk: digits cannot be read piece by piece, for it is made in"):
        Digits(keep="disk").load()


class Sized:
    """Images of a size that no machine has to hold."""

    def __init__(self, size: int):
        self.shape = (size, 1, 1, 1)

    def __len__(self) -> int:
        return self.shape[0]


@pytest.mark.parametrize(
    ("train", "test", "in_memory", "expected"),
    [
        (40, 10, "", ("device", "device")),
        (45, 10, "", ("host", "device")),  # the test split takes the device's room first
        (150, 60, "", ("disk", "host")),
        (450, 10, "", ("disk", "device")),
        (450, 300, "", ("disk", "disk")),
        (450, 10, "it is made in memory", ("host", "device")),
    ],
)
def test_auto_takes_the_first_place_with_room_for_half_of_what_is_free(
    monkeypatch, caplog, train, test, in_memory, expected
):
    data = check_prepared(arrays(), in_memory)
    data.train_images, data.test_images = Sized(train * 10**6), Sized(test * 10**6)
    monkeypatch.setattr(keeping, "free_bytes", lambda device: 100 * 10**6)
    monkeypatch.setattr(keeping, "free_host_bytes", lambda: 400 * 10**6)
    with caplog.at_level(logging.INFO, logger="dcond"):
        assert keeping.places("big", data, "auto", torch.device("cuda")) == expected
    if expected == ("disk", "device"):
        assert caplog.messages == [
            "big: 450,000,000 training images, 450.0 MB, on disk, read when wanted "
            "(room for 40.0 MB on the device; room for 200.0 MB in host memory)"
        ]
    if expected == ("device", "device"):
        assert not caplog.messages  # as always


def test_unknown_free_memory_counts_as_room(monkeypatch):
    monkeypatch.setattr(keeping, "free_bytes", lambda device: None)
    data = check_prepared(arrays(), "")
    assert keeping.places("x", data, "auto", torch.device("cpu")) == ("device", "device")
    assert keeping._room(torch.device("cpu")) == {"device": math.inf}


def test_a_set_in_host_memory_computes_on_the_device():
    real = Digits(keep="host").load("meta")
    assert real.device.type == "meta"
    assert real.train.images.device.type == "cpu"
    assert real.train.take(torch.tensor([0, 1])).device.type == "meta"
    assert next(real.test.batches(10))[0].device.type == "meta"


def test_an_evaluation_finds_the_same_wherever_images_are_kept(npz):
    memory, disk = (Npz(path=str(npz), keep=keep).load() for keep in ("device", "disk"))
    assert fingerprint(memory) == fingerprint(disk)
    (ours, kept), (theirs, also) = full.held_out_rows(memory), full.held_out_rows(disk)
    assert torch.equal(kept, also)
    assert torch.equal(all_of(ours), all_of(theirs))
    network = MLP(name="MLP", hidden=(4,)).build(memory.spec, Streams(0).networks)
    assert accuracy(network, memory.spec, memory.test, 4) == accuracy(network, disk.spec, disk.test, 4)

"""Where images are kept: on the device, in host memory or on disk, always the same ones."""

import logging
import math

import numpy as np
import pytest
import torch

from dcond.data import Digits, ImageFolder, Npz, write_prepared
from dcond.data import placement as keeping
from dcond.data.fingerprint import fingerprint
from dcond.data.prepared import check_prepared
from dcond.errors import ConfigError, DataError
from dcond.evaluation import full_data as full
from dcond.models import MLP
from dcond.rng import Streams
from dcond.training.accuracy import accuracy
from dcond.types import Split
from helpers.pictures import arrays


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
    memory, disk = (
        Npz(path=str(tmp_path / "toy.npz"), keep=keep).load() for keep in ("device", "disk")
    )
    assert isinstance(memory.train.images, torch.Tensor)
    assert not isinstance(disk.train.images, torch.Tensor)
    assert (memory.mean, memory.std, memory.spec) == (disk.mean, disk.std, disk.spec)
    for split in ("train", "test"):
        assert_same(getattr(memory, split), getattr(disk, split))


def test_grey_images_without_a_channel_axis_are_left_on_disk_too(tmp_path):
    given = arrays(channels=1)
    np.savez(
        tmp_path / "toy.npz",
        **{key: value[..., 0] if value.ndim == 4 else value for key, value in given.items()},
    )
    real = Npz(path=str(tmp_path / "toy.npz"), keep="disk").load()
    assert real.train.images.shape == (20, 1, 4, 4)
    np.testing.assert_array_equal(
        real.train.take(torch.tensor([7]))[0, 0].numpy(), given["train_images"][7, ..., 0]
    )


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


def test_unknown_places_and_sets_made_in_memory_are_refused():
    with pytest.raises(
        ConfigError,
        match=r"Digits\.keep='dsik' is unknown; allowed: auto, device, host, disk\. Did",
    ):
        Digits(keep="dsik")
    with pytest.raises(
        DataError,
        match=r"dataset\.keep=disk: digits cannot be read in parts, because it is made in",
    ):
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
        assert keeping.choose_places("big", data, "auto", torch.device("cuda")) == expected
    if expected == ("disk", "device"):
        assert caplog.messages == [
            "big: 450,000,000 training images, 450.0 MB, on disk, read on demand "
            "(room for 40.0 MB on the device; room for 200.0 MB in host memory)"
        ]
    if expected == ("device", "device"):
        assert not caplog.messages  # as always


def test_unknown_free_memory_counts_as_room(monkeypatch):
    monkeypatch.setattr(keeping, "free_bytes", lambda device: None)
    data = check_prepared(arrays(), "")
    assert keeping.choose_places("x", data, "auto", torch.device("cpu")) == ("device", "device")
    assert keeping._room(torch.device("cpu")) == {"device": math.inf}


def test_images_in_host_memory_stay_there():
    real = Digits(keep="host").load("meta").to(torch.device("meta"))
    assert real.train.images.device.type == real.test.images.device.type == "cpu"
    moved = Digits().load().to(torch.device("meta"))
    assert moved.train.images.device.type == moved.train.labels.device.type == "meta"


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
    assert accuracy(network, memory.spec, memory.test, 4) == accuracy(
        network, disk.spec, disk.test, 4
    )

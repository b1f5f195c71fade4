"""What is read from disk when it is wanted: the right rows, damage that is named, mean and std that
are kept.
"""

import copy
import gc
import json
import logging
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dcond.data import ImageFolder, Npz, statistics, validate
from dcond.data.npz_images import MemberImages, open_member
from dcond.errors import DataError
from helpers.pictures import arrays


def test_a_damaged_image_is_named_when_it_is_wanted(folder, tmp_path):
    damaged = folder / "train" / "class 04" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    dataset = ImageFolder(
        path=str(folder), size=6, channels=3, keep="disk", data_dir=str(tmp_path / "data")
    )
    message = r"class 04.1\.png cannot be read as an image \(.+\); replace or remove it\."
    with pytest.raises(DataError, match=message):
        dataset.load()  # mean and std look at every image
    train = dataset.arrays().train_images
    assert train[:5].shape == (5, 6, 6, 3)
    with pytest.raises(DataError, match=message):
        train[np.array([0, 13, 2])]


def test_an_image_replaced_by_one_of_another_size_is_named(tmp_path):
    for name in ("a", "b"):
        for split in ("train", "test"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("L", (4, 5)).save(tmp_path / split / name / "0.png")
    images = ImageFolder(path=str(tmp_path)).arrays().train_images
    Image.new("L", (4, 4)).save(tmp_path / "train/b/0.png")
    with pytest.raises(
        DataError, match=r"0\.png is 4 x 4 now and was 4 x 5 when it was listed; start again"
    ):
        images[:]


def test_mean_and_std_of_a_folder_on_disk_are_cached_until_an_image_changes(
    folder, tmp_path, caplog, monkeypatch
):
    dataset = ImageFolder(
        path=str(folder), name="bugs", size=6, keep="disk", data_dir=str(tmp_path / "data")
    )
    with caplog.at_level(logging.INFO, logger="dcond"):
        first = dataset.load()
    (file,) = (tmp_path / "data" / "statistics").iterdir()
    assert file.name.startswith("bugs_")
    assert json.loads(file.read_text())["images"] == 120
    assert "bugs: measuring mean and std of 120 images, once" in caplog.text
    assert (
        "bugs: 120 training images, 0.0 MB, on disk, read on demand (dataset.keep)" in caplog.text
    )
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="dcond"):
        again = dataset.load()
        assert "once" not in caplog.text
        assert (again.mean, again.std) == (first.mean, first.std)
        Image.new("RGB", (9, 9), (255, 0, 0)).save(folder / "train" / "class 00" / "0.png")
        changed = dataset.load()
        assert changed.mean != first.mean
        assert caplog.text.count("once") == 1
        for entry in file.parent.iterdir():
            entry.write_text("{")  # damaged
        assert dataset.load().mean == changed.mean
    assert caplog.text.count("once") == 2


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
        with pytest.raises(
            DataError,
            match=r"toy\.npz cannot be read as an npz file \(Bad CRC-32 for file 'train_im",
        ):
            Npz(path=str(npz), keep=keep).load()


@pytest.mark.parametrize("keep", ["device", "disk"])
def test_the_checksum_is_compared_when_some_classes_are_read_in_order(keep, npz, monkeypatch):
    monkeypatch.setattr(validate, "PART_BYTES", 100)  # two images
    part = Npz(path=str(npz), keep=keep, classes=[2, 0])
    part.load()
    content = bytearray(npz.read_bytes())
    content[content.index(arrays()["train_images"][1].tobytes())] ^= 1  # of the class left out
    npz.write_bytes(content)
    with pytest.raises(DataError, match=r"\(Bad CRC-32 for file 'train_images\.npy'\); write or"):
        part.load()
    monkeypatch.setattr(statistics, "SAMPLE", 5)
    if keep == "disk":
        replace(part, stats="sample").load()  # reads few images, of the chosen classes


def test_the_checksum_is_compared_once(npz, monkeypatch):
    images, reads = open_member(npz, "train_images"), []
    read = MemberImages._read
    monkeypatch.setattr(MemberImages, "_read", lambda *args: reads.append(1) or read(*args))
    images[:]
    images.verify()
    assert len(reads) == 1
    again = open_member(npz, "train_images")
    again.verify()
    again[:5]
    again.verify()
    assert len(reads) == 3


def test_a_validation_split_in_place_of_the_test_split_stays_on_disk(npz, tmp_path):
    content = {key.replace("test_", "val_"): array for key, array in arrays().items()}
    np.savez(tmp_path / "val.npz", **content)
    real, usual = (Npz(path=str(path), keep="disk").load() for path in (tmp_path / "val.npz", npz))
    assert not isinstance(real.test.images, torch.Tensor)
    assert torch.equal(real.test.take(torch.arange(6)), usual.test.take(torch.arange(6)))


def test_any_rows_are_read_from_their_place(npz):
    images = open_member(npz, "train_images")
    plain = np.load(npz)["train_images"]
    for rows in (
        np.array([19, 0, 4, 4]),
        slice(3, 20),
        slice(None),
        slice(2, 15, 4),
        slice(5, 5),
        np.array([], int),
    ):
        np.testing.assert_array_equal(images[rows], plain[rows])


def test_a_file_cut_short_while_it_is_open_is_named(npz):
    images = open_member(npz, "test_images")
    npz.write_bytes(npz.read_bytes()[:700])
    with pytest.raises(
        DataError, match=r"toy\.npz ended before its images did; write or copy it again\."
    ):
        images[np.array([5])]


@pytest.mark.parametrize("how", ["compressed", "floats"])
def test_what_must_be_read_whole_is_and_not_left_on_disk(tmp_path, how):
    given, file = arrays(), tmp_path / "toy.npz"
    if how == "compressed":
        np.savez_compressed(file, **given)
    else:
        np.savez(file, **given | {"test_images": given["test_images"] / 255})
    real = Npz(path=str(file)).load()
    np.testing.assert_array_equal(
        real.train.take(torch.tensor([3]))[0].permute(1, 2, 0), given["train_images"][3]
    )
    with pytest.raises(
        DataError, match=r"dataset\.keep=disk: npz cannot be read in parts, because the npz file"
    ):
        Npz(path=str(file), keep="disk").load()


def test_a_copy_of_images_on_disk_reads_for_itself(npz, tmp_path):
    real = Npz(path=str(npz), keep="disk").load()
    expected = real.train.take(torch.arange(3))
    copies = [copy.deepcopy(real), pickle.loads(pickle.dumps(real))]
    del real
    gc.collect()
    with open(tmp_path / "other", "wb") as other:  # may get the descriptor of the first
        other.write(bytes(10_000))
        for each in copies:
            assert torch.equal(each.train.take(torch.arange(3)), expected)

"""The prepared form: what is accepted, what is refused, and by which message."""

import errno
import io
import re
from pathlib import Path

import numpy as np
import pytest

from dcond.data import Npz, read_prepared, write_prepared
from dcond.data.prepared import check_prepared
from dcond.errors import DataError


def arrays(**changes):
    """Twelve training and six test images of three classes, 4 x 5 colour."""
    rng = np.random.default_rng(0)
    whole = {
        "train_images": rng.integers(0, 256, (12, 4, 5, 3), dtype=np.uint8),
        "train_labels": np.arange(12) % 3,
        "test_images": rng.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8),
        "test_labels": np.arange(6) % 3,
        "class_names": np.array(["ant", "bee", "cat"]),
    }
    whole.update(changes)
    return {key: value for key, value in whole.items() if value is not None}


def saved(path, **changes):
    np.savez(path, **arrays(**changes))
    return path


def test_written_and_read_back_the_same(tmp_path):
    data = check_prepared(arrays())
    file = tmp_path / "new" / "toy.npz"
    write_prepared(file, data)
    back = read_prepared(file)
    for key in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(back, key)[:], getattr(data, key))
    assert back.class_names == ("ant", "bee", "cat")
    assert [entry.name for entry in file.parent.iterdir()] == ["toy.npz"]


def test_load_gives_channels_first_tensors(tmp_path):
    given = arrays()
    real = Npz(path=str(saved(tmp_path / "toy.npz")), name="toy").load()
    assert real.name == "toy"
    assert real.train.images.shape == (12, 3, 4, 5)
    np.testing.assert_array_equal(
        real.train.images.numpy(), given["train_images"].transpose(0, 3, 1, 2)
    )
    np.testing.assert_array_equal(real.test.labels.numpy(), given["test_labels"])
    assert real.train.images.is_contiguous()
    assert real.train.images.stride() == (60, 20, 5, 1)


def test_grey_without_channel_axis_gets_one_with_ordinary_strides(tmp_path):
    grey = {key: arrays()[key][..., 0] for key in ("train_images", "test_images")}
    real = Npz(path=str(saved(tmp_path / "toy.npz", **grey))).load()
    assert real.train.images.shape == (12, 1, 4, 5)
    assert real.train.images.stride() == (20, 20, 5, 1)
    assert len(real.mean) == 1


def test_unit_floats_are_rounded_to_levels(tmp_path):
    levels = arrays()["train_images"]
    floats = (levels / 255 + 0.001).clip(0, 1).astype(np.float32)
    back = read_prepared(saved(tmp_path / "toy.npz", train_images=floats))
    np.testing.assert_array_equal(back.train_images, levels)


def test_class_names_default_to_numbers(tmp_path):
    assert read_prepared(saved(tmp_path / "toy.npz", class_names=None)).class_names == (
        "0",
        "1",
        "2",
    )


def test_label_types_narrower_than_64_bits_are_widened(tmp_path):
    back = read_prepared(
        saved(tmp_path / "toy.npz", train_labels=(np.arange(12) % 3).astype(np.uint8))
    )
    assert back.train_labels.dtype == np.int64


def with_value(key, row, value, dtype=None):
    changed = arrays()[key].astype(dtype or arrays()[key].dtype)
    changed[row] = value
    return {key: changed}


def unit_with(value):
    images = arrays()["train_images"] / 255
    images[7, 0, 0, 0] = value
    return {"train_images": images}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"test_labels": None, "test_images": None},
            "test_images, test_labels missing; needed: train_images",
        ),
        (
            {"train_images": np.zeros((12, 3, 4, 5), np.uint8)},
            r"shape \(12, 3, 4, 5\).*Use transpose\(0, 2, 3, 1\)",
        ),
        (
            {"train_images": np.zeros((12, 4, 5, 2), np.uint8)},
            r"train_images has shape \(12, 4, 5, 2\); allowed",
        ),
        ({"train_images": np.zeros((12, 60), np.uint8)}, r"shape \(12, 60\); allowed"),
        (
            {"train_images": np.zeros((12, 4, 5, 3), np.int64)},
            r"type int64; allowed: uint8.*images / 4095 for 12 bits; astype\('uint8'\) alone would wrap",
        ),
        (
            {"test_images": np.zeros((0, 4, 5, 3), np.uint8)},
            "test_images is empty.*at least one image",
        ),
        (
            {"test_images": np.zeros((6, 5, 5, 3), np.uint8)},
            r"training images are \(4, 5, 3\) and test.*\(5, 5, 3\)",
        ),
        (unit_with(np.nan), "train_images holds NaN or an infinite value, first in image 7"),
        (unit_with(255), "values from 0 to 255; allowed: 0 to 1. Divide"),
        (
            unit_with(-0.5),
            r"values from -0.5 to 1; allowed: 0 to 1. Use \(images - low\) / \(high - low\)",
        ),
        ({"train_labels": np.arange(11) % 3}, "train_labels holds 11 labels for 12 images"),
        ({"train_labels": np.arange(12) % 3 + 0.0}, "type float64.*one integer per image"),
        (
            {"train_labels": np.arange(12).reshape(6, 2) % 3},
            r"shape \(6, 2\); allowed: one integer per image.*For one-hot labels use labels.argmax",
        ),
        (
            with_value("test_labels", 4, 3),
            r"test_labels\[4\] is 3; allowed: 0 to 2, for 3 classes",
        ),
        (with_value("train_labels", 5, -1), r"train_labels\[5\] is -1; labels count from 0"),
        ({"train_labels": np.arange(12) % 2}, r"no training image for class 'cat' \(2\)"),
        (
            {**with_value("train_labels", 0, 10**9), "class_names": None},
            "largest training label is 1000000000, but.*12",
        ),
        ({"class_names": np.arange(3)}, "class_names has type int64.*one text per class"),
        (
            {"class_names": np.array("ant,bee,cat")},
            r"class_names has type <U11 and shape \(\); allowed: one text per class",
        ),
        (
            {"class_names": np.array(["a", "b", None])},
            r"class_names holds Python objects, which are not read; save texts as np.array\(\[...\], dtype=str\)",
        ),
    ],
)
def test_bad_content_is_one_line_that_names_the_file(tmp_path, changes, message):
    file = saved(tmp_path / "bad.npz", **changes)
    with pytest.raises(DataError, match=message) as caught:
        read_prepared(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [np.array(list("abcde")), None])
def test_chosen_classes_alone_need_training_images(tmp_path, names):
    """Of a client in federated learning: some classes to train on, a test split of all."""
    labels = {"train_labels": np.array([0, 1, 4] * 4), "test_labels": np.arange(6) % 5}
    file = saved(tmp_path / "client.npz", **labels, class_names=names)
    with pytest.raises(DataError, match=r"no training image for class '[c2]' \(2\), .*dataset.cl"):
        Npz(path=str(file)).load()
    part = Npz(path=str(file), classes=[0, 1, 4]).load()
    assert part.class_names == (("a", "b", "e") if names is not None else ("0", "1", "4"))
    assert part.train.labels.tolist() == [0, 1, 2] * 4
    assert part.test.labels.tolist() == [0, 1, 2, 0]
    with pytest.raises(DataError, match=r"no training image for class '[d3]' \(1\)"):
        Npz(path=str(file), classes=[0, 3]).load()


def test_labels_of_a_client_do_not_count_from_one(tmp_path):
    labels = {"train_labels": np.array([1, 2] * 6), "test_labels": np.arange(6) % 3}
    file = saved(tmp_path / "client.npz", **labels, class_names=None)
    part = Npz(path=str(file), classes=[1, 2]).load()
    assert part.train.labels.tolist() == [0, 1] * 6
    assert part.test.labels.tolist() == [0, 1] * 2


@pytest.mark.parametrize("labels", [(1, 2), (7, 93)])
def test_a_client_has_some_of_many_classes(labels, tmp_path):
    """Both splits: not all numbers from 0, and more classes than images."""
    own = {"train_labels": np.array([*labels] * 6), "test_labels": np.array([*labels] * 3)}
    file = saved(tmp_path / "client.npz", **own, class_names=None)
    part = Npz(path=str(file), classes=[*labels]).load()
    assert part.class_names == tuple(map(str, labels))
    assert part.train.labels.tolist() == [0, 1] * 6
    own["test_labels"][0] = 10**9  # a mistake, not a billion names
    with pytest.raises(
        DataError, match=r"the largest label is 1000000000; allowed: up to 99,999\."
    ):
        Npz(path=str(saved(file, **own, class_names=None)), classes=[*labels]).load()


def test_a_folder_is_not_an_npz_file(tmp_path):
    with pytest.raises(
        DataError, match="not an npz file: it is a folder, for dataset=image_folder; write"
    ):
        Npz(path=str(tmp_path)).load()


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.npz does not exist; give the path of an npz file"):
        Npz(path=str(tmp_path / "none.npz")).load()


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    file = saved(tmp_path / "mine.npz")

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(io, "open", refused)  # which zipfile calls
    with pytest.raises(DataError) as error:
        read_prepared(file)
    assert str(error.value) == (
        f"{file} cannot be read (Permission denied); allow it (chmod +r) or copy the file."
    )


@pytest.mark.parametrize("keep", [0, 20, 400, -30])
def test_truncated_file(tmp_path, keep):
    file = saved(tmp_path / "cut.npz")
    file.write_bytes(file.read_bytes()[:keep])
    kind = "an incomplete zip archive" if keep else "empty"
    with pytest.raises(DataError, match=rf"cut\.npz is not an npz file: it is {kind}"):
        read_prepared(file)


def test_flipped_byte_is_found_by_the_checksum(tmp_path):
    file = saved(tmp_path / "bent.npz")
    whole = bytearray(file.read_bytes())
    whole[400] ^= 255  # among the pixels of the first array
    file.write_bytes(whole)
    with pytest.raises(DataError, match=r"bent\.npz cannot be read as an npz file \(Bad CRC-32"):
        read_prepared(file).train_images[:]


@pytest.mark.parametrize("damage", [(b"NUMPY\x01", b"NUMPY\x00"), (b", }", b", ]"), (b"{'", b"('")])
def test_a_damaged_header_is_one_line(damage, tmp_path):
    file = saved(tmp_path / "bent.npz")
    file.write_bytes(file.read_bytes().replace(*damage))
    with pytest.raises(DataError, match=r"bent\.npz .*npz"):
        read_prepared(file)


def test_single_array_and_folder_are_no_npz(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    for path in (tmp_path / "one.npy", tmp_path):
        with pytest.raises(DataError, match=re.escape(f"{path} is not an npz file")):
            read_prepared(path)


def test_failed_write_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    file = saved(tmp_path / "toy.npz")
    before = file.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(
        DataError, match=r"cannot write .*toy\.npz \(.*No space left.*\); free some space"
    ):
        write_prepared(file, check_prepared(arrays()))
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy.npz"]

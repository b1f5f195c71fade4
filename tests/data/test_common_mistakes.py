"""Folders and files as users have them: read, or refused with the likely cause and the way out."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from dcond.data import ImageFolder, read_prepared
from dcond.errors import DataError
from helpers.pictures import picture


def load(path, **options):
    return ImageFolder(path=str(path), **options).load()


def test_the_parent_of_the_folder_is_refused_with_the_right_path(tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            picture(tmp_path / "parent" / "bugs" / split / name / "0.png")
    for _ in range(2):
        with pytest.raises(DataError) as error:
            load(tmp_path / "parent")
        expected = f"did you mean dataset.path={tmp_path / 'parent' / 'bugs'}?"
        assert str(error.value).endswith(expected)
        picture(tmp_path / "parent" / "another" / "0.png")  # beside another folder too


def test_the_parent_of_class_folders_is_refused_with_the_right_path(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / "images" / name / "0.png")
    with pytest.raises(DataError, match=r"did you mean dataset\.path=.*images\?$"):
        load(tmp_path)


@pytest.mark.parametrize("test", ["valid", "validation", "eval", "testing", "Val", "TEST"])
@pytest.mark.parametrize("train", ["train", "Train", "training"])
def test_other_names_of_splits_are_read_and_logged(train, test, split_folder, caplog):
    (split_folder / "test").rename(split_folder / "moved")
    (split_folder / "moved").rename(split_folder / test)
    (split_folder / "train").rename(split_folder / "moved")
    (split_folder / "moved").rename(split_folder / train)
    with caplog.at_level(logging.INFO, logger="dcond"):
        real = load(split_folder)
    assert (len(real.train), len(real.test)) == (8, 2)
    assert real.class_names == ("ant", "bee")
    assert f"{test}/ is the test split" in caplog.text


def test_a_class_called_train_is_a_class(tmp_path):
    for name in ("Bus", "Car", "Train"):
        for i in range(5):
            picture(tmp_path / name / f"{i}.png")
    assert load(tmp_path).class_names == ("Bus", "Car", "Train")


def arrays(labels, **others):
    images = np.zeros((len(labels), 4, 4, 3), np.uint8)
    content = {f"{split}_images": images for split in ("train", "test")}
    return content | {f"{split}_labels": labels for split in ("train", "test")} | others


def saved(path, content):
    np.savez(path, **content)
    return path


def test_a_column_of_labels_is_read(tmp_path, caplog):
    labels = np.array([0, 1, 2, 0])
    content = arrays(labels[:, None], val_images=np.zeros((1, 4, 4, 3)), val_labels=labels[:1])
    with caplog.at_level(logging.INFO, logger="dcond"):
        data = read_prepared(saved(tmp_path / "x.npz", content))
    np.testing.assert_array_equal(data.train_labels, labels)
    assert "x.npz: val_images, val_labels are not used" in caplog.text


def test_a_validation_split_serves_as_test_split(tmp_path, caplog):
    content = arrays(np.array([0, 1]))
    for what in ("images", "labels"):
        content[f"val_{what}"] = content.pop(f"test_{what}")
    with caplog.at_level(logging.INFO, logger="dcond"):
        assert len(read_prepared(saved(tmp_path / "x.npz", content)).test_images) == 2
    assert "x.npz: val_images, val_labels are the test split" in caplog.text


@pytest.mark.parametrize("names", [{}, {"class_names": np.array(["a", "b", "c"])}])
def test_labels_from_1_are_refused_with_the_cause(names, tmp_path):
    path = saved(tmp_path / "x.npz", arrays(np.array([1, 2, 3, 1]), **names))
    with pytest.raises(DataError) as error:
        read_prepared(path)
    assert str(error.value) == (
        f"{path}: train_labels go from 1 to 3, but labels count from 0; subtract 1 from all labels."
    )


def test_transparent_pixels_show_the_background(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[1:3, 1:3, 3] = 255  # a black square; its shape is in the alpha channel alone
    grey = np.zeros((4, 4, 2), np.uint8)
    grey[..., 1] = pixels[..., 3]
    for split in ("train", "test"):
        for name, content in (("a", pixels), ("b", grey)):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(content).save(tmp_path / split / name / "0.png")
    expected = torch.full((4, 4), 255, dtype=torch.uint8)
    expected[1:3, 1:3] = 0
    assert torch.equal(load(tmp_path).train.images, expected.expand(2, 3, 4, 4))
    black = load(tmp_path, background=0, channels=1)
    assert black.train.images.max() == 0


def test_a_class_of_equal_images_is_a_warning(tmp_path, caplog):
    for split in ("train", "test"):
        for i in range(3):
            picture(tmp_path / split / "a" / f"{i}.png", seed=0)
            picture(tmp_path / split / "b" / f"{i}.png", seed=i)
    load(tmp_path)
    assert caplog.messages == ["image_folder: all training images of class 'a' are equal"]


def test_classes_without_test_images_are_a_warning(tmp_path, caplog):
    for name, count in (("a", 1), ("b", 10), ("c", 10)):
        for i in range(count):
            picture(tmp_path / name / f"{i}.png", seed=i)
    load(tmp_path)
    assert caplog.messages == ["image_folder: no test image of class 'a' (0)"]

"""Folders and files as users have them: read, or refused with the likely cause and the way out."""

import errno
import logging
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcond.cli.data import main
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


@pytest.mark.parametrize("names", [("Bus", "Car", "Train"), ("bus", "car", "train")])
def test_a_class_called_train_is_a_class(names, tmp_path):
    for name in names:
        for i in range(5):
            picture(tmp_path / name / f"{i}.png")
    assert load(tmp_path).class_names == names


def test_a_flat_train_beside_sorted_images_is_no_class(tmp_path):
    picture(tmp_path / "train" / "0.png")
    for name in ("ant", "bee"):
        picture(tmp_path / "sorted" / name / "0.png")
    with pytest.raises(DataError, match="holds no class folders"):
        load(tmp_path)


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


# --- files as operating systems, phones and archives leave them
# --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "junk",
    ["__MACOSX/ant/._0.png", "$RECYCLE.BIN/x.ini", "System Volume Information/x", "@eaDir/x"],
)
def test_folders_of_operating_systems_are_no_classes(junk, split_folder):
    file = split_folder / "train" / junk
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert load(split_folder / "train").class_names == ("ant", "bee")


def test_thumbnails_of_a_network_drive_are_no_images(split_folder, caplog):
    picture(split_folder / "train" / "ant" / "@eaDir" / "0.png" / "THUMB_M.jpg")
    with caplog.at_level(logging.INFO, logger="dcond"):
        assert len(load(split_folder).train) == 8
    assert "ignored 1 file(s): 1 in hidden folders" in caplog.text


def test_a_linked_folder_is_followed_once_and_a_loop_is_not(split_folder, tmp_path):
    ant = split_folder / "train" / "ant"
    for number in range(3):
        picture(tmp_path / "store" / "deep" / f"{number}.png")
    (ant / "more").symlink_to(tmp_path / "store")
    (ant / "again").symlink_to(tmp_path / "store" / "deep")
    (ant / "up").symlink_to(split_folder / "train")  # would hold bees
    (tmp_path / "store" / "back").symlink_to(ant)
    assert torch.bincount(load(split_folder).train.labels).tolist() == [8, 3]


def test_a_link_to_nothing_is_named(split_folder):
    (split_folder / "train" / "ant" / "x.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=r"x\.png .* \(a symbolic link to nothing, gone\.png\)"):
        load(split_folder)


@pytest.mark.parametrize("other", ["cafe\u0301", "caf\u00e9 ", " caf\u00e9"])
def test_names_in_two_forms_are_one_class(other, tmp_path):
    """macOS takes accents apart; a space at the end is seen by nobody."""
    for name in ("dog", "寿司", "caf\u00e9"):
        picture(tmp_path / "train" / name / "0.png")
        picture(tmp_path / "test" / (other if name == "caf\u00e9" else name) / "0.png")
    real = load(tmp_path)
    assert real.class_names == ("caf\u00e9", "dog", "寿司")
    assert real.test.labels.tolist() == [0, 1, 2]
    picture(tmp_path / "train" / other / "0.png")
    with pytest.raises(DataError, match=r"differ only in their Unicode form or in spaces"):
        load(tmp_path)


def test_classes_that_one_split_lacks_are_quoted(split_folder):
    (split_folder / "test" / "bee").rename(split_folder / "test" / "Bee")
    with pytest.raises(DataError, match=r"only one of them has: 'Bee', 'bee'\.$"):
        load(split_folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><p>not found", "it is an HTML page, not the file that it links to"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer"),
        (b"\xff\xd8\xff no more", "damaged, or no image"),
    ],
)
def test_what_is_no_image_is_told_by_its_first_bytes(content, reason, split_folder):
    (split_folder / "train" / "ant" / "x.jpg").write_bytes(content)
    with pytest.raises(DataError) as error:
        load(split_folder, size=4)
    assert f"x.jpg cannot be read as an image ({reason}" in str(error.value)


def test_an_image_that_is_too_large_is_to_be_shrunk(split_folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    picture(split_folder / "train" / "ant" / "x.png", size=(20, 20))
    with pytest.raises(DataError, match=r"\(more than the 100 pixels .* shrink or remove it\.$"):
        load(split_folder, size=4)


@pytest.mark.parametrize("suffix", ["JPG", "jfif", "jpe", "JPEG"])
def test_suffixes_of_jpeg(suffix, split_folder):
    picture(split_folder / "train" / "ant" / f"x.{suffix}", format="JPEG")
    assert len(load(split_folder).train) == 9


def test_images_beside_a_table_of_labels(tmp_path, monkeypatch):
    """As many archives of competitions are laid out; the page sorts them."""
    rows = ["id,label"]
    for number in range(10):
        picture(tmp_path / "train" / f"{number}.jpg", seed=number)
        rows.append(f"{number},{'cat' if number % 2 else 'dog'}")
    (tmp_path / "train.csv").write_text("\n".join(rows))
    with pytest.raises(DataError) as error:
        load(tmp_path / "train")
    assert str(error.value).endswith(
        "and so on. If a table has the labels of its 10 images, docs/data.md sorts them."
    )
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```python\n(import csv.*?)^```$", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "docs/data.md", "exec"), {})
    real = load(tmp_path / "sorted")
    assert real.class_names == ("cat", "dog")
    assert len(real.train) + len(real.test) == 10


def test_a_test_split_without_labels_beside_val(split_folder, caplog):
    """As in ImageNet and archives of competitions."""
    (split_folder / "test").rename(split_folder / "val")
    picture(split_folder / "test" / "0.png")
    with caplog.at_level(logging.INFO, logger="dcond"):
        assert load(split_folder).test.labels.tolist() == [0, 1]
    assert "val/ is the test split" in caplog.text


def test_a_folder_that_cannot_be_read_is_named(split_folder, monkeypatch):
    """Its images would be missing without a word."""
    closed, scandir = split_folder / "train" / "ant" / "more", os.scandir
    picture(closed / "0.png")

    def denied(path):
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"more cannot be read \(Permission denied\); change its"):
        load(split_folder)


def test_a_zip_file_is_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(DataError, match=r"is not a folder \(a zip archive; unpack it\); give one"):
        load(tmp_path / "x.zip")


def test_info_counts_skipped_files_and_those_of_several_frames(split_folder, capsys):
    (split_folder / "train" / "ant" / "x.heic").write_bytes(b"x")
    (split_folder / "test" / "ant" / "Thumbs.db").write_bytes(b"x")
    for suffix in ("gif", "tif", "tiff", "webp"):
        frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
        file = split_folder / "train" / "bee" / f"x.{suffix}"
        frames[0].save(file, save_all=True, append_images=frames[1:])
    assert main(["info", "image_folder", f"dataset.path={split_folder}"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "skipped files 2: 1 of type .db, not an image type, 1 of type .heic, not an" in shown
    assert "several frames 4 files, of which the first frame is used" in shown

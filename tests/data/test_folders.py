"""Image folders: listing, decoding, and what is wrong with them."""

import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image

from dcond.data import ImageFolder, Npz
from dcond.errors import ConfigError, DataError
from helpers.pictures import picture


def test_train_and_test_folders(split_folder):
    real = ImageFolder(path=str(split_folder), name="bugs", flip=True).load()
    assert real.name == "bugs"
    assert real.class_names == ("ant", "bee")
    assert torch.bincount(real.train.labels).tolist() == [5, 3]
    assert real.test.labels.tolist() == [0, 1]
    expected = picture(split_folder / "other.png", seed=2)
    np.testing.assert_array_equal(real.train.images[2].permute(1, 2, 0).numpy(), expected)


def test_val_serves_as_test(split_folder):
    (split_folder / "test").rename(split_folder / "val")
    assert len(ImageFolder(path=str(split_folder)).load().test) == 2


def test_one_folder_is_split_by_its_seed(tmp_path):
    for name in ("a", "b"):
        for i in range(10):
            picture(tmp_path / name / f"{i}.png", seed=i)
    folder = ImageFolder(path=str(tmp_path), test_fraction=0.3)
    real = folder.load()
    assert torch.bincount(real.train.labels).tolist() == [7, 7]
    assert torch.bincount(real.test.labels).tolist() == [3, 3]
    assert torch.equal(folder.load().test.images, real.test.images)
    other = ImageFolder(path=str(tmp_path), test_fraction=0.3, split_seed=5).load()
    assert not torch.equal(other.test.images, real.test.images)


def test_different_sizes_need_a_size_and_every_rule_gives_it(split_folder):
    wide = np.zeros((6, 12, 3), np.uint8)
    wide[:, 3:9] = 200  # the middle square is bright, the rest black
    Image.fromarray(wide).save(split_folder / "train" / "ant" / "0.png")
    with pytest.raises(
        DataError, match=r"images differ in size: .*1\.png is 6 x 6.*dataset\.size=64"
    ):
        ImageFolder(path=str(split_folder)).load()
    got = {}
    for rule in ("crop", "squash", "pad"):
        real = ImageFolder(path=str(split_folder), size=6, resize=rule).load()
        assert real.spec.height == real.spec.width == 6
        got[rule] = real.train.images[0, 0]
    assert (got["crop"] == 200).all()
    assert got["squash"][:, 0].max() < 100 < got["squash"][:, 3].min()
    assert (got["pad"][0] == 128).all()
    assert got["pad"][3, 3] > 150


def test_size_keeps_images_that_have_it(split_folder):
    for rule in ("crop", "squash", "pad"):
        kept = ImageFolder(path=str(split_folder)).load().train.images
        assert torch.equal(
            ImageFolder(path=str(split_folder), size=6, resize=rule).load().train.images, kept
        )


def test_channels_auto_is_grey_only_if_every_image_is(tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            picture(tmp_path / split / name / "0.png", mode="L")
    assert ImageFolder(path=str(tmp_path)).load().spec.channels == 1
    assert ImageFolder(path=str(tmp_path), channels=3).load().spec.channels == 3
    picture(tmp_path / "test" / "b" / "0.png", mode="RGB")
    assert ImageFolder(path=str(tmp_path)).load().spec.channels == 3
    assert ImageFolder(path=str(tmp_path), channels=1, size=4).load().train.images.shape == (
        2,
        1,
        4,
        4,
    )


def test_truncated_png_is_named(split_folder):
    file = split_folder / "train" / "ant" / "3.png"
    file.write_bytes(file.read_bytes()[:70])
    with pytest.raises(
        DataError, match=r"ant.3\.png cannot be read as an image \(.+\); replace or remove it"
    ) as caught:
        ImageFolder(path=str(split_folder)).load()
    assert "\n" not in str(caught.value)


def test_text_under_an_image_name_is_named(split_folder):
    (split_folder / "test" / "bee" / "x.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"x\.jpg cannot be read as an image"):
        ImageFolder(path=str(split_folder), size=4, channels=3).load()


def test_other_files_are_ignored_and_counted(split_folder, caplog):
    (split_folder / "train" / "ant" / "notes.txt").write_text("x")
    (split_folder / "train" / "bee" / "._0.png").write_text("x")
    with caplog.at_level(logging.INFO, logger="dcond"):
        real = ImageFolder(path=str(split_folder)).load()
    assert len(real.train) == 8
    assert "ignored 2 file(s): 1 of type .txt, not an image type" in caplog.text


def test_hidden_folders_hold_no_images(split_folder, caplog):
    """Notebooks leave copies in them."""
    picture(split_folder / "train" / "ant" / ".ipynb_checkpoints" / "0-checkpoint.png")
    picture(split_folder / "train" / "ant" / "more" / ".hidden" / "deep" / "1.png")
    picture(split_folder / "train" / "ant" / "more" / "2.png")
    with caplog.at_level(logging.INFO, logger="dcond"):
        real = ImageFolder(path=str(split_folder)).load()
    assert len(real.train) == 9
    assert "ignored 2 file(s): 2 in hidden folders" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: (f / "train" / "cow").mkdir(),
            r"class folder .*cow holds no image\. Add some, or remove the folder from every split\.",
        ),
        (
            lambda f: [(f / "train" / "cow").mkdir(), (f / "train" / "cow" / "1.heic").touch()],
            r"cow holds no image; it holds 1 of type \.heic, not an image type\. Add some",
        ),
        (
            lambda f: picture(f / "test" / "cow" / "0.png"),
            "must have the same class folders; only one of them has: 'cow'",
        ),
        (lambda f: (f / "test").rename(f / "hidden"), r"has train/ but neither test/ nor val/"),
        (lambda f: (f / "train").rename(f / "hidden"), r"has a test split but no train/ folder"),
    ],
)
def test_unusable_folders(split_folder, spoil, message):
    spoil(split_folder)
    with pytest.raises(DataError, match=message):
        ImageFolder(path=str(split_folder)).load()


def test_missing_and_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.path='.*none' is not a folder"):
        ImageFolder(path=str(tmp_path / "none")).load()
    with pytest.raises(DataError, match="holds no class folders; expected"):
        ImageFolder(path=str(tmp_path)).load()
    picture(tmp_path / "a" / "0.png")
    with pytest.raises(DataError, match="holds 1 images, too few to split"):
        ImageFolder(path=str(tmp_path)).load()
    (tmp_path / "a" / "0.png").unlink()
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="holds 0 images, too few to split"):
        ImageFolder(path=str(tmp_path), classes=["a", "b"]).load()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "ImageFolder.size=0 is out of range; allowed: whole numbers from 1"),
        ({"size": "big"}, "ImageFolder.size='big' must be a whole number or null"),
        ({"resize": "crob"}, "ImageFolder.resize='crob' is unknown.*Did you mean 'crop'"),
        ({"channels": 4}, "ImageFolder.channels=4 must be auto, 1, 3"),
        ({"test_fraction": 1.5}, "ImageFolder.test_fraction=1.5 is out of range"),
    ],
)
def test_bad_settings_are_refused_before_the_folder_is_read(settings, message):
    with pytest.raises(ConfigError, match=message):
        ImageFolder(path="nowhere", **settings)


def test_prepare_writes_what_npz_reads(split_folder, tmp_path):
    folder = ImageFolder(path=str(split_folder), name="bugs", data_dir=str(tmp_path / "data"))
    file = folder.prepare()
    assert file == tmp_path / "data" / "bugs.npz"
    again = Npz(path=str(file)).load()
    assert torch.equal(again.train.images, folder.load().train.images)
    assert again.class_names == ("ant", "bee")
    with pytest.raises(ConfigError, match=r"bugs\.npz exists and is not overwritten; remove it"):
        folder.prepare()


def test_the_current_folder_as_path(split_folder, monkeypatch):
    whole = ImageFolder(path=str(split_folder)).remarks()
    (split_folder / "train" / "ant" / "0.gif").write_bytes(b"")
    frames = [Image.new("L", (6, 6), level) for level in (0, 90)]
    frames[0].save(
        split_folder / "train" / "ant" / "0.gif", save_all=True, append_images=frames[1:]
    )
    monkeypatch.chdir(split_folder)
    assert whole == {}
    assert ImageFolder(path=".").remarks() == {
        "several frames": "1 files, of which the first frame is used"
    }


def test_a_class_name_that_is_not_utf8_can_be_stored(tmp_path):
    for name in (b"caf\xe9", b"tea"):
        for number in range(5):
            picture(tmp_path / os.fsdecode(name) / f"{number}.png", seed=number)
    real = ImageFolder(path=str(tmp_path)).load()
    assert real.class_names == ("caf\ufffd", "tea")


def test_chosen_classes_need_no_others_in_both_splits(split_folder):
    """Of a client in federated learning: some classes to train on, a test split of all."""
    whole = ImageFolder(path=str(split_folder)).load()
    for name in ("cow", "zebra"):
        picture(split_folder / "test" / name / "0.png")
    (split_folder / "train" / "zebra").mkdir()  # empty
    names = whole.class_names
    part = ImageFolder(path=str(split_folder), classes=names).load()
    assert part.class_names == names
    assert torch.equal(part.train.images, whole.train.images)
    assert torch.equal(part.train.labels, whole.train.labels)
    assert torch.equal(part.test.images, whole.test.images)
    assert torch.equal(part.test.labels, whole.test.labels)
    with pytest.raises(DataError, match=r"no training image for class 'zebra' \(1\)"):
        ImageFolder(path=str(split_folder), classes=[names[0], "zebra"]).load()
    (split_folder / "train" / "zebra").rmdir()
    with pytest.raises(DataError, match=r"'cow', 'zebra'\."):
        ImageFolder(path=str(split_folder)).load()


def test_an_npz_file_is_not_a_folder(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.zeros(1))
    with pytest.raises(DataError, match=r"is not a folder \(use dataset=npz\)"):
        ImageFolder(path=str(tmp_path / "mine.npz")).load()


def test_a_single_class_is_warned_of(tmp_path, caplog):
    for row in range(10):
        picture(tmp_path / "raw" / f"{row}.png")
    ImageFolder(path=str(tmp_path)).load()
    assert "image_folder has one class, 'raw': every accuracy is 100 %" in caplog.text

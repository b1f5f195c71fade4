"""Pixels of image files: bits, palettes, transparency, turned cameras."""

import itertools
import struct

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from dcond.data import ImageFolder
from dcond.errors import DataError


def one_of_each(folder, image, name="0.png", **save):
    for split in ("train", "test"):
        (folder / split / "a").mkdir(parents=True)
        image.save(folder / split / "a" / name, **save)
    return ImageFolder(path=str(folder)).load()


def test_16_bit_grey_keeps_its_upper_bits(tmp_path):
    real = one_of_each(tmp_path, Image.fromarray(np.array([[0, 256], [0x8000, 0xFFFF]], np.uint16)))
    assert real.train.images.flatten().tolist() == [0, 1, 128, 255]


def test_16_bit_grey_of_every_kind_of_file(tmp_path):
    levels = np.array([[0, 256], [0x8000, 0xFFFF]], np.uint16)
    for name in ("a.png", "b.tif", "c.pgm"):
        for split in ("train", "test"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(levels).save(tmp_path / split / name / name)
    (tmp_path / "train" / "c.pgm" / "c.pgm").write_bytes(
        b"P5 2 2 65535\n" + levels.astype(">u2").tobytes()
    )
    assert ImageFolder(path=str(tmp_path)).load().train.images.flatten(1).tolist() == 3 * [
        [0, 1, 128, 255]
    ]


def test_12_bit_grey_keeps_its_upper_bits(tmp_path):
    """Scanners and microscopes write such TIFF files; Pillow reads them into 16 bits, and cannot
    write them.
    """
    fields = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHIHxx", tag, 3, 1, value) for tag, value in fields.items())
    content = struct.pack("<2sHI", b"II", 42, 12) + (0x800FFF).to_bytes(3) + b"\0"
    content += struct.pack("<H", len(fields)) + entries + bytes(4)
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "0.tif").write_bytes(content)
    assert ImageFolder(path=str(tmp_path)).load().train.images.flatten().tolist() == [128, 255]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.array([[0, 255]], np.int32),
            "its pixels are 32-bit integers, of unknown range",
        ),
        (np.array([[0, 1]], np.float32), "its pixels are floating point, of unknown range"),
    ],
)
def test_pixels_of_unknown_range_are_refused(pixels, message, tmp_path):
    with pytest.raises(DataError) as error:
        one_of_each(tmp_path, Image.fromarray(pixels), "0.tif")
    assert str(error.value) == (
        f"{tmp_path / 'train' / 'a' / '0.tif'} cannot be read as an image ({message}); replace or remove it."
    )


def test_transparent_palette_entries_and_pixels_become_the_background(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    real = one_of_each(tmp_path / "p", palette, transparency=bytes([0, 255]))
    assert real.train.images[0, :, 0, :].T.tolist() == [[255, 255, 255], [40, 50, 60]]
    real = one_of_each(tmp_path / "rgba", Image.new("RGBA", (2, 2), (9, 8, 7, 0)))
    assert real.train.images[0, :, 0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_camera_orientation_is_applied(suffix, orientation, tmp_path):
    """The bright corner is where the camera's upper left is, whatever the type of the file."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.new("L", (32, 16))
    stored.paste(255, (0, 0, 8, 8))
    stored = stored.convert("RGB")
    real = one_of_each(tmp_path, stored, f"0.{suffix}", exif=exif)
    turned = orientation > 4
    assert (real.spec.height, real.spec.width) == ((32, 16) if turned else (16, 32))
    corner = [(0, 0), (0, 0), (0, -1), (-1, -1), (-1, 0), (0, 0), (0, -1), (-1, -1), (-1, 0)]
    row, column = corner[orientation]
    assert int(real.train.images[0, 0, row, column]) > 200
    assert real.train.images[0, 0].float().mean() < 50


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_there_is_not_turns_nothing(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    real = one_of_each(tmp_path, Image.new("RGB", (4, 2)), exif=exif)
    assert (real.spec.height, real.spec.width) == (2, 4)


@pytest.fixture
def twelve_bits(tmp_path):
    """16-bit grey PNG with values 100 to 4,000 in train/, and one brighter in test/."""
    for split, values in (("train", (100, 4000)), ("test", (50, 65535))):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            pixels = np.array([values, (2050, 2050)], np.uint16)
            Image.fromarray(pixels).save(tmp_path / split / name / "0.png")
    return tmp_path


def test_a_small_part_of_the_range_is_reported_with_the_setting(twelve_bits, caplog):
    ImageFolder(path=str(twelve_bits)).load()
    assert (
        "image_folder: training images use the levels 0 to 15 of 0 to 255, a small part of the "
        "range; dataset.rescale=true uses all of it"
    ) in caplog.messages


@pytest.mark.parametrize("keep", ["device", "disk"])
def test_rescaled_by_the_range_of_the_training_images(twelve_bits, caplog, keep, tmp_path):
    folder = ImageFolder(path=str(twelve_bits), rescale=True, keep=keep, data_dir=str(tmp_path))
    real = folder.load()
    assert real.train.take(torch.tensor([0])).flatten().tolist() == [0, 255, 128, 128]
    assert real.test.take(torch.tensor([0])).flatten().tolist() == [0, 255, 128, 128]  # clipped
    assert "small part" not in caplog.text


def test_what_is_rescaled_already_gets_no_hint_to_do_so(twelve_bits, caplog):
    narrow = Image.fromarray(np.array([(2000, 2100), (2050, 2050)], np.uint16))
    for split, name in itertools.product(("train", "test"), "cd"):
        (twelve_bits / split / name).mkdir()
        narrow.save(twelve_bits / split / name / "0.png")
    ImageFolder(path=str(twelve_bits), rescale=True, classes=["c", "d"]).load()
    assert "a small part of the range" in caplog.text
    assert "dataset.rescale" not in caplog.text


def test_images_of_8_bits_are_rescaled_in_all_channels(tmp_path):
    for name in "abc":
        for split in ("train", "test"):
            (tmp_path / split / name).mkdir(parents=True)
            pixels = np.array([[[10, 20, 30], [10, 10, 60]]], np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / name / "0.png")
    real = ImageFolder(path=str(tmp_path), rescale=True).load()
    assert real.train.images[0].permute(1, 2, 0).tolist() == [[[0, 51, 102], [0, 0, 255]]]


def test_nothing_to_rescale_is_one_line(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("L", (2, 2), 7).save(tmp_path / split / "a" / "0.png")
    with pytest.raises(DataError, match=r"dataset\.rescale=true: all pixels of .* have one value"):
        ImageFolder(path=str(tmp_path), rescale=True).load()


def test_the_header_of_a_square_image_is_read_without_its_pixels(split_folder, monkeypatch):
    def load(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    data = ImageFolder(path=str(split_folder)).arrays()
    assert data.train_images.shape == (8, 6, 6, 3)

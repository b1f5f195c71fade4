"""Pixels of image files: bits, palettes, transparency, turned cameras."""

import struct

import numpy as np
import pytest
from PIL import Image

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


def test_camera_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    real = one_of_each(tmp_path, Image.new("RGB", (4, 2)), exif=exif)
    assert (real.spec.height, real.spec.width) == (4, 2)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_there_is_not_turns_nothing(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    real = one_of_each(tmp_path, Image.new("RGB", (4, 2)), exif=exif)
    assert (real.spec.height, real.spec.width) == (2, 4)

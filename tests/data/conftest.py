"""Folders of images and a prepared file that several tests of data read."""

import numpy as np
import pytest
from PIL import Image

from dcond.data import write_prepared
from dcond.data.prepared import check_prepared
from helpers.pictures import arrays, picture


@pytest.fixture
def split_folder(tmp_path):
    """train/ with different class sizes and test/, all 6 x 6 colour."""
    for name, count in (("bee", 3), ("ant", 5)):
        for i in range(count):
            picture(tmp_path / "train" / name / f"{i}.png", seed=i)
        picture(tmp_path / "test" / name / "0.png", seed=9)
    return tmp_path


@pytest.fixture
def npz(tmp_path):
    """A prepared file of 20 and 6 images, 4 x 4 colour."""
    write_prepared(tmp_path / "toy.npz", check_prepared(arrays()))
    return tmp_path / "toy.npz"


@pytest.fixture
def folder(tmp_path):
    """40 classes of 3 training images and 1 test image, of different sizes and types."""
    rng = np.random.default_rng(0)
    for c in range(40):
        for split, count in (("train", 3), ("test", 1)):
            place = tmp_path / "images" / split / f"class {c:02}"
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (8 + i, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.{'jpg' if c % 2 else 'png'}")
    return tmp_path / "images"

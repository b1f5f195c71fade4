"""A folder of images that several tests of data read."""

import pytest

from pictures import picture


@pytest.fixture
def split_folder(tmp_path):
    """train/ with unlike class sizes and test/, all 6 x 6 colour."""
    for name, count in (("bee", 3), ("ant", 5)):
        for i in range(count):
            picture(tmp_path / "train" / name / f"{i}.png", seed=i)
        picture(tmp_path / "test" / name / "0.png", seed=9)
    return tmp_path

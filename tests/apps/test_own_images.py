"""A stranger's own pictures, condensed, exported and trained on by the script of docs/data.md, without dcond."""

import re
import runpy
import warnings

import numpy as np
import pytest
from PIL import Image

SIZES = {"ant": (12, 8), "bee": (20, 8), "wasp": (7, 8)}  # images to train on and to test


@pytest.fixture
def my_images(folder):
    """Three classes of unlike size: stripes, a chequerboard and rings in colour, under noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16]
    patterns = (rows // 2 % 2, (rows // 4 + columns // 4) % 2, np.hypot(rows - 8, columns - 8) // 3 % 2)
    for (name, counts), pattern, colour in zip(SIZES.items(), patterns, np.eye(3), strict=True):
        for split, count in zip(("train", "test"), counts, strict=True):
            (folder / "my_images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = 60 + 120 * pattern[..., None] * (0.4 + 0.6 * colour) + 25 * rng.standard_normal((16, 16, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(folder / "my_images" / split / name / f"{number}.png")
    return folder / "my_images"


@pytest.mark.slow
def test_unequal_classes_are_condensed_exported_and_trained_on(my_images, unpack, run_cli, capsys, folder):
    words = ("method.steps=10", "model.width=8", "evaluate=false", "tensorboard=false", "hydra.run.dir=run")
    done = run_cli("condense", "dataset=image_folder", f"dataset.path={my_images.name}", "ipc=2", *words)
    assert done.code == 0, done.err
    done = run_cli("export", "run", "--to", "png", "--decoded", "--out", "condensed")
    assert done.code == 0, done.err
    files = sorted(path.relative_to(folder / "condensed").parent.name for path in folder.glob("condensed/*/*.png"))
    assert files == [name for name in SIZES for _ in range(8)]  # two stored images of four each
    (script,) = unpack("docs/data.md")
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # torchvision's own, which are not ours to mend
        runpy.run_path(str(script))
    accuracy = float(re.fullmatch(r"test accuracy ([\d.]+) %\n", capsys.readouterr().out)[1])
    assert accuracy > 80  # chance is 33

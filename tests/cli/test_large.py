"""A thousand classes in bounded memory: image files decoded when they are wanted, classes a few at
a time.
"""

import functools
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

CLASSES, SIDE, REAL = 1000, 64, 16
WHOLE = (
    4 * CLASSES * REAL * 3 * SIDE**2
)  # bytes of one real batch in float32; made whole, it takes several of these


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three training images and one test image of each class."""
    root = tmp_path_factory.mktemp("thousand")
    rng = np.random.default_rng(0)
    for c in range(CLASSES):
        for split, count in (("train", 3), ("test", 1)):
            place = root / split / f"{c:04}"
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(
                    place / f"{i}.png"
                )
    return root


@pytest.fixture(scope="module")
def peak(folder, tmp_path_factory):
    """Condense a thousand classes with a method, and return the bytes of its process at their most."""

    @functools.cache
    def condensed(method):
        place = tmp_path_factory.mktemp(method)
        arguments = [
            "dataset=image_folder",
            f"dataset.path={folder}",
            f"dataset.size={SIDE}",
            "dataset.keep=disk",
        ]
        arguments += [
            "evaluate=false",
            "tensorboard=false",
            "engine=exact",
            "threads=1",
            "model=convnet",
            "model.width=8",
        ]
        arguments += [
            f"paths.data={place}",
            f"paths.outputs={place}",
            f"hydra.run.dir={place}/run",
            f"method={method}",
        ]
        if method != "random":
            arguments += ["max_steps=2", "method.factor=1", f"method.batch_real={REAL}"]
        command = [sys.executable, "-m", "dcond", "condense", *arguments]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        kept = "3,000 training images, 36.9 MB, on disk, read when wanted (as dataset.keep says)"
        assert kept in done.stdout + done.stderr
        result = json.loads((place / "run" / "result.json").read_text())
        assert result["images_stored"] == CLASSES
        return result["cost"]["peak_memory_bytes"]

    return condensed


@pytest.mark.slow
def test_a_selection_from_a_thousand_classes_takes_bounded_memory(peak):
    assert peak("random") < 3 * WHOLE  # torch, mostly


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dm", "m3d", "dsa"])
def test_a_thousand_classes_are_condensed_in_bounded_memory(peak, method):
    """A step takes less than a whole real batch; a few classes at a time take half of it, all at
    once five of it.
    """
    taken = peak(method) - peak("random")
    assert taken < 0.8 * WHOLE, f"{taken / 1e6:.0f} MB"

"""A thousand classes in bounded memory: image files decoded when they are wanted, classes a few at a time."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

CLASSES, SIDE, REAL = 1000, 64, 16
WHOLE = 4 * CLASSES * REAL * 3 * SIDE**2  # bytes of one real batch in float32; made whole, it takes several of these


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
                Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(place / f"{i}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("method", ["random", "dm", "m3d", "dsa"])
def test_a_thousand_classes_are_condensed_in_bounded_memory(folder, tmp_path, method):
    words = ["dataset=image_folder", f"dataset.path={folder}", f"dataset.size={SIDE}", "dataset.keep=disk"]
    words += ["evaluate=false", "tensorboard=false", "engine=exact", "threads=1", "model=convnet", "model.width=8"]
    words += [
        f"paths.data={tmp_path}",
        f"paths.outputs={tmp_path}",
        f"hydra.run.dir={tmp_path}/run",
        f"method={method}",
    ]
    if method != "random":
        words += ["max_steps=2", "method.factor=1", f"method.batch_real={REAL}"]
    done = subprocess.run(
        [sys.executable, "-m", "dcond", "condense", *words], cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert (
        "3,000 training images, 36.9 MB, on disk, read when wanted (as dataset.keep says)" in done.stdout + done.stderr
    )
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["images_stored"] == CLASSES
    peak = result["cost"]["peak_memory_bytes"]
    assert peak < 3 * WHOLE, f"{peak / 1e6:.0f} MB"  # of the process: torch, the stored images' copies, a few classes

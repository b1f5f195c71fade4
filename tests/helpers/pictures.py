"""Image files and arrays of random pixels."""

import numpy as np
from PIL import Image


def picture(path, size=(6, 6), mode="RGB", seed=0, **save):
    """Write random pixels; ``size`` is (width, height) as Pillow has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0]) + {"RGB": (3,), "RGBA": (4,), "L": ()}[mode]
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path, **save)
    return pixels


def arrays(train=20, test=6, side=4, channels=3):
    """Colour images of three classes and their labels, as a prepared file has them."""
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (train, side, side, channels), dtype=np.uint8),
        "train_labels": np.arange(train) % 3,
        "test_images": rng.integers(0, 256, (test, side, side, channels), dtype=np.uint8),
        "test_labels": np.arange(test) % 3,
    }

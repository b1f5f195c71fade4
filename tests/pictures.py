"""Image files of random pixels."""

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

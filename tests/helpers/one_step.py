"""One step of a method, with the images before and after it."""

import torch

from dcond.rng import Streams
from dcond.types import SyntheticSet


def as_set(images, real, factor):
    """Make a set of class-major images."""
    ipc = len(images) // 3
    labels = torch.arange(3).repeat_interleave(ipc)
    spec = real.class_names, ipc, real.mean, real.std, factor
    return SyntheticSet(images, labels, *spec, whitening=real.whitening)


def step_once(made, real, ipc=2):
    """Do one step; return the metrics, the state, and the images before and after."""
    rng, factor = Streams(0), made.method.factor
    images = made.start(real, ipc, factor, rng)
    synthetic = as_set(images, real, factor)
    before = images.clone()
    state = made.method.init(real, synthetic, rng)
    metrics = made.method.step(real, synthetic, state)
    return metrics, state, before, synthetic.images.detach()

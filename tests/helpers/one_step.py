"""One step of a method, with the images before and after it."""

from dcond.rng import Streams
from dcond.types import SyntheticSet


def step_once(made, real, ipc=2):
    """Do one step; return the metrics, the state, and the images before and after."""
    rng, factor = Streams(0), made.method.factor
    images = made.start(real, ipc, factor, rng)
    synthetic = SyntheticSet.from_images(images, real, factor=factor)
    before = images.clone()
    state = made.method.init(real, synthetic, rng)
    metrics = made.method.step(real, synthetic, state)
    return metrics, state, before, synthetic.images.detach()

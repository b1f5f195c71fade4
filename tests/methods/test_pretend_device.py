"""Every method on a device whose tensors are not the CPU's.

The device is pretended (:mod:`helpers.pretend_device`): results equal those of the CPU, and between
two records the host never waits for it.
"""

import pytest
import torch

from dcond.paths import conf_dir
from dcond.rng import Streams
from dcond.run import checkpoint
from dcond.run.loop import LoopSettings
from dcond.types import RealData, SyntheticSet
from helpers.pretend_device import pretend_device

FILES = sorted((conf_dir() / "method").glob("*.yaml"))
FAST = ("random", "kmeans", "dm", "m3d", "dsa")  # the others take seconds each
EVERY = [
    pytest.param(file.stem, marks=() if file.stem in FAST else pytest.mark.slow) for file in FILES
]
AT_ONCE = ["dsa", "hmdc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("degm", "idc"))]
OVERRIDES = (
    "model.width=8",
    "pool@learners=convnet_vit_small",
    "learners.networks.ConvNet.width=8",
    "learners.networks.ViT.width=8",
    "learners.networks.ViT.depth=1",
    "engine.chunk=64",
)
SIZES = {"batch_real": 4, "batch_train": 8, "width": 8, "inner_epochs": 1, "inner_steps": 1}
STEPS = 2  # the second under new networks
# Figures that decide how a method goes on: whether DEGM trains for another epoch, how much the
# accuracy of a network of IDM's queue counts, whether DATM updates, whether NCFM halves its rate.
DECIDING = (
    "methods/gradient_matching.py",
    "training/network_queue.py",
    "methods/datm.py",
    "methods/ncfm.py",
)


@pytest.fixture
def device():
    with pretend_device() as device:
        yield device


@pytest.fixture
def small(parts):
    """Make a method that does everything within two steps."""

    def make(method, *arguments):
        return parts(method, *OVERRIDES, *arguments, **SIZES, steps=STEPS, steps_per_network=1)

    return make


class Started:
    """A method after its first images are made and its state is."""

    def __init__(self, parts, real: RealData):
        self.method, self.real, rng = parts.method, real, Streams(0)
        assert len(real.class_rows) == 3  # read once, then kept
        images = parts.start(real, 2, self.method.factor, rng)
        labels = torch.arange(3).repeat_interleave(2).to(real.device)
        names, factor = real.class_names, self.method.factor
        self.synthetic = SyntheticSet(images, labels, names, 2, real.mean, real.std, factor)
        self.state = self.method.init(real, self.synthetic, rng)

    def steps(self) -> torch.Tensor:
        """Do all steps; return the images, which stay on the device."""
        for _ in range(STEPS if self.method.steps else 0):
            self.method.step(self.real, self.synthetic, self.state)
        return self.synthetic.images.detach()


def unexpected(device):
    """Return the waits of the host, by operator, file and line, without those that decide."""
    return {
        place: count
        for place, count in device.waits.items()
        if not any(file in place for file in DECIDING)
    }


@pytest.mark.parametrize("method", EVERY)
def test_a_method_makes_the_same_images_as_on_the_cpu_and_the_host_does_not_wait(
    method, small, device, toy
):
    parts = small(method)
    expected = Started(parts, toy).steps()
    there = Started(parts, toy.to(device.name))
    device.reset()
    images = there.steps()
    assert unexpected(device) == {}
    assert torch.equal(images.cpu(), expected)


@pytest.mark.parametrize("method", AT_ONCE)
def test_all_classes_at_once_make_the_same_images_within_rounding_and_without_waits(
    method, small, device, toy
):
    expected = Started(small(method), toy).steps()
    there = Started(small(method, "engine.classes=3"), toy.to(device.name))
    device.reset()
    images = there.steps()
    assert unexpected(device) == {}
    torch.testing.assert_close(images.cpu(), expected, rtol=0, atol=1e-4)


def test_a_run_on_the_device_leaves_the_losses_and_the_checkpoint_of_the_cpu(
    small, device, run_made, toy, tmp_path
):
    loop = LoopSettings(record_every=2)
    there = run_made(small("dm"), toy.to(device.name), tmp_path / "there", loop=loop)
    here = run_made(small("dm"), toy, tmp_path / "here", loop=loop)
    assert there.losses == here.losses
    saved = [checkpoint.load(tmp_path / folder).images for folder in ("there", "here")]
    assert torch.equal(*saved)

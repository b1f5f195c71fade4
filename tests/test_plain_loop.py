"""The loop of ``benchmarks/plain.py``, whose operators are counted, does what a step does."""

import sys
from pathlib import Path

import pytest
import torch

from dcond.augment import DiffAug
from dcond.matching.engine import Engine
from dcond.methods.dm import DM
from dcond.methods.gradient_matching import GradientMatching
from dcond.models import ConvNet
from dcond.rng import Streams
from helpers.double import double_data, start

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NETWORK = ConvNet(name="ConvNet", width=4)
AUGMENT = DiffAug(["color", "crop", "flip"])
OPTIONS = {
    "network": NETWORK,
    "engine": Engine(precision="float32", compile=False, classes=1),
    "steps": 1,
    "batch_real": 5,
    "pixel_box": "free",
}
METHODS = {
    "dm": DM(**OPTIONS, lr=1.0, augment=AUGMENT),
    "dc": GradientMatching(**OPTIONS),
    "dsa": GradientMatching(**OPTIONS, augment=AUGMENT),
}


@pytest.fixture
def class_loop(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from plain import class_loop

    yield class_loop
    for name in ("plain", "made_up"):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", METHODS)
def test_two_steps_equal_those_of_the_method(class_loop, name):
    method, real = METHODS[name], double_data(3, 8)
    ours, theirs = start(real, ipc=1), start(real, ipc=1)
    state = method.init(real, ours, Streams(0))
    rng = Streams(0)
    if name == "dm":  # whose first step replaces the network of its state
        NETWORK.build(real.spec, rng.networks, real.device)
    step = class_loop(method, real, theirs, rng)
    for _ in range(2):
        loss = method.step(real, ours, state)["loss"]
        images, total = step()
        torch.testing.assert_close(total, loss.detach())
        torch.testing.assert_close(images, real.spec.normalise(ours.images.detach()))

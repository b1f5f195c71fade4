"""The engine's choices, and class gradients of fast passes against those of plain ones."""

import logging
import threading
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

from dcond.errors import ConfigError
from dcond.matching import engine as module
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.distances import DISTANCES
from dcond.matching.engine import Engine
from dcond.matching.fast_forward import FastForward, pays_to_compile
from dcond.models import ConvNet
from dcond.rng import generator
from dcond.types import ImageSpec

SPEC = ImageSpec(1, 8, 8, 3, (0.5,), (0.25,))
CONVNET = ConvNet(name="ConvNet", width=16)


def images(count, seed):
    return torch.randn(3, count, 1, 8, 8, generator=generator(seed, "images"))


def bound(network, **fast):
    return ClassGradients(
        network, FastForward(network, **({"bfloat16": False, "compiled": False} | fast)), 16, 1
    )


def test_bfloat16_gradients_point_the_same_way():
    network = CONVNET.build(SPEC, generator(0, "network"))
    real, synthetic = images(32, 1), images(2, 2)
    exact, mixed = bound(network), bound(network, bfloat16=True)
    for across in (False, True):
        wanted, found = (
            g.match(real, synthetic, DISTANCES["rowwise"], across=across).gradient.flatten()
            for g in (exact, mixed)
        )
        assert found.dtype == torch.float32
        assert float(F.cosine_similarity(wanted, found, dim=0)) > 0.99


@pytest.mark.slow
def test_compiled_passes_differ_by_rounding_only():
    network = CONVNET.build(SPEC, generator(0, "network"))
    real, synthetic = images(32, 1), images(2, 2)
    compiled = bound(network, compiled=True)
    for seed in (1, 2):  # fresh weights in the same tensors
        CONVNET.reset(network, SPEC, generator(seed, "network"))
        wanted, found = (
            g.match(real, synthetic, DISTANCES["rowwise"]) for g in (bound(network), compiled)
        )
        torch.testing.assert_close(found.within, wanted.within, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.gradient, wanted.gradient, rtol=1e-3, atol=1e-3)


def test_a_failing_compiler_is_reported_and_not_used(caplog, monkeypatch):
    def broken(network, **_):
        def run(x):
            raise RuntimeError("no g++\nmore lines")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    network = CONVNET.build(SPEC, generator(0, "network"))
    forward = FastForward(network, bfloat16=False, compiled=True)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(forward(images(2, 1)[0]), network(images(2, 1)[0]))
        forward(images(2, 1)[0])
    assert [r.message for r in caplog.records] == [
        "torch.compile failed; continuing without it: no g++"
    ]


def test_a_compiler_that_fails_on_the_backward_pass_is_not_used_either(caplog, monkeypatch):
    def fail(graph, inputs):
        raise RuntimeError("no g++")

    backend = aot_autograd(
        fw_compiler=lambda graph, inputs: make_boxed_func(graph.forward), bw_compiler=fail
    )
    compile = partial(torch.compile, backend=backend)
    monkeypatch.setattr(torch, "compile", compile)
    network = CONVNET.build(SPEC, generator(0, "network"))
    forward = FastForward(network, bfloat16=False, compiled=True)
    with caplog.at_level(logging.WARNING):
        forward(images(2, 1)[0]).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
    assert [r.message for r in caplog.records if r.name == "dcond.matching.fast_forward"] == [
        "torch.compile failed; continuing without it: no g++"
    ]


def test_running_out_of_memory_is_no_fault_of_the_compiler(monkeypatch):
    def full(images):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch, "compile", lambda network, **arguments: full)
    forward = FastForward(
        CONVNET.build(SPEC, generator(0, "network")), bfloat16=False, compiled=True
    )
    with pytest.raises(torch.OutOfMemoryError):
        forward(images(2, 1)[0])
    assert forward.compiled is full


def test_auto_takes_one_class_on_a_cpu_and_compiles_long_runs_only(monkeypatch):
    monkeypatch.setattr("dcond.matching.fast_forward.shutil.which", lambda name: name)
    monkeypatch.setattr(module, "has_fast_bfloat16", lambda device: True)
    network = CONVNET.build(SPEC, generator(0, "network"))
    short, long = (Engine().bind(network, SPEC, count) for count in (1000, 10**12))
    assert short.classes == long.classes == 1
    assert short.chunk == 64
    assert short.forward.bfloat16
    assert short.forward.compiled is None
    assert long.forward.compiled is not None
    exact = Engine(precision="float32", compile=False, classes=2, chunk=5).bind(
        network, SPEC, 10**12
    )
    assert (exact.forward.bfloat16, exact.forward.compiled, exact.classes, exact.chunk) == (
        False,
        None,
        2,
        5,
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"precision": "float16"},
            "Engine.precision='float16' is unknown; allowed: auto, float32, bfloat16",
        ),
        ({"compile": "yes"}, "Engine.compile='yes' is unknown; allowed: true, false, auto"),
        ({"classes": 0}, "Engine.classes=0 is out of range"),
        (
            {"classes": "all"},
            "Engine.classes='all' is unknown; allowed: whole numbers from 1, auto",
        ),
        ({"chunk": 0}, "Engine.chunk=0 is out of range"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        Engine(**setting)


def test_a_network_without_a_second_derivative_is_refused_before_any_work():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.Hardsigmoid(), torch.nn.Flatten(), torch.nn.LazyLinear(3)
    )
    network(torch.zeros(1, 1, 8, 8))
    with pytest.raises(
        ConfigError,
        match=r"Sequential has no second derivative, which this method needs .*hardsig.*method=m3d",
    ):
        Engine().bind(network, SPEC, 1)


def test_looking_for_the_second_derivative_changes_no_network():
    network = CONVNET.build(SPEC, generator(0, "network"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Engine().bind(network, SPEC, 1)
    assert network.training
    assert all(
        parameter.grad is None and parameter.requires_grad for parameter in network.parameters()
    )
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_network_that_cannot_be_copied_is_not_tried():
    network = CONVNET.build(SPEC, generator(0, "network"))
    network.kept = next(network.parameters()) * 2  # no leaf of a graph: PyTorch does not copy it
    assert Engine(compile=False).bind(network, SPEC, 1).network is network


class OnTheCPU(torch.nn.Module):
    """Makes a tensor on the CPU in its forward pass."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(64, 3)

    def forward(self, x):
        return self.linear(x.flatten(1) * torch.linspace(0.5, 1, 64))


class WithALock(torch.nn.Module):
    """Cannot be copied."""

    def __init__(self):
        super().__init__()
        self.linear, self.lock = torch.nn.Linear(64, 3), threading.Lock()

    def forward(self, x):
        with self.lock:
            return self.linear(x.flatten(1))


@pytest.mark.parametrize("kind", [OnTheCPU, WithALock])
def test_a_network_whose_operations_cannot_be_counted_is_not_compiled(kind, monkeypatch):
    monkeypatch.setattr("dcond.matching.fast_forward.shutil.which", lambda name: name)
    network, cpu = kind(), torch.device("cpu")
    assert pays_to_compile(
        torch.nn.Sequential(torch.nn.Flatten(), network.linear), SPEC, 10**14, cpu
    )
    assert not pays_to_compile(network, SPEC, 10**14, cpu)
    gradients = Engine(classes=2).bind(network, SPEC, 10**14)
    assert gradients.forward.compiled is None
    found = gradients.match(images(4, 1), images(2, 2), DISTANCES["squared"]).gradient
    assert torch.isfinite(found).all()


def test_every_shape_of_a_long_sweep_is_compiled(monkeypatch):
    """PyTorch's default, eight shapes of a network in one process, is too few."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    shapes = []

    def network(images):
        if not torch.compiler.is_compiling():
            shapes.append(len(images))  # runs without a compiled graph
        return images.flatten(1).sum(1, keepdim=True)

    forward = FastForward(network, bfloat16=False, compiled=True)
    for count in range(1, 13):
        forward(torch.ones(count, 1, 2, 2))
    assert shapes == []

"""Devices by name, and memory."""

import sys
from pathlib import Path

import pytest
import torch

from dcond.device import (
    peak_memory_bytes,
    reset_peak_memory,
    resolve_device,
    tune_malloc,
)
from dcond.errors import ConfigError
from dcond.torch_state import float32_convolutions


@pytest.fixture
def machine(monkeypatch):
    """Pretend that this machine has so many CUDA devices, and MPS or not; return which of them were
    made current.
    """
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)

    def pretend(cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        return current

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "taken"),
    [(0, False, "cpu"), (0, True, "mps"), (1, False, "cuda"), (2, True, "cuda")],
)
def test_auto_takes_cuda_then_mps_then_the_cpu(machine, cuda, mps, taken):
    machine(cuda, mps)
    assert resolve_device("auto") == torch.device(taken)


def test_a_device_may_be_named(machine):
    current = machine(cuda=2)
    for name in ("cpu", "cuda", "cuda:1"):
        assert resolve_device(name) == torch.device(name)
    assert current == [1]  # what is not told otherwise must not go to the first


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "CPU "])
def test_a_word_that_is_no_device_is_refused(name):
    with pytest.raises(ConfigError) as error:
        resolve_device(name)
    assert str(error.value) == f"device={name!r} is unknown; allowed: auto, cpu, cuda, cuda:N, mps."


@pytest.mark.parametrize(
    ("name", "cuda"), [("cuda", 0), ("mps", 1), ("cuda:3", 2), ("xpu", 0), ("meta", 0)]
)
def test_a_device_that_is_not_here_is_refused(machine, name, cuda):
    machine(cuda)
    with pytest.raises(ConfigError) as error:
        resolve_device(name)
    assert (
        str(error.value) == f"device={name!r} is not available here; use device=auto or device=cpu."
    )


def test_peak_memory_is_in_bytes_on_every_system(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(
        Path, "exists", lambda self: False
    )  # no /proc: getrusage tells, in KiB or in bytes on a Mac
    monkeypatch.setattr(sys, "platform", "linux")
    linux = peak_memory_bytes(cpu)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert linux == 1024 * peak_memory_bytes(cpu)


def test_peak_memory_where_the_kernel_does_not_say_it(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.setattr(Path, "read_text", lambda self: "Name:\tpython\n")
    assert peak_memory_bytes(torch.device("cpu")) > 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the figure is checked against Linux's own")
def test_peak_memory_is_this_processs():
    status = Path("/proc/self/status").read_text()
    kib = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak_memory_bytes(torch.device("cpu")) == pytest.approx(1024 * kib, rel=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is the whole process's")
def test_a_job_does_not_report_the_peak_of_an_earlier_job():
    cpu = torch.device("cpu")
    tune_malloc()
    reset_peak_memory(cpu)  # of the tests before
    before = peak_memory_bytes(cpu)
    kept = [
        torch.ones(2**18) for _ in range(512)
    ]  # 512 MiB in blocks that are kept when they are freed
    del kept
    peak = peak_memory_bytes(cpu)
    reset_peak_memory(cpu)
    assert peak > before + 2**28
    assert peak_memory_bytes(cpu) < peak - 2**28


def test_the_peak_stays_where_the_system_does_not_let_it_go(monkeypatch):
    def denied(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", denied)
    before = peak_memory_bytes(torch.device("cpu"))
    reset_peak_memory(torch.device("cpu"))
    assert peak_memory_bytes(torch.device("cpu")) > 0.99 * before  # the kernel counts in batches


def test_the_peak_of_a_gpu_is_a_jobs_own(monkeypatch):
    done = []
    monkeypatch.setattr(
        torch.cuda, "init", lambda: done.append("init")
    )  # without, there is no peak to reset
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", done.append)
    reset_peak_memory(torch.device("cuda:1"))
    assert done == ["init", torch.device("cuda:1")]


def test_convolutions_are_float32_for_a_block_only():
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    with float32_convolutions():
        assert convolutions.fp32_precision == "ieee"
    assert convolutions.fp32_precision == before != "ieee"

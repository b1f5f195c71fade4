"""The device a run computes on, and what it used of it."""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from dcond.distributed import Ranks, current
from dcond.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Return the device of this name; ``auto`` takes CUDA, then MPS, then the CPU.

    Of several processes each gets a GPU of its own, or all of them the CPU.

    Raises:
        ConfigError: the word is no device, or this machine has none of it, or too few.
    """
    if current().count > 1:
        name = _own_device(name, current())
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device={name!r} is unknown; allowed: auto, cpu, cuda, cuda:N, mps."
        ) from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    beyond = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if beyond or not there.get(device.type, False):
        raise ConfigError(f"device={name!r} is not available here; use device=auto or device=cpu.")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device.index)  # else the process also holds some memory of the first
    return device


def _own_device(name: str, ranks: Ranks) -> str:
    """Return the name of the device of one of several processes.

    Raises:
        ConfigError: there are too few GPUs, or the name means one device for all.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"device={name!r} is one for {ranks.count} processes; device=cuda gives each its own."
        )
    if name == "cpu" or not gpus:
        return "cpu" if name == "auto" else name
    if gpus < ranks.local_count:
        raise ConfigError(
            f"{ranks.local_count} processes on a machine with {gpus} GPU(s): each needs its own; "
            f"start {gpus} (torchrun --nproc-per-node={gpus}), or say device=cpu."
        )
    return f"cuda:{ranks.local_rank}"


def share_of_cores() -> int:
    """Return how many CPU threads a process may use: PyTorch's choice, or its share where several run on this machine.

    torchrun sets OMP_NUM_THREADS to 1 where the user sets nothing, which would leave most cores
    idle.
    """
    ranks = current()
    if ranks.local_count == 1 or os.environ.get("OMP_NUM_THREADS", "1") != "1":
        return torch.get_num_threads()
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, cores // ranks.local_count)


def reset_peak_memory(device: torch.device) -> None:
    """Begin a new peak: a process may run one job after another, and each tells its own.

    Where the system does not let it (macOS, Windows, some containers), the peak stays that of the
    whole process.
    """
    if device.type == "cuda":
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform.startswith("linux"):
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # what was kept for the steps of the job before is not this one's
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of allocated device memory (CUDA), or of this process's resident memory (else)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if (
        status.exists()
    ):  # getrusage would also count what the parent process had when it started this one
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """Have NVIDIA GPUs convolve in float32 for the length of a block, where PyTorch rounds the factors to TF32.

    TF32 has 10 bits for the fraction of a number, float32 has 23. Matrix products are in float32
    always.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # made when torch.backends is imported
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def tune_malloc() -> None:
    """Let glibc keep freed blocks for the next step instead of giving them back to the system.

    By default every tensor over some MiB is mapped anew and its pages are cleared by the kernel,
    step after step: on a CPU that took more than half of a DM step (docs/performance.md). Elsewhere
    than on glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4  # malloc.h
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_top_pad, 2**28)

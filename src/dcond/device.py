"""The device that computes: which one, its memory, copies to it, and what is faster on it."""

import ctypes
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from dcond.distributed import Ranks, current
from dcond.errors import ConfigError, DcondError, first_line

# PyTorch's allocators of CPU and MPS, and the libraries below, have no class for this error.
_OOM_MESSAGES = (
    *("out of memory", "can't allocate memory", "Invalid buffer size", "ALLOC_FAILED", "bad_alloc"),
    *("could not create a memory", "could not create a primitive"),
)
SIDE = 64  # pixels: settings that count images per pass are meant for images up to this size
MEMINFO = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
_CGROUP_FILES = (  # limit, use, and what counts as used but is not, less what does
    ("memory.max", "memory.current", "file", "shmem"),  # version 2
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem"),  # version 1
)


def resolve_device(name: str) -> torch.device:
    """Return the device of this name; ``auto`` takes CUDA, then MPS, then the CPU.

    Of several processes each gets its own GPU, or all of them the CPU.

    Raises:
        ConfigError: the name is unknown, or this machine does not have the device.
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
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise ConfigError(f"device={name!r} is not available here; use device=auto or device=cpu.")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device.index)  # else the process also uses memory of the first GPU
    return device


def _own_device(name: str, ranks: Ranks) -> str:
    """Return the name of the device of one of several processes.

    Raises:
        ConfigError: there are too few GPUs, or the name means one device for all.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"device={name!r} is one device for {ranks.count} processes; device=cuda gives each "
            "its own."
        )
    if name == "cpu" or not gpus:
        return "cpu" if name == "auto" else name
    if gpus < ranks.local_count:
        raise ConfigError(
            f"{ranks.local_count} processes on a machine with {gpus} GPU(s), but each needs its "
            f"own; start {gpus} (torchrun --nproc-per-node={gpus}), or use device=cpu."
        )
    return f"cuda:{ranks.local_rank}"


def share_of_cores() -> int:
    """Return the number of CPU threads for this process.

    PyTorch's default; the process's share of the cores where several processes of one run share a
    machine, since torchrun sets OMP_NUM_THREADS=1 unless the user sets it.
    """
    ranks = current()
    if ranks.local_count == 1 or os.environ.get("OMP_NUM_THREADS", "1") != "1":
        return torch.get_num_threads()
    can_ask = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if can_ask else os.cpu_count() or 1
    return max(1, cores // ranks.local_count)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to a device; on CUDA without waiting for the device.

    A copy from pageable host memory is staged at once: the tensor may be changed after the call.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished its work; on a CPU nothing is pending."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def scaled_batch_size(images: int, height: int, width: int, network: object = None) -> int:
    """Return how many images of (height, width) take the memory of ``images`` of 64 x 64.

    ``images`` itself for smaller ones. It only bounds memory: results differ by rounding at most.

    Args:
        images: their number at up to 64 x 64 pixels.
        height: in pixels.
        width: in pixels.
        network: takes the images; one with an ``input_side`` may enlarge them.
    """
    side = getattr(network, "input_side", 0)
    return max(1, images * SIDE**2 // max(SIDE**2, side**2, height * width))


def even_chunks(images: Tensor, chunk: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Split into parts of nearly equal size, at most ``chunk`` each: few shapes to compile for."""
    count = images.shape[dim]
    parts = -(-count // max(1, chunk))
    return torch.split(images, -(-count // parts), dim)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, of a device or of the host."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        message in first_line(error) for message in _OOM_MESSAGES
    )


def fastest(count: int, step: Callable[[int], object], device: torch.device, too_large: str) -> int:
    """Measure how many at once are fastest: one, or the largest of k, k/2, k/4 ... that fits.

    Args:
        count: k, the total number.
        step: ``step(m)`` does the work of all k, m at a time.
        device: where it computes.
        too_large: the error message if not even one fits in memory.

    Raises:
        DcondError: not even one fits.
    """
    seconds_of: dict[int, float] = {}
    at_once = count
    while at_once > 1:
        try:
            seconds_of[at_once] = seconds(lambda: step(at_once), device)  # noqa: B023 - called now
            break
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        at_once = -(-at_once // 2)
    try:
        seconds_of[1] = seconds(lambda: step(1), device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DcondError(too_large) from error
    return min(seconds_of, key=lambda at_once: seconds_of[at_once])


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the second of two calls."""
    duration = 0.0
    for _ in range(2):
        start = time.perf_counter()
        call()
        wait_for(device)
        duration = time.perf_counter() - start
    return duration


def free_bytes(device: torch.device) -> int | None:
    """Return the free memory of a CUDA device in bytes, of the host for others; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_host_bytes()


def free_host_bytes() -> int | None:
    """Return the host memory that this process may still use: its share of what is free.

    Free memory is that of the machine, or of its control groups if they allow less. The processes
    of one run on this machine share it. None outside of Linux.
    """
    if not MEMINFO.exists():
        return None
    fields = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
    available = fields.get("MemAvailable") or fields["MemFree"]  # old kernels lack the first
    free = [int(available.split()[0]) * 1024]
    free += [left for folder in _cgroups() if (left := _left_in_cgroup(folder)) is not None]
    return max(0, min(free)) // current().local_count


def _cgroups() -> list[Path]:
    """Return the folders of this process's control groups and of their parents."""
    lines = OWN_CGROUP.read_text().splitlines() if OWN_CGROUP.exists() else []
    inside = {line.split(":")[1]: line.split(":", 2)[2].lstrip("/") for line in lines}
    folders = [CGROUPS / inside.get("", ""), CGROUPS / "memory" / inside.get("memory", "")]
    return [
        each
        for folder in folders  # versions 2 and 1
        for each in (folder, *folder.parents)
        if each.is_relative_to(CGROUPS)
    ]


def _left_in_cgroup(folder: Path) -> int | None:
    """Return what a control group has left; None without a limit.

    Cached files do not count as used, but shared memory and tmpfs do, which the kernel counts as
    files: there is no other copy of them.
    """
    for limit, used, cached, shared in _CGROUP_FILES:
        with suppress(OSError, ValueError):  # no such group, or no limit ("max")
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            text = (folder / "memory.stat").read_text()
            stat = {name: int(count) for name, count in map(str.split, text.splitlines())}
            return left + stat.get(cached, 0) - stat.get(shared, 0)
    return None


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak: a process may run several jobs, and each reports its own.

    Where the system does not allow it (macOS, Windows, some containers), the peak remains that of
    the whole process.
    """
    if device.type == "cuda":
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform.startswith("linux"):
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # memory kept for the steps of the job before
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of allocated memory on CUDA, of the process's resident memory elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would include the parent process before the fork
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):  # not in every container
                return int(line.split()[1]) * 1024
    import resource  # not on Windows, where sets can be loaded

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def tune_malloc() -> None:
    """Let glibc keep freed blocks for the next step instead of returning them to the system.

    By default every tensor above some MiB is mapped anew and its pages are cleared by the kernel,
    step after step: on a CPU that took more than half of a DM step (docs/performance.md). Does
    nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4  # malloc.h
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_top_pad, 2**28)

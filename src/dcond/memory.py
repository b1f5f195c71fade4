"""Free memory of the device and the host, copies between them, and how many images go through a network at once."""

from pathlib import Path

import torch
from torch import Tensor

SIDE = 64  # pixels: settings that count images per pass mean images up to this size
MEMINFO = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def scaled_batch_size(images: int, height: int, width: int) -> int:
    """Return how many images of (height, width) go through a network at once where ``images`` of 64 x 64 would.

    The setting itself for all smaller images. It bounds memory alone: no result depends on it
    beyond rounding.
    """
    return max(1, images * SIDE**2 // max(SIDE**2, height * width))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a host tensor on a device; on CUDA without waiting for what the device is doing.

    A copy from ordinary host memory is staged at once, so the tensor may be changed or freed after
    the call.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def even_chunks(images: Tensor, chunk: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Split into parts of nearly equal size, none over ``chunk``: few shapes, so few compilations."""
    count = images.shape[dim]
    parts = -(-count // max(1, chunk))
    return torch.split(images, -(-count // parts), dim)


def free_bytes(device: torch.device) -> int | None:
    """Return the free memory of a device in bytes, the host's for any but CUDA; None where it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_host_bytes()


def free_host_bytes() -> int | None:
    """Return what this process may still take of the host's memory: the machine's, or its control groups' if less."""
    if not MEMINFO.exists():
        return None
    fields = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
    found = [int(fields["MemAvailable"].split()[0]) * 1024]
    found += [left for folder in _groups() if (left := _left(folder)) is not None]
    return max(0, min(found))


def _groups() -> list[Path]:
    """Return the folders of this process's control group (version 2) and of those around it."""
    lines = OWN_GROUP.read_text().splitlines() if OWN_GROUP.exists() else []
    inside = next((line[4:] for line in lines if line.startswith("0::/")), "")
    folder = CGROUPS / inside
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(CGROUPS))]


def _left(folder: Path) -> int | None:
    """Return what a control group has left; files that the kernel only keeps at hand do not count as used.

    Shared memory and a tmpfs do, which the kernel counts among the files: there is no other copy of
    them.
    """
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, no limit ("max")
        return None
    return limit - used + int(stat.get("file", 0)) - int(stat.get("shmem", 0))

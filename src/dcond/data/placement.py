"""Where the images of a data set are kept: on the device, in host memory, or on disk."""

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcond.data.prepared import Prepared
from dcond.data.validate import Images
from dcond.errors import DataError, one_of
from dcond.memory import free_bytes, free_host_bytes
from dcond.types import Split

log = logging.getLogger(__name__)

PLACES = ("auto", "device", "host", "disk")
SHARE = 0.5  # of the free memory: the rest is for networks and batches
CHUNK_BYTES = 2**25  # read at a time
TOLD = {"device": "on the device", "host": "in host memory", "disk": "on disk, read when wanted"}


def check_keep(keep: str) -> None:
    """Raise :class:`ConfigError` for a place that is none."""
    one_of("dataset.keep", keep, PLACES)


def places(name: str, data: Prepared, keep: str, device: torch.device) -> tuple[str, str]:
    """Return where the training and the test images are kept: "device", "host" or "disk".

    "auto" takes for each split the first of these with room, the test split before the other, for
    every evaluation goes through it. There is room where it takes half of the free memory at most.
    On a CPU host and device are one.

    Raises:
        DataError: "disk" for a set that cannot be read piece by piece.
    """
    if keep == "disk" and data.in_memory:
        raise DataError(
            f"dataset.keep=disk: {name} cannot be read piece by piece, for {data.in_memory}."
        )
    room = _room(device)
    found = []
    for what, images in (("test", data.test_images), ("training", data.train_images)):
        size = math.prod(images.shape)
        chosen, why = (
            (keep, "as dataset.keep says") if keep != "auto" else _first(size, room, data.in_memory)
        )
        if chosen in room:
            room[chosen] -= size
        level = logging.DEBUG if chosen == "device" and keep == "auto" else logging.INFO
        log.log(
            level,
            "%s: %s %s images, %s, %s (%s)",
            name,
            f"{len(images):,}",
            what,
            amount(size),
            TOLD[chosen],
            why,
        )
        found.append(chosen)
    return found[1], found[0]


def _room(device: torch.device) -> dict[str, float]:
    """Return how many bytes of images there is room for on the device, and in host memory if that is another."""
    free = {"device": free_bytes(device)}
    if device.type == "cuda":
        free["host"] = free_host_bytes()
    return {where: math.inf if left is None else SHARE * left for where, left in free.items()}


def _first(size: int, room: dict[str, float], in_memory: str) -> tuple[str, str]:
    """Return the first place with room for so many bytes, and why."""
    full: list[str] = []
    for where, left in room.items():
        if size <= left:
            return where, "; ".join(full) or "there is room"
        full.append(f"room for {amount(left)} {TOLD[where]}")
    return ([*room][-1], in_memory) if in_memory else ("disk", "; ".join(full))


def amount(size: float) -> str:
    """Write a number of bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def split_of(images: Images, labels: NDArray[np.int64], where: str) -> Split:
    """Return a split on the CPU whose images are read now, or where they are kept on disk, when they are wanted."""
    return Split(OnDisk(images) if where == "disk" else _whole(images), torch.from_numpy(labels))


def place_split(split: Split, where: str, device: torch.device) -> Split:
    """Return a split on the device that computes; the images stay in host memory where that is chosen."""
    return Split(split.images, split.labels.to(device)) if where == "host" else split.to(device)


@dataclass(frozen=True, eq=False)
class OnDisk:
    """Images (n, h, w, c) that are read when they are indexed, given channels first."""

    images: Images

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, c, h, w)."""
        n, h, w, c = self.images.shape
        return n, c, h, w

    def read(self, rows: Tensor | slice) -> Tensor:
        """Return rows as uint8 (len(rows), c, h, w) in host memory."""
        return _channels_first(self.images[rows if isinstance(rows, slice) else rows.numpy()])


def _whole(images: Images) -> Tensor:
    """Read all images, piece by piece, into one tensor (n, c, h, w)."""
    n, h, w, c = images.shape
    tensor = torch.empty(n, c, h, w, dtype=torch.uint8)
    step = max(1, CHUNK_BYTES // (h * w * c))
    for begin in range(0, n, step):
        tensor[begin : begin + step] = _channels_first(images[slice(begin, min(begin + step, n))])
    return tensor


def _channels_first(images: NDArray[np.uint8]) -> Tensor:
    # contiguous() would leave odd strides on grey images, which networks treat as channels-last.
    n, h, w, c = images.shape
    tensor = torch.empty(n, c, h, w, dtype=torch.uint8)
    tensor.numpy()[:] = images.transpose(
        0, 3, 1, 2
    )  # numpy also reads arrays that may not be written to
    return tensor

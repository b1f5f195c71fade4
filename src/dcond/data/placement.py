"""Where the images of a data set are stored: on the device, in host memory, or on disk."""

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcond.data.prepared import Prepared
from dcond.data.validate import Images, part_size
from dcond.device import free_bytes, free_host_bytes
from dcond.errors import DataError
from dcond.types import Split

log = logging.getLogger(__name__)

SHARE = 0.5  # of the free memory; the rest is for networks and batches
PLACES = {"device": "on the device", "host": "in host memory", "disk": "on disk, read on demand"}


def choose_places(name: str, data: Prepared, keep: str, device: torch.device) -> tuple[str, str]:
    """Return where the training and the test images are stored: "device", "host" or "disk".

    "auto" takes the first of these with room for each split, that is, where the split needs at most
    half of the free memory. The test split is placed first, since every evaluation reads all of it.
    On a CPU host and device are the same.

    Raises:
        DataError: "disk" for a set that cannot be read in parts.
    """
    if keep == "disk" and data.in_memory:
        raise DataError(
            f"dataset.keep=disk: {name} cannot be read in parts, because {data.in_memory}."
        )
    room = _room(device)
    places = []
    for split, images in (("test", data.test_images), ("training", data.train_images)):
        size = math.prod(images.shape)
        place, reason = (
            (keep, "dataset.keep") if keep != "auto" else _first(size, room, data.in_memory)
        )
        if place in room:
            room[place] -= size
        usual = place == "device" and keep == "auto"
        log.log(
            logging.DEBUG if usual else logging.INFO,
            f"{name}: {len(images):,} {split} images, {_format_bytes(size)}, "
            f"{PLACES[place]} ({reason})",
        )
        places.append(place)
    return places[1], places[0]


def _room(device: torch.device) -> dict[str, float]:
    """Return the bytes available for images on the device, and in host memory if it is separate."""
    free = {"device": free_bytes(device)}
    if device.type == "cuda":
        free["host"] = free_host_bytes()
    return {place: math.inf if left is None else SHARE * left for place, left in free.items()}


def _first(size: int, room: dict[str, float], in_memory: str) -> tuple[str, str]:
    """Return the first place with room for ``size`` bytes, and the reason."""
    full: list[str] = []
    for place, left in room.items():
        if size <= left:
            return place, "; ".join(full) or "there is room"
        full.append(f"room for {_format_bytes(left)} {PLACES[place]}")
    return ([*room][-1], in_memory) if in_memory else ("disk", "; ".join(full))


def _format_bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def make_split(images: Images, labels: NDArray[np.int64], place: str) -> Split:
    """Return a split on the CPU; images on "disk" are read on demand, others now."""
    return Split(OnDisk(images) if place == "disk" else _read(images), torch.from_numpy(labels))


def place_split(split: Split, place: str, device: torch.device) -> Split:
    """Return a split whose labels, and images except on the "host", are on ``device``."""
    return Split(split.images, split.labels.to(device)) if place == "host" else split.to(device)


@dataclass(frozen=True, eq=False)
class OnDisk:
    """Images (n, h, w, c) that are read when they are indexed, returned channels first."""

    images: Images

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, c, h, w)."""
        n, h, w, c = self.images.shape
        return n, c, h, w

    def read(self, rows: Tensor | slice) -> Tensor:
        """Return rows as uint8 (len(rows), c, h, w) in host memory."""
        return _read(self.images[rows if isinstance(rows, slice) else rows.numpy()])


def _read(images: Images) -> Tensor:
    """Read all images, in chunks, into one tensor (n, c, h, w)."""
    n, h, w, c = images.shape
    # contiguous() would keep unusual strides of grey images, which networks read as channels-last.
    tensor = torch.empty(n, c, h, w, dtype=torch.uint8)
    target, step = tensor.numpy(), part_size(images.shape)  # numpy accepts read-only arrays
    for begin in range(0, n, step):
        target[begin : begin + step] = images[begin : begin + step].transpose(0, 3, 1, 2)
    return tensor

"""Images of an uncompressed npz file, read from their place in it when they are wanted, never unpickled."""

import os
import struct
import weakref
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcond.errors import DataError

LOCAL_HEADER = struct.Struct(
    "<26xHH"
)  # of a zip member: lengths of its name and its extra field, at byte 26
AT_MOST = 2**30  # bytes that one call of the system reads


def open_member(path: Path, name: str) -> "MemberImages | None":
    """Open ``<name>.npy`` of an npz file; None where it must be read whole: compressed, or no uint8 images.

    Raises:
        DataError: its header is none of numpy's.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            return None
        file.seek(info.header_offset)
        name_length, extra_length = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        begin = info.header_offset + LOCAL_HEADER.size + name_length + extra_length
        file.seek(begin)
        major, _ = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if major == 1
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read_header(file)
        head = file.tell() - begin
        if (
            dtype != np.uint8
            or fortran
            or len(shape) not in (3, 4)
            or head + int(np.prod(shape)) != info.file_size
        ):
            return None
        return MemberImages(path, name, begin, head, shape, info.CRC)


class MemberImages:
    """uint8 images (n, h, w, c) in a file, indexed like an array.

    They are read at their offset, not mapped: of a mapping the kernel counts what it maps around
    each image as this process's memory, a hundred times the image where they are small. Whoever
    reads all images in their order has the file's checksum compared on the way.

    Args:
        path: the npz file.
        name: of the array in it.
        begin: where the member's content begins, in bytes.
        head: bytes of content before the pixels.
        shape: (n, h, w) or (n, h, w, c).
        crc: CRC-32 of the content.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, path: Path, name: str, begin: int, head: int, shape: tuple[int, ...], crc: int
    ):
        self.path, self.name, self.crc = path, name, crc
        self.shape = shape if len(shape) == 4 else (*shape, 1)
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._begin = begin + head
        self._image = int(np.prod(self.shape[1:]))
        self._head = zlib.crc32(os.pread(self._file, head, begin))
        self._summed, self._next = self._head, 0  # the checksum of all images before the next

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        if isinstance(rows, slice):
            begin, end, step = rows.indices(len(self))
            if step == 1:
                found = np.empty((max(0, end - begin), *self.shape[1:]), np.uint8)
                self._fill(found, begin)
                self._check(found, begin, end)
                return found
            rows = np.arange(begin, end, step)
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for own, row in zip(found, rows.tolist(), strict=True):
            self._fill(own, row)
        return found

    def _fill(self, images: NDArray[np.uint8], row: int) -> None:
        """Read as many images as there is place for, from a row on."""
        place, offset = images.reshape(-1).data, self._begin + row * self._image
        while len(place):
            content = os.pread(self._file, min(len(place), AT_MOST), offset)
            if not content:
                raise DataError(f"{self.path} ended before its images did; write or copy it again.")
            place[: len(content)] = content
            place, offset = place[len(content) :], offset + len(content)

    def _check(self, found: NDArray[np.uint8], begin: int, end: int) -> None:
        """Go on with the checksum where these images are the next, and compare it after the last."""
        if begin == 0:
            self._summed, self._next = self._head, 0
        if begin != self._next:
            return
        self._summed, self._next = zlib.crc32(found.data, self._summed), end
        if end == len(self) and self._summed != self.crc:
            raise DataError(
                f"{self.path} cannot be read as an npz file (Bad CRC-32 for file '{self.name}.npy'); "
                "write or copy it again."
            )

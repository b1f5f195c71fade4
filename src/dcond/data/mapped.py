"""Images of an uncompressed npz file, mapped into memory: read from the disk when they are wanted, never unpickled."""

import mmap
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcond.errors import DataError

LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: lengths of its name and its extra field, at byte 26
RELEASE = 2**25  # bytes mapped before they are given back
ROWS = 256  # images picked at a time
AROUND = 2**16  # bytes that the kernel maps around each of them


def map_member(path: Path, name: str) -> "MappedImages | None":
    """Map ``<name>.npy`` of an npz file; None where it must be read whole: compressed, or no uint8 images.

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
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        head = file.tell() - begin
        if dtype != np.uint8 or fortran or len(shape) not in (3, 4) or head + int(np.prod(shape)) != info.file_size:
            return None
        return MappedImages(path, name, begin, head, shape, info.CRC)


class MappedImages:
    """uint8 images (n, h, w, c) in a file, indexed like an array.

    Pages that were read are given back now and then, so that a long run holds no more than :data:`RELEASE` bytes of
    them. Whoever reads all images in their order has the file's checksum compared on the way.

    Args:
        path: the npz file.
        name: of the array in it.
        begin: where the member's content begins, in bytes.
        head: bytes of content before the pixels.
        shape: (n, h, w) or (n, h, w, c).
        crc: CRC-32 of the content.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, name: str, begin: int, head: int, shape: tuple[int, ...], crc: int):
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.path, self.name, self.crc = path, name, crc
        self.shape = shape if len(shape) == 4 else (*shape, 1)
        self._pixels: NDArray[np.uint8] = np.ndarray(self.shape, np.uint8, self._map, begin + head)
        self._head = zlib.crc32(self._map[begin : begin + head])
        self._summed, self._next = self._head, 0  # the checksum of all images before the next
        self._read = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        if isinstance(rows, slice):
            found = self._pixels[rows].copy()
            self._check(found, *rows.indices(len(self)))
            self._release(found.nbytes)
            return found
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for begin in range(0, len(rows), ROWS):
            part = rows[begin : begin + ROWS]
            found[begin : begin + ROWS] = self._pixels[part]
            self._release(len(part) * (AROUND + self._pixels[0].nbytes))
        return found

    def _release(self, read: int) -> None:
        """Give the pages back that were read since the last time, where they are many."""
        self._read += read
        if self._read >= RELEASE and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read = 0

    def _check(self, found: NDArray[np.uint8], begin: int, end: int, step: int) -> None:
        """Go on with the checksum where these images are the next, and compare it after the last."""
        if begin == 0:
            self._summed, self._next = self._head, 0
        if begin != self._next or step != 1:
            return
        self._summed, self._next = zlib.crc32(found.data, self._summed), end
        if end == len(self) and self._summed != self.crc:
            raise DataError(
                f"{self.path} cannot be read as an npz file (Bad CRC-32 for file '{self.name}.npy'); "
                "write or copy it again."
            )

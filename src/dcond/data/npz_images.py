"""Images of an uncompressed npz file, read from their offset on demand, never unpickled."""

import os
import struct
import weakref
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcond.data.validate import part_size
from dcond.errors import DataError

# Lengths of name and extra field in the header of a zip member, at byte 26.
LOCAL_HEADER = struct.Struct("<26xHH")
AT_MOST = 2**30  # bytes per system call


def open_member(path: Path, name: str) -> "MemberImages | None":
    """Open ``<name>.npy`` of an npz file; None if it is compressed or does not hold uint8 images.

    Raises:
        DataError: the header is not numpy's.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            return None
        file.seek(info.header_offset)
        lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        begin = info.header_offset + LOCAL_HEADER.size + sum(lengths)
        file.seek(begin)
        major, _ = np.lib.format.read_magic(file)
        read_header = getattr(np.lib.format, f"read_array_header_{min(major, 2)}_0")
        shape, fortran, dtype = read_header(file)
        header = file.tell() - begin
        plain = dtype == np.uint8 and not fortran and len(shape) in (3, 4)
        if not plain or header + int(np.prod(shape)) != info.file_size:
            return None
        return MemberImages(path, name, begin, header, shape, info.CRC)


class MemberImages:
    """uint8 images (n, h, w, c) in a file, indexed like an array.

    They are read at their offset, not mapped: the kernel counts pages that it maps around each
    image as memory of this process, up to a hundred times the size of a small image. Reading all
    images in order also compares the file's checksum.

    Args:
        path: the npz file.
        name: of the array in it.
        begin: offset of the member's content, in bytes.
        header: bytes of content before the pixels.
        shape: (n, h, w) or (n, h, w, c).
        crc: CRC-32 of the content.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, path: Path, name: str, begin: int, header: int, shape: tuple[int, ...], crc: int
    ):
        self.path, self.name, self.crc = path, name, crc
        self.shape = shape if len(shape) == 4 else (*shape, 1)
        self._open()
        self._begin = begin + header
        self._image = int(np.prod(self.shape[1:]))
        self._header_crc = zlib.crc32(os.pread(self._file, header, begin))
        self._crc, self._next = self._header_crc, 0  # checksum of all images before row _next
        self._verified = False

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the file anew: a copy, or another process, has no use for the descriptor."""
        vars(self).update(state)
        self._open()
        self._crc, self._next, self._verified = self._header_crc, 0, False

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        if isinstance(rows, slice):
            begin, end, step = rows.indices(len(self))
            if step == 1:
                images = np.empty((max(0, end - begin), *self.shape[1:]), np.uint8)
                self._read(images, begin)
                self._check(images, begin, end)
                return images
            rows = np.arange(begin, end, step)
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            self._read(image, row)
        return images

    def verify(self) -> None:
        """Compare the file's checksum, which reads all images unless that was done before.

        Raises:
            DataError: the images are damaged.
        """
        step = part_size(self.shape)
        for begin in range(0, 0 if self._verified else len(self), step):
            self[begin : begin + step]

    def _read(self, images: NDArray[np.uint8], row: int) -> None:
        """Fill ``images`` with the images from a row on."""
        target, offset = images.reshape(-1).data, self._begin + row * self._image
        while len(target):
            content = os.pread(self._file, min(len(target), AT_MOST), offset)
            if not content:
                raise DataError(f"{self.path} ended before its images did; write or copy it again.")
            target[: len(content)] = content
            target, offset = target[len(content) :], offset + len(content)

    def _check(self, images: NDArray[np.uint8], begin: int, end: int) -> None:
        """Continue the checksum if these images are the next ones; compare it after the last."""
        if begin == 0:
            self._crc, self._next = self._header_crc, 0
        if begin != self._next:
            return
        self._crc, self._next = zlib.crc32(images.data, self._crc), end
        if end < len(self):
            return
        if self._crc != self.crc:
            raise DataError(
                f"{self.path} cannot be read as an npz file (Bad CRC-32 for file "
                f"'{self.name}.npy'); write or copy it again."
            )
        self._verified = True

"""Image files of any kind and size to uint8 images of one shape, decoded when they are wanted."""

import itertools
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dcond.data.folder_listing import Files, Listing
from dcond.data.prepared import Prepared, check_prepared
from dcond.errors import DataError, one_of, require

Shape = tuple[int, int, int]  # height, width, channels

PAD = 128  # mid-grey, as multi-formation pads its cells
GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I")
ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # its values that mean a quarter
BITS = 258  # TIFF tag: bits per sample
GREY_16 = ("PNG", "PPM")  # formats whose mode "I" holds 16 bits
_SIDE = "Give the side to bring them to, as dataset.size=64."
_BILINEAR = Image.Resampling.BILINEAR
# Whatever Pillow raises on a file that is damaged or no image.
_IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True, kw_only=True)
class ImageRule:
    """How image files of unlike size and colour become one shape.

    Args:
        size: side of the square images in pixels; None keeps the size, which must then be the same
            for all.
        resize: "crop" scales the short side to ``size`` and cuts the middle out; "squash" scales
            both sides; "pad" scales the long side and fills with mid-grey. Bilinear, with low-pass
            where it shrinks.
        channels: 1, 3, or "auto": 3 unless every image is grey.
    """

    size: int | None = None
    resize: str = "crop"
    channels: int | str = "auto"

    def __post_init__(self) -> None:
        whole = isinstance(self.size, int) and not isinstance(self.size, bool) and self.size >= 1
        require(
            self.size is None or whole,
            f"dataset.size={self.size!r} must be a whole number of pixels or null.",
        )
        one_of("dataset.resize", self.resize, ("crop", "squash", "pad"))
        require(
            self.channels in (1, 3, "auto"),
            f"dataset.channels={self.channels!r} is unknown; allowed: auto, 1, 3.",
        )

    def decode(self, listing: Listing) -> Prepared:
        """Return both splits of a listing; an image is read when it is indexed.

        Raises:
            DataError: an image's size or colour must be known and the file cannot be read, or sizes
                differ and ``size`` is None; the message names the file.
        """
        shape = self._shape(itertools.chain(listing.train_files, listing.test_files))
        rule = {} if self.size is None else {"resize": np.array(self.resize)}
        return check_prepared(
            {
                "train_images": DecodedImages(self, listing.train_files, shape),
                "train_labels": listing.train_labels,
                "test_images": DecodedImages(self, listing.test_files, shape),
                "test_labels": listing.test_labels,
                "class_names": np.array(listing.class_names),
            }
            | rule,
            in_memory="",
        )

    def read(self, files: Files, way_out: str) -> NDArray[np.uint8]:
        """Read files into one array uint8 (n, h, w, c).

        Raises:
            DataError: as :meth:`decode`, or a file cannot be read; ``way_out`` ends what it says of
                unlike sizes.
        """
        return DecodedImages(self, files, self._shape(files, way_out))[:]

    def image(self, file: Path, shape: Shape) -> NDArray[np.uint8]:
        """Read one file as uint8 of this shape (h, w, c).

        Raises:
            DataError: it cannot be read, or is not as its header said; the message names it.
        """
        image = self._resized(_open(file, "L" if shape[2] == 1 else "RGB"))
        if image.size != shape[1::-1]:
            size = f"{image.size[0]} x {image.size[1]}"
            raise DataError(
                f"{file} is {size} now and was {shape[1]} x {shape[0]} when it was listed; start anew."
            )
        return np.asarray(image).reshape(shape)

    def _shape(self, files: Iterable[Path], way_out: str = _SIDE) -> Shape:
        """Settle on one shape; where a setting leaves it open, from the headers of the files, as many as it takes."""
        if self.size is not None and self.channels != "auto":
            return self.size, self.size, int(self.channels)
        height = width = self.size
        first, grey = None, True
        for file in files:
            if self.size is not None and not grey:
                break  # one of them has colour: they all get three channels
            (w, h), mode = _header(file)
            first = first or file
            grey = grey and mode in GREY_MODES
            if height is None or width is None:
                height, width = h, w
            elif self.size is None and (h, w) != (height, width):
                raise DataError(
                    f"images differ in size: {first} is {width} x {height}, {file} is {w} x {h} (width x height). "
                    f"{way_out}"
                )
        channels = (1 if grey else 3) if self.channels == "auto" else int(self.channels)
        if height is None or width is None:
            raise DataError("there is no image to take a size from.")
        return height, width, channels

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.size is None:
            return image
        side = (self.size, self.size)
        if self.resize == "crop":
            return ImageOps.fit(image, side, method=_BILINEAR)
        if self.resize == "squash":
            return image.resize(side, _BILINEAR)
        return ImageOps.pad(
            image, side, method=_BILINEAR, color=PAD if image.mode == "L" else (PAD, PAD, PAD)
        )


class DecodedImages:
    """Image files as uint8 images (n, h, w, c), indexed like an array and decoded then.

    As many threads decode as PyTorch has; Pillow does so outside of Python's lock. How many changes
    no image. torchvision's codecs give the same pixels of a JPEG file, but are deprecated since
    torchvision 0.29.

    Args:
        rule: how a file becomes an image.
        files: n of them.
        shape: (h, w, c).
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, rule: ImageRule, files: Files, shape: Shape):
        self.rule, self.files = rule, files
        self.shape = (len(files), *shape)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        places = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        fill = partial(self._fill, images, places)
        if len(places) == 1:
            fill(0)
        else:
            with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                for _ in pool.map(
                    fill, range(len(places))
                ):  # in order: the first that fails is always the same
                    pass
        return images

    def _fill(self, images: NDArray[np.uint8], places: NDArray[np.int64], i: int) -> None:
        images[i] = self.rule.image(self.files[int(places[i])], self.shape[1:])


def _header(file: Path) -> tuple[tuple[int, int], str]:
    """Return width and height as a viewer shows them, and the mode, without decoding the pixels."""
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(ORIENTATION) in TURNED
            return (image.size[::-1] if turned else image.size), image.mode
    except _IMAGE_ERRORS as error:
        raise _unreadable(file, error) from error


def _open(file: Path, mode: str) -> Image.Image:
    """Decode one file upright, as "L" or "RGB".

    Grey of 12 or 16 bits keeps its upper 8 (Pillow's own conversion would clip it); whole numbers
    of 32 bits and floating point are refused, for nothing says what is white. Palettes are looked
    up. Transparency is dropped: a transparent pixel shows the colour stored under it, for no
    background would be right for every set.
    """
    try:
        with Image.open(file) as source:
            image: Image.Image = ImageOps.exif_transpose(source)
            image.load()
            if image.mode.startswith("I;16") or (image.mode == "I" and source.format in GREY_16):
                image = Image.fromarray(
                    (np.asarray(image).clip(0, 65535) >> (_bits(source) - 8)).astype(np.uint8)
                )
            elif image.mode in ("I", "F"):
                kind = "floating point" if image.mode == "F" else "whole numbers of 32 bits"
                raise ValueError(f"its pixels are {kind}, of unknown range")
            elif image.mode == "P":
                image = image.convert(
                    "RGBA"
                )  # straight to RGB, Pillow warns of palettes with transparent colours
            return image.convert(mode)
    except _IMAGE_ERRORS as error:
        raise _unreadable(file, error) from error


def _bits(source: Image.Image) -> int:
    """Return the bits of a grey pixel in a file of more than 8: 16, or what a TIFF file says, 12 or 16."""
    return int(getattr(source, "tag_v2", {}).get(BITS, (16,))[0])


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{file} cannot be read as an image ({reason}); replace or remove it.")

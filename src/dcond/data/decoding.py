"""Image files of any kind and size to uint8 arrays of one shape."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dcond.data.folder import Listing
from dcond.data.prepared import Prepared, check_prepared
from dcond.errors import DataError, one_of, require

Shape = tuple[int, int, int]  # height, width, channels

PAD = 128  # mid-grey, as multi-formation pads its cells
GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I")
ORIENTATION = 0x0112  # EXIF tag; 5 to 8 mean that the camera was turned by a quarter
_SIDE = "Give the side to bring them to, as dataset.size=64."
_BILINEAR = Image.Resampling.BILINEAR
# Whatever Pillow raises on a file that is damaged or no image.
_IMAGE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True, kw_only=True)
class ImageRule:
    """How image files of unlike size and colour become one shape.

    Args:
        size: side of the square images in pixels; None keeps the size, which must then be the same for all.
        resize: "crop" scales the short side to ``size`` and cuts the middle out; "squash" scales both sides;
            "pad" scales the long side and fills with mid-grey. Bilinear, with low-pass where it shrinks.
        channels: 1, 3, or "auto": 3 unless every image is grey.
    """

    size: int | None = None
    resize: str = "crop"
    channels: int | str = "auto"

    def __post_init__(self) -> None:
        whole = isinstance(self.size, int) and not isinstance(self.size, bool) and self.size >= 1
        require(self.size is None or whole, f"dataset.size={self.size!r} must be a whole number of pixels or null.")
        one_of("dataset.resize", self.resize, ("crop", "squash", "pad"))
        require(self.channels in (1, 3, "auto"), f"dataset.channels={self.channels!r} is unknown; allowed: auto, 1, 3.")

    def decode(self, listing: Listing) -> Prepared:
        """Read all files of a listing.

        Raises:
            DataError: a file cannot be read, or sizes differ and ``size`` is None; the message names the file.
        """
        shape = self._shape([*listing.train_files, *listing.test_files])
        return check_prepared(
            {
                "train_images": self._read(listing.train_files, shape),
                "train_labels": listing.train_labels,
                "test_images": self._read(listing.test_files, shape),
                "test_labels": listing.test_labels,
                "class_names": np.array(listing.class_names),
            }
        )

    def read(self, files: Sequence[Path], way_out: str) -> NDArray[np.uint8]:
        """Read files into one array uint8 (n, h, w, c).

        Raises:
            DataError: as :meth:`decode`; ``way_out`` ends what it says of unlike sizes.
        """
        return self._read(files, self._shape(files, way_out))

    def _shape(self, files: Sequence[Path], way_out: str = _SIDE) -> Shape:
        """Settle on one shape; where a setting leaves it open, from the headers of all files."""
        if self.size is not None and self.channels != "auto":
            return self.size, self.size, int(self.channels)
        height = width = self.size
        grey = True
        for file in files:
            (w, h), mode = _header(file)
            grey = grey and mode in GREY_MODES
            if height is None or width is None:
                height, width = h, w
            elif self.size is None and (h, w) != (height, width):
                raise DataError(
                    f"images differ in size: {files[0]} is {width} x {height}, {file} is {w} x {h} (width x height). "
                    f"{way_out}"
                )
        channels = (1 if grey else 3) if self.channels == "auto" else int(self.channels)
        if height is None or width is None:
            raise DataError("there is no image to take a size from.")
        return height, width, channels

    def _read(self, files: Sequence[Path], shape: Shape) -> NDArray[np.uint8]:
        images = np.empty((len(files), *shape), np.uint8)
        for row, file in enumerate(files):
            image = _open(file, "L" if shape[2] == 1 else "RGB")
            images[row] = np.asarray(self._resized(image)).reshape(shape)
        return images

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.size is None:
            return image
        side = (self.size, self.size)
        if self.resize == "crop":
            return ImageOps.fit(image, side, method=_BILINEAR)
        if self.resize == "squash":
            return image.resize(side, _BILINEAR)
        return ImageOps.pad(image, side, method=_BILINEAR, color=PAD if image.mode == "L" else (PAD, PAD, PAD))


def _header(file: Path) -> tuple[tuple[int, int], str]:
    """Return width and height as a viewer shows them, and the mode, without decoding the pixels."""
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(ORIENTATION, 1) >= 5
            return (image.size[::-1] if turned else image.size), image.mode
    except _IMAGE_ERRORS as error:
        raise _unreadable(file, error) from error


def _open(file: Path, mode: str) -> Image.Image:
    """Decode one file upright, as "L" or "RGB".

    16-bit grey keeps its upper 8 bits (Pillow's own conversion would clip it). Palettes are looked up. Transparency is
    dropped: a transparent pixel shows the colour stored under it, for no background would be right for every set.
    """
    try:
        with Image.open(file) as source:
            image: Image.Image = ImageOps.exif_transpose(source)
            image.load()
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
            elif image.mode == "F":
                raise ValueError("its pixels are floating point, of unknown range")
            elif image.mode == "P":
                image = image.convert("RGBA")  # straight to RGB, Pillow warns of palettes with transparent colours
            return image.convert(mode)
    except _IMAGE_ERRORS as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{file} cannot be read as an image ({reason}); replace or remove it.")

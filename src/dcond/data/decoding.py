"""Image files of any type and size as uint8 images of one shape, decoded on demand."""

import itertools
import logging
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dcond.data.folder_listing import Files, Listing
from dcond.data.prepared import Prepared, check_prepared
from dcond.errors import READ_ERRORS, DataError
from dcond.paths import file_kind
from dcond.settings import PositiveInt, settings

log = logging.getLogger(__name__)

Shape = tuple[int, int, int]  # height, width, channels
Resize = Literal["crop", "squash", "pad"]
Channels = Literal["auto", 1, 3]
Level = Annotated[int, Ge(0), Le(255)]

PAD = 128  # mid-grey, as multi-formation pads its cells
GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I")
ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # its values for a rotation by 90 degrees
SIZE = (256, 257)  # TIFF tags: width and height as stored
BITS = 258  # likewise: bits per sample
MULTI_FRAME = (".gif", ".tif", ".tiff", ".webp")  # animations and scans of several pages
GREY_16 = ("PNG", "PPM")  # formats whose mode "I" holds 16 bits
_SET_SIZE = "Set the side that they are scaled to, such as dataset.size=64."
_MEASURED_AT_ONCE = 10_000  # files
_BILINEAR = Image.Resampling.BILINEAR
# Among them is all that Pillow raises for a file that is damaged or not an image.
_IMAGE_ERRORS = (*READ_ERRORS, Image.DecompressionBombError)


@settings
class ImageRule:
    """How image files of different sizes and colours become one shape.

    Args:
        size: side of the square images in pixels; None keeps the size, which must then be the same
            for all.
        resize: "crop" scales the short side to ``size`` and cuts out the middle; "squash" scales
            both sides; "pad" scales the long side and fills with mid-grey. Bilinear, with a
            low-pass filter when shrinking.
        channels: 1, 3, or "auto": 3 unless every image is grey.
        background: grey level behind transparent pixels, 0 (black) to 255 (white).
        levels: the values that become 0 and 255, as fractions of the largest that a file can hold;
            None: 0 and 1.
    """

    size: PositiveInt | None = None
    resize: Resize = "crop"
    channels: Channels = "auto"
    background: Level = 255
    levels: tuple[float, float] | None = None

    def rescaled(self, files: Files) -> Self:
        """Return the rule whose levels are the smallest and the largest value of all files.

        Raises:
            DataError: a file cannot be read, or all values are equal.
        """
        log.info("measuring the range of %s images", f"{len(files):,}")
        measure = partial(_range, background=self.background)
        low, high = math.inf, -math.inf
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for first in range(0, len(files), _MEASURED_AT_ONCE):  # a future per file takes memory
                part = files.part(np.arange(first, min(first + _MEASURED_AT_ONCE, len(files))))
                for lowest, highest in pool.map(measure, part):
                    low, high = min(low, lowest), max(high, highest)
        if low == high:
            raise DataError(
                f"dataset.rescale=true: all pixels of {files.root} have one value; omit it."
            )
        return replace(self, levels=(low, high))

    def decode(self, listing: Listing) -> Prepared:
        """Return both splits of a listing; an image is read when it is indexed.

        Raises:
            DataError: a header that is needed for size or colour cannot be read, or sizes differ
                and ``size`` is None; the message names the file.
        """
        shape = self._shape(itertools.chain(listing.train_files, listing.test_files))
        arrays = {
            "train_images": DecodedImages(self, listing.train_files, shape),
            "train_labels": listing.train_labels,
            "test_images": DecodedImages(self, listing.test_files, shape),
            "test_labels": listing.test_labels,
            "class_names": np.array(listing.class_names),
        }
        if self.size is not None:
            arrays["resize"] = np.array(self.resize)
        # The listing, or Dataset.load, checks which classes must have images.
        return check_prepared(arrays, in_memory="", some_classes=True)

    def read(self, files: Files, advice: str) -> NDArray[np.uint8]:
        """Read files into one array uint8 (n, h, w, c).

        Args:
            files: n of them.
            advice: what to do about different sizes, for the message.

        Raises:
            DataError: as :meth:`decode`, or a file cannot be read.
        """
        return DecodedImages(self, files, self._shape(files, advice))[:]

    def image(self, file: Path, shape: Shape) -> NDArray[np.uint8]:
        """Read one file as uint8 of this shape (h, w, c).

        Raises:
            DataError: it cannot be read, or has another size by now; the message names it.
        """
        image = self._resized(_open(file, "L" if shape[2] == 1 else "RGB", self))
        if image.size != shape[1::-1]:
            width, height = image.size
            raise DataError(
                f"{file} is {width} x {height} now and was {shape[1]} x {shape[0]} when it was "
                "listed; start again."
            )
        return np.asarray(image).reshape(shape)

    def _shape(self, files: Iterable[Path], advice: str = _SET_SIZE) -> Shape:
        """Return the common shape; what no setting gives is read from the headers of the files."""
        if self.size is not None and self.channels != "auto":
            return self.size, self.size, int(self.channels)
        size = None if self.size is None else (self.size, self.size)  # width, height
        first, grey = None, True
        for file in files:
            if self.size is not None and not grey:
                break  # one image has colour, so all get three channels
            own, mode = _header(file)
            first, size, grey = first or file, size or own, grey and mode in GREY_MODES
            if self.size is None and own != size:
                raise DataError(
                    f"images differ in size: {first} is {size[0]} x {size[1]}, {file} is "
                    f"{own[0]} x {own[1]} (width x height). {advice}"
                )
        channels = (1 if grey else 3) if self.channels == "auto" else int(self.channels)
        if size is None:
            raise DataError("there is no image to take a size from.")
        return size[1], size[0], channels

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.size is None:
            return image
        side = (self.size, self.size)
        if self.resize == "crop":
            return ImageOps.fit(image, side, method=_BILINEAR)
        if self.resize == "squash":
            return image.resize(side, _BILINEAR)
        colour = PAD if image.mode == "L" else (PAD, PAD, PAD)
        return ImageOps.pad(image, side, method=_BILINEAR, color=colour)


class DecodedImages:
    """Image files as uint8 images (n, h, w, c), indexed like an array and decoded then.

    As many threads decode as PyTorch has; Pillow releases Python's lock. Their number changes no
    image. torchvision's codecs give the same pixels of JPEG files, but are deprecated since 0.29.

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

        def fill(i: int) -> None:
            images[i] = self.rule.image(self.files[int(places[i])], self.shape[1:])

        if len(places) == 1:
            fill(0)
        else:
            with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                # In order, so that the first failure is always the same one.
                list(pool.map(fill, range(len(places))))
        return images


def _header(file: Path) -> tuple[tuple[int, int], str]:
    """Return width and height after rotation, and the mode, without decoding the pixels."""
    try:
        with Image.open(file) as image:
            tags = getattr(image, "tag_v2", {})  # Pillow turns the size of some TIFF files itself
            width, height = (
                int(tags.get(tag, side)) for tag, side in zip(SIZE, image.size, strict=True)
            )
            # Of a PNG file, getexif() decodes the pixels.
            turned = width != height and image.getexif().get(ORIENTATION) in TURNED
            return ((height, width) if turned else (width, height)), image.mode
    except _IMAGE_ERRORS as error:
        raise _unreadable(file, error) from error


def count_multi_frame(files: Iterable[Path]) -> int:
    """Return how many files hold several frames or pages, of which the first is used."""
    return sum(_frames(file) > 1 for file in files if file.suffix.lower() in MULTI_FRAME)


def _frames(file: Path) -> int:
    try:
        with Image.open(file) as image:
            return int(getattr(image, "n_frames", 1))
    except _IMAGE_ERRORS:
        return 0  # reported where it is read


def _open(file: Path, mode: str, rule: ImageRule) -> Image.Image:
    """Decode one file as "L" or "RGB" of 8 bits: the upper ones, or those of the rule's levels."""
    values, bits = _values(file, mode, rule.background)
    if rule.levels is not None:
        low, high = rule.levels
        values = np.rint(((values / (2**bits - 1) - low) / (high - low)).clip(0, 1) * 255)
    else:
        values = values >> (bits - 8)
    return Image.fromarray(values.astype(np.uint8)).convert(mode)


def _range(file: Path, background: int) -> tuple[float, float]:
    """Return the smallest and the largest value of a file, as fractions of the largest possible."""
    values, bits = _values(file, "RGB", background)
    return float(values.min()) / (2**bits - 1), float(values.max()) / (2**bits - 1)


def _values(file: Path, mode: str, background: int) -> tuple[NDArray[Any], int]:
    """Decode one file, rotated as its EXIF data asks; return its values and their bits.

    Grey of 12 or 16 bits is returned as it is (Pillow's own conversion would clip it), all else as
    8 bits of ``mode``. 32-bit integers and floating point are refused, since their range is
    unknown. Palettes are looked up. Transparent pixels show the background.
    """
    try:
        with Image.open(file) as source:
            image: Image.Image = ImageOps.exif_transpose(source)
            image.load()
            if image.mode.startswith("I;16") or (image.mode == "I" and source.format in GREY_16):
                # A TIFF file says whether it has 12 or 16 bits; other files have 16.
                bits = int(getattr(source, "tag_v2", {}).get(BITS, (16,))[0])
                return np.asarray(image).clip(0, 65535), bits
            if image.mode in ("I", "F"):
                kind = "floating point" if image.mode == "F" else "32-bit integers"
                raise ValueError(f"its pixels are {kind}, of unknown range")
            if image.has_transparency_data:
                canvas = Image.new("RGBA", image.size, (*[background] * 3, 255))
                image = Image.alpha_composite(canvas, image.convert("RGBA"))
            return np.asarray(image.convert(mode)), 8
    except _IMAGE_ERRORS as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DataError:
    reason, kind = " ".join(str(error).split()) or type(error).__name__, file_kind(file)
    if isinstance(error, UnidentifiedImageError):
        reason = f"it is {kind}" if kind and not kind.endswith("image") else "damaged, or no image"
    elif isinstance(error, FileNotFoundError) and file.is_symlink():
        reason = f"a symbolic link to nothing, {file.readlink()}"
    elif isinstance(error, Image.DecompressionBombError):
        reason = f"more than the {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels that are allowed"
        return DataError(f"{file} cannot be read as an image ({reason}); shrink or remove it.")
    return DataError(f"{file} cannot be read as an image ({reason}); replace or remove it.")

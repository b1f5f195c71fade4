"""Cached mean and std of image folders: measuring them decodes every image."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcond.cache import cache_file, read_entry, write_entry
from dcond.data.decoding import DecodedImages
from dcond.data.folder_listing import Files
from dcond.data.statistics import Statistics
from dcond.errors import DataError

log = logging.getLogger(__name__)


def cached_statistics(
    data_dir: Path, name: str, stats: str, images: DecodedImages, measure: Callable[[], Statistics]
) -> Statistics:
    """Return the statistics of a folder's images, measured once and cached.

    An entry of ``<data_dir>/statistics`` is valid for the same files (names, sizes, modification
    times), decoded by the same rule.

    Args:
        data_dir: folder of prepared data.
        name: of the data set.
        stats: kind of statistics, "pixel" or "sample".
        images: the training images.
        measure: computes the statistics.

    Raises:
        DataError: a file cannot be read.
    """
    key = f"{stats}/{images.rule!r}/{images.shape}".encode() + _state(images.files).tobytes()
    file = cache_file(data_dir / "statistics", name, key)
    cached = read_entry(file, _parse)
    if cached is not None:
        return cached
    log.info(
        "%s: measuring mean and std of %s images, once",
        name,
        "10,000" if stats == "sample" else f"{len(images):,}",
    )
    mean, std = measure()
    content = {"name": name, "stats": stats, "images": len(images), "mean": mean, "std": std}
    write_entry(file, json.dumps(content, indent=2) + "\n", "mean and std")
    return mean, std


def _parse(file: Path) -> Statistics:
    content = json.loads(file.read_text(encoding="utf-8"))
    return tuple(map(float, content["mean"])), tuple(map(float, content["std"]))


def _state(files: Files) -> NDArray[np.int64]:
    """Return a digest of the names, then size and modification time of each file."""
    names = hashlib.sha256(b"\0".join(files.names.tolist())).digest()
    states = np.empty((len(files), 2), np.int64)
    for row, file in enumerate(files):
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(
                f"{file} cannot be read ({error.strerror}); replace or remove it."
            ) from error
        states[row] = status.st_size, status.st_mtime_ns
    return np.concatenate([np.frombuffer(names, np.int64), states.ravel()])

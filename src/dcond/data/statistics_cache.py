"""Mean and standard deviation of image folders, kept from run to run: taking them decodes every image."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcond.data.decoding import DecodedImages
from dcond.data.folder_listing import Files
from dcond.data.statistics import Statistics
from dcond.errors import DataError
from dcond.paths import write_atomically

log = logging.getLogger(__name__)


def kept_statistics(
    data_dir: Path, name: str, stats: str, images: DecodedImages, measure: Callable[[], Statistics]
) -> Statistics:
    """Return the statistics of a folder's images from ``<data_dir>/statistics``, measured and kept there if new.

    Kept figures hold for the same files (names, sizes and times of change), decoded by the same
    rule.

    Args:
        data_dir: folder of prepared data.
        name: of the data set.
        stats: what is measured.
        images: the training images.
        measure: takes the statistics.
    """
    key = hashlib.sha256(f"{stats}/{images.rule!r}/{images.shape}".encode())
    key.update(_state(images.files).tobytes())
    file = data_dir / "statistics" / f"{name}_{key.hexdigest()[:16]}.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return tuple(map(float, content["mean"])), tuple(map(float, content["std"]))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: made anew
        pass
    log.info(
        "%s: taking mean and std of %s images, once",
        name,
        "10,000" if stats == "sample" else f"{len(images):,}",
    )
    mean, std = measure()
    text = (
        json.dumps(
            {"name": name, "stats": stats, "images": len(images), "mean": mean, "std": std},
            indent=2,
        )
        + "\n"
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, lambda path: _fill(path, text))
    except OSError as error:  # the figures are known: the next run takes them again
        log.warning("mean and std could not be kept in %s: %s", file, error.strerror or error)
    return mean, std


def _state(files: Files) -> NDArray[np.int64]:
    """Return what tells these files from others: a digest of the names, and size and time of change of each."""
    names = hashlib.sha256(b"\0".join(files.names.tolist())).digest()
    states = np.empty((len(files), 2), np.int64)
    for row, file in enumerate(files):
        try:
            found = file.stat()
        except OSError as error:
            raise DataError(
                f"{file} cannot be read ({error.strerror}); replace or remove it."
            ) from error
        states[row] = found.st_size, found.st_mtime_ns
    return np.concatenate([np.frombuffer(names, np.int64), states.ravel()])


def _fill(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

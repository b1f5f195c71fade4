"""The whole real training set, as what networks are trained on."""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from dcond.errors import DataError
from dcond.memory import free_bytes
from dcond.types import RealData, SyntheticSet

FINGERPRINT = 256  # images read at a time
SAMPLED = 32  # images that tell one test split from another


def whole_set(real: RealData, rows: Tensor | None = None) -> SyntheticSet:
    """Return the training images (or some rows of them) as a set that networks can be trained on."""
    rows = torch.arange(len(real.train)) if rows is None else rows
    classes = len(real.class_names)
    labels = real.train.labels[rows.to(real.device)]
    return SyntheticSet(
        real.pixels(rows),
        labels,
        real.class_names,
        max(1, len(rows) // classes),
        real.mean,
        real.std,
    )


def check_whole_fits(real: RealData, what: str) -> None:
    """Raise :class:`DataError` unless networks can be trained on the whole training set, held as float32 three times.

    Before anything is computed: nothing else in an evaluation needs memory for all real images.

    Args:
        real: the images.
        what: the words on the command line that ask for it.
    """
    free = free_bytes(real.device)
    needed = 3 * 4 * math.prod(real.train.images.shape)
    if free is not None and needed > free:
        raise DataError(
            f"{what} trains on all {len(real.train):,} real images of {real.name}, which takes "
            f"{needed / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free. Leave out {what}."
        )


def fingerprint(real: RealData) -> str:
    """Return a hash of every image and label, and of what networks see them through."""
    digest = hashlib.sha256(repr((real.name, real.mean, real.std)).encode())
    for split in (real.train, real.test):
        for images, _ in split.batches(FINGERPRINT):
            digest.update(np.ascontiguousarray(images.cpu().numpy()).data)
        digest.update(np.ascontiguousarray(split.labels.cpu().numpy()).data)
    return digest.hexdigest()


def fingerprint_of_test(real: RealData) -> str:
    """Return a short hash of the test split: its labels and 32 of its images, spread over it."""
    test = real.test
    rows = torch.linspace(0, len(test) - 1, SAMPLED).round().long()
    digest = hashlib.sha256(np.ascontiguousarray(test.labels.cpu().numpy()).data)
    digest.update(np.ascontiguousarray(test.take(rows).cpu().numpy()).data)
    return digest.hexdigest()[:16]

"""Hashes that identify a data set, for caches and artefacts."""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcond.types import RealData

HASH_BATCH = 256  # images per read
HASHED_TEST_IMAGES = 32


def fingerprint(real: RealData) -> str:
    """Return a SHA-256 of all images and labels, the data set's name and its normalisation."""
    whitened = () if real.whitening is None else ("zca",)  # fitted on the images
    digest = hashlib.sha256(repr((real.name, real.mean, real.std, *whitened)).encode())
    for split in (real.train, real.test):
        for images, _ in split.batches(HASH_BATCH):
            _update(digest, images)
        _update(digest, split.labels)
    return digest.hexdigest()


def fingerprint_of_test(real: RealData) -> str:
    """Return a short hash of the test split: its labels and 32 evenly spaced images."""
    test = real.test
    rows = torch.linspace(0, len(test) - 1, HASHED_TEST_IMAGES).round().long()
    digest = hashlib.sha256()
    _update(digest, test.labels)
    _update(digest, test.take(rows))
    return digest.hexdigest()[:16]


def _update(digest: Any, values: Tensor) -> None:
    digest.update(np.ascontiguousarray(values.cpu().numpy()).data)

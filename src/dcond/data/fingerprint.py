"""Hashes that identify a data set, for caches and artefacts."""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcond.data.validate import part_size
from dcond.types import RealData, Split

HASHED_IMAGES = 32


def fingerprint(real: RealData) -> str:
    """Return a SHA-256 of all images and labels, the data set's name and its normalisation."""
    whitened = () if real.whitening is None else ("zca",)  # fitted on the images
    digest = hashlib.sha256(repr((real.name, real.mean, real.std, *whitened)).encode())
    for split in (real.train, real.test):
        for images, _ in split.batches(part_size(split.images.shape)):
            _update(digest, images)
        _update(digest, split.labels)
    return digest.hexdigest()


def fingerprint_of_split(split: Split) -> str:
    """Return a short hash of the labels of a split and of 32 evenly spaced images."""
    rows = torch.linspace(0, len(split) - 1, HASHED_IMAGES).round().long()
    digest = hashlib.sha256()
    _update(digest, split.labels)
    _update(digest, split.take(rows))
    return digest.hexdigest()[:16]


def _update(digest: Any, values: Tensor) -> None:
    digest.update(np.ascontiguousarray(values.cpu().numpy()).data)

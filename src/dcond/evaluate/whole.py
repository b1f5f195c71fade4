"""The whole real training set, as what networks are trained on."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from dcond.types import RealData, SyntheticSet


def whole_set(real: RealData, rows: Tensor | None = None) -> SyntheticSet:
    """Return the training images (or some rows of them) as a set that networks can be trained on."""
    rows = torch.arange(len(real.train)) if rows is None else rows
    classes = len(real.class_names)
    labels = real.train.labels[rows.to(real.device)]
    return SyntheticSet(real.pixels(rows), labels, real.class_names, max(1, len(rows) // classes), real.mean, real.std)


def fingerprint(real: RealData) -> str:
    """Return a hash of every image and label, and of what networks see them through."""
    digest = hashlib.sha256(repr((real.name, real.mean, real.std)).encode())
    for tensor in (real.train.images, real.train.labels, real.test.images, real.test.labels):
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return digest.hexdigest()

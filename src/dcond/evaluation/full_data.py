"""The full real training set: as a training set, its cached accuracies, and its held-out part."""

import functools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import dcond
from dcond.artefact import checksum
from dcond.cache import cache_file, own_code
from dcond.data.fingerprint import fingerprint
from dcond.data.split import stratified_split
from dcond.device import free_bytes
from dcond.errors import DataError
from dcond.evaluation.one_by_one import Progress, train_one_by_one
from dcond.evaluation.results import EvalResult
from dcond.models import Pool, Recipe
from dcond.training.schedule import describe
from dcond.types import RealData, Split, SyntheticSet

if TYPE_CHECKING:
    from dcond.evaluation.protocol import BaseProtocol

log = logging.getLogger(__name__)

Sets = Callable[[int], SyntheticSet]  # maps a repeat to the set that its networks are trained on

HELD_OUT_FRACTION, HELD_OUT_MAX = 0.1, 5000  # of the training images
HELD_OUT_SEED = 0  # independent of the run's seed: every run holds out the same images


def full_training_set(real: RealData, rows: Tensor | None = None) -> SyntheticSet:
    """Return the real training images, or the given rows (int64), as a set to train networks on."""
    rows = torch.arange(len(real.train)) if rows is None else rows
    ipc = max(1, len(rows) // len(real.class_names))
    labels = real.train.labels[rows.to(real.device)]
    return SyntheticSet.from_images(real.pixels(rows), real, ipc=ipc, labels=labels)


def check_full_data_fits(real: RealData) -> None:
    """Check that networks can be trained on the full training set within the free memory.

    Training holds the images three times as float32. No other part of an evaluation needs memory
    for all real images, so this is checked before anything is computed.

    Raises:
        DataError: the free memory is too small.
    """
    free = free_bytes(real.device)
    needed = 3 * 4 * math.prod(real.train.images.shape)
    if free is not None and needed > free:
        raise DataError(
            f"scores.full=true trains on all {len(real.train):,} real images of {real.name} and "
            f"needs {needed / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free. "
            "Omit scores.full=true."
        )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Training data on which learning rates are chosen.

    Args:
        split: uint8 images and labels to measure accuracies on.
        sets: what networks are trained on during the search; None: the set itself. Used for real
            sets, which would otherwise contain the held-out images.
    """

    split: Split
    sets: Sets | None = None


def hold_out(
    protocol: "BaseProtocol", real: RealData, *, full_data: bool = False
) -> HeldOut | None:
    """Return the held-out data of a protocol that searches its learning rates, else None.

    Args:
        protocol: how networks are trained.
        real: data set whose training images are held out.
        full_data: whether the networks are trained on the real set itself; during the search it
            then excludes the held-out images.
    """
    if not protocol.searches:
        return None
    split, rest = held_out_rows(real)
    return HeldOut(split, (lambda repeat: full_training_set(real, rest)) if full_data else None)


def held_out_rows(real: RealData) -> tuple[Split, Tensor]:
    """Split off a stratified tenth of the training images, at most 5,000.

    Returns:
        The held-out images and labels, and the rows (int64) of the remaining images.

    Raises:
        DataError: there are too few images to hold out one.
    """
    labels = real.train.labels.cpu().numpy()
    count = min(round(HELD_OUT_FRACTION * len(labels)), HELD_OUT_MAX)
    rest, held_out = map(torch.from_numpy, stratified_split(labels, count, HELD_OUT_SEED))
    if len(held_out) == 0:
        raise DataError(
            f"{real.name} has {len(labels)} training images, too few to hold out a tenth and keep "
            "one per class. Add images, or omit evaluation.lr=search and test_on=held_out."
        )
    return real.train.part(held_out), rest


def tuning_data(real: RealData) -> RealData:
    """Return data for choosing settings: the held-out training images replace the test set."""
    held_out, rest = held_out_rows(real)
    return replace(real, train=real.train.part(rest), test=held_out)


def evaluate_full_data(
    protocol: "BaseProtocol",
    pool: Pool,
    real: RealData,
    seed: int,
    folder: Path,
    *,
    progress: Progress = lambda note: None,
) -> EvalResult:
    """Train the pool on the full training set and test it, with a cache in ``folder``.

    Training uses the hard labels, as the scores require, whatever the protocol's teacher. A cached
    result is used for the same protocol, network, data set, seed and version of dcond only.

    Args:
        protocol: how networks are trained.
        pool: the architectures.
        real: the data set.
        seed: seed of the run.
        folder: cache folder, one JSON file per network; created if missing.
        progress: called with the network and repeat that just ended.
    """
    protocol = protocol.without_teacher()
    settings, data = describe(protocol, "stack", "test_batch", "teacher"), fingerprint(real)
    if (whitening := real.whitening) is not None:  # perhaps of a set, fitted on other images
        data += checksum({}, {"mean": whitening.mean, "matrix": whitening.matrix})
    full = functools.cache(lambda: full_training_set(real))  # made once, if it is needed

    def file(name: str, recipe: Recipe) -> Path:
        key = f"{dcond.__version__}/result/{settings}/{name}/{recipe.by_content()!r}/{data}/{seed}"
        key += own_code(protocol, recipe)
        return cache_file(folder, f"full_{real.name}_{name}", key)

    def train(one: Pool, progress: Progress) -> EvalResult:
        held_out = hold_out(protocol, real, full_data=True)
        return protocol.evaluate(
            lambda repeat: full(), one, real.test, seed, progress=progress, held_out=held_out
        )

    return train_one_by_one(train, pool, progress, file, what="accuracies on the full data")

"""A seeded split that preserves the share of every class."""

import numpy as np
import torch
from numpy.typing import NDArray

from dcond.rng import generator


def stratified_split(
    labels: NDArray[np.int64], test_count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the training and of the test part, each in ascending order.

    A class with m of the n images gives m · test_count / n of them to the test part, rounded down;
    the remaining ones come from the classes with the largest remainders (the lower class on ties).
    Every class keeps at least one training image, so that a split of very small classes may have
    fewer than ``test_count`` test images.

    Args:
        labels: (n,), class indices.
        test_count: size of the test part, below n.
        seed: of the split, not of a run: all runs share one test set.
    """
    rng = generator(seed, "split")
    counts = np.bincount(labels)
    exact = counts * test_count / len(labels)
    quota = np.floor(exact).astype(np.int64)
    order = np.argsort(quota - exact, kind="stable")  # largest remainder first
    candidates = [label for label in order if quota[label] + 1 < counts[label]]
    quota[candidates[: test_count - int(quota.sum())]] += 1
    test = [np.empty(0, np.int64)]  # labels may be none
    for label, count in enumerate(quota):
        rows = np.flatnonzero(labels == label)
        test.append(rows[torch.randperm(len(rows), generator=rng)[: int(count)].numpy()])
    test_rows = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(labels)), test_rows), test_rows

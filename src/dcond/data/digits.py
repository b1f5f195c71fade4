"""scikit-learn's handwritten digits: the default data set, which needs no download."""

from dataclasses import dataclass

import numpy as np

from dcond.data.base import Dataset
from dcond.data.prepared import Prepared, check_prepared
from dcond.data.split import check_split_seed, stratified_split
from dcond.errors import require


@dataclass(frozen=True, kw_only=True)
class Digits(Dataset):
    """1,797 grey images of 8 x 8 pixels, ten classes.

    The 17 levels 0 to 16 become uint8 as round(level · 255 / 16).

    Args:
        split_seed: seed of the stratified split.
        test_count: images in the test split, 10 to 1,700.
    """

    name: str = "digits"
    split_seed: int = 0
    test_count: int = 540

    def __post_init__(self) -> None:
        super().__post_init__()
        check_split_seed(self.split_seed)
        require(
            isinstance(self.test_count, int) and 10 <= self.test_count <= 1700,
            f"dataset.test_count={self.test_count} is out of range; allowed: 10 to 1700 of the 1,797 digits.",
        )

    def arrays(self) -> Prepared:
        """Return both splits, read from the installed scikit-learn."""
        from sklearn.datasets import (
            load_digits,  # takes a second to import, and only this set needs it
        )

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        labels = digits.target.astype(np.int64)
        train, test = stratified_split(labels, self.test_count, self.split_seed)
        return check_prepared(
            {
                "train_images": images[train],
                "train_labels": labels[train],
                "test_images": images[test],
                "test_labels": labels[test],
            }
        )

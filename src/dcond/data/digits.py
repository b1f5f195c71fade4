"""scikit-learn's handwritten digits: the default data set, which needs no download."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from dcond.data.base import Dataset
from dcond.data.prepared import Prepared, check_prepared
from dcond.data.split import stratified_split
from dcond.settings import NonNegativeInt, settings


@settings
class Digits(Dataset):
    """1,797 grey images of 8 x 8 pixels, ten classes.

    The 17 levels 0 to 16 become uint8 as round(level · 255 / 16).

    Args:
        split_seed: seed of the stratified split.
        test_count: images in the test split.
    """

    name: str = "digits"
    split_seed: NonNegativeInt = 0
    test_count: Annotated[int, Ge(10), Le(1700)] = 540

    def arrays(self) -> Prepared:
        """Return both splits, read from the installed scikit-learn."""
        from sklearn.datasets import load_digits  # slow to import

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

"""What a file of a public layout holds, before it is fitted to a data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dcond.data.statistics import LEGACY, Statistics
from dcond.errors import ArtefactError


@dataclass(frozen=True, eq=False)
class RawSet:
    """Images and labels as stored, and what their layout says of them; None where it says nothing.

    Args:
        layout: how messages call it.
        path: the file or folder.
        images: uint8, or floating point in a space that ``normalised`` names; (n, c, h, w).
        labels: integers (n,), or floating point (n, k).
        normalised: whether the layout's own code stores (x - mean) / std; False stands for pixels
            in [0, 1].
        factor: multi-formation factor that is still to be decoded.
        align_corners: how that decoding aligns its grid.
        constants: mean and std in the layout's own code, by data set.
        class_names: what the labels count, where the layout names its classes.
        learned_lr: the learning rate that was learnt along with the images.
    """

    layout: str
    path: Path
    images: Tensor
    labels: Tensor
    normalised: bool | None
    factor: int | None = 1
    align_corners: bool = False
    constants: Mapping[str, Statistics] | None = None
    class_names: tuple[str, ...] | None = None
    learned_lr: float | None = None

    def __post_init__(self) -> None:
        shape, labels = tuple(self.images.shape), tuple(self.labels.shape)
        if self.images.ndim != 4 or self.images.numel() == 0:
            raise ArtefactError(
                f"{self.path} ({self.layout}): images must be (n, c, h, w); got {shape}."
            )
        if self.labels.ndim not in (1, 2) or len(self.labels) != len(self.images):
            raise ArtefactError(
                f"{self.path} ({self.layout}): {len(self.images)} images but labels {labels}; "
                "there must be one label per image, (n,) or (n, classes)."
            )

    def statistics(self, dataset: str) -> Statistics | None:
        """Return the mean and std of the layout's own code for a data set, where it has that data set."""
        return (self.constants if self.constants is not None else LEGACY).get(dataset)

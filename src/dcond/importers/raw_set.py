"""The content of a file in a public layout, before it is converted for a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from dcond.data.statistics import LEGACY, Statistics
from dcond.errors import ArtefactError


@dataclass(frozen=True, eq=False)
class RawSet:
    """Images and labels as stored, and what their layout defines; None for what it does not.

    Args:
        layout: name of the layout in messages.
        path: the file or folder.
        images: uint8, or floating point in the space that ``normalised`` gives; (n, c, h, w).
        labels: integers (n,), or floating point (n, k).
        normalised: True if the layout's own code stores (x - mean) / std, False if it stores pixels
            in [0, 1].
        factor: multi-formation factor that is still to be decoded.
        align_corners: how that decoding aligns its grid.
        constants: mean and std in the layout's own code, by data set.
        statistics: mean and std by which networks get the pixels, and by which stored ones may be
            normalised; None for those of the data set or the layout.
        class_names: names of the labels, if the layout has them.
        learned_lr: the learning rate that was learned with the images.

    Raises:
        ArtefactError: shapes that are not those of images and labels.
    """

    layout: str
    path: Path
    images: Tensor
    labels: Tensor
    normalised: bool | None
    factor: int | None = 1
    align_corners: bool = False
    constants: Mapping[str, Statistics] = field(default_factory=lambda: LEGACY)
    statistics: Statistics | None = None
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
                "give one label per image, (n,) or (n, classes)."
            )

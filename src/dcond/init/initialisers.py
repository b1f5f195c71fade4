"""Initialisers: each returns the first stored images, class-major, in pixel space."""

import logging
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dcond.errors import DataError, one_of
from dcond.init.rules import Rule
from dcond.multi_formation import SHRINKS, encode
from dcond.rng import Streams
from dcond.types import RealData

log = logging.getLogger(__name__)


class Initialiser(Protocol):
    """Makes the images a method starts from."""

    def __call__(self, real: RealData, ipc: int, factor: int, rng: Streams) -> Tensor:
        """Return (k·ipc, c, h, w) float32 in pixel space, row = class · ipc + i, on the data's device."""
        ...


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise.

    Args:
        space: "normalised" draws x_n ~ N(0, 1) (DC, DEGM); "pixel" draws x = 0.5 + N(0, 1) / 4
            (IDC's noise).
        clip: clip to [0, 1]; False keeps the tails that the public DC code keeps.
    """

    space: str = "normalised"
    clip: bool = True

    def __post_init__(self) -> None:
        one_of("init.space", self.space, ("normalised", "pixel"))

    def __call__(self, real: RealData, ipc: int, factor: int, rng: Streams) -> Tensor:
        """Draw the noise."""
        spec = real.spec
        shape = (spec.classes * ipc, spec.channels, spec.height, spec.width)
        noise = torch.randn(shape, generator=rng.initialisation)
        images = spec.denormalise(noise) if self.space == "normalised" else 0.5 + noise / 4
        return (images.clamp(0, 1) if self.clip else images).to(real.device)


@dataclass(frozen=True, kw_only=True)
class FromReal:
    """Real images, chosen by a rule; packed f² to a stored image where a factor is used.

    Args:
        rule: which images of each class.
        pack: True stores f² shrunken images in each stored one (IDC's "mix"); False stores whole
            images.
        shrink: how f² images shrink to their cells, see :func:`~dcond.multi_formation.encode`.
    """

    rule: Rule
    pack: bool = True
    shrink: str = "antialias"

    def __post_init__(self) -> None:
        one_of("init.shrink", self.shrink, SHRINKS)

    def __call__(self, real: RealData, ipc: int, factor: int, rng: Streams) -> Tensor:
        """Choose, and pack."""
        check_ipc(real, ipc)
        factor = factor if self.pack else 1
        count = ipc * factor**2
        smallest, name = min(
            (len(rows), real.class_names[c]) for c, rows in enumerate(real.class_rows)
        )
        if smallest < count:
            log.warning(
                "packing takes %d images per class; class %r has %d: some are used more than once",
                count,
                name,
                smallest,
            )
        rows = self.rule(real, count, rng)
        spec = real.spec
        images = torch.empty(
            len(rows), ipc, spec.channels, spec.height, spec.width, device=real.device
        )
        for own, chosen in zip(images, rows, strict=True):
            own.copy_(encode(real.pixels(chosen), factor, shrink=self.shrink))
        return images.flatten(0, 1)


def check_ipc(real: RealData, ipc: int) -> None:
    """Raise :class:`DataError` if a class has fewer than ``ipc`` real images."""
    for name, rows in zip(real.class_names, real.class_rows, strict=True):
        if len(rows) < ipc:
            raise DataError(
                f"ipc={ipc} needs {ipc} images per class; class {name!r} of {real.name} has {len(rows)}. "
                "Lower ipc, or take init=noise."
            )

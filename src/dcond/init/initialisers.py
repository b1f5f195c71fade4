"""Initialisers: each returns the first stored images, class-major, in pixel space."""

import logging
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from dcond import artefact
from dcond.class_matching import in_class_order
from dcond.errors import ArtefactError, DataError
from dcond.init.rules import Rule
from dcond.multi_formation import encode
from dcond.paths import expand_home
from dcond.rng import Streams
from dcond.settings import settings
from dcond.types import RealData

log = logging.getLogger(__name__)


class Initialiser(Protocol):
    """Makes the images that a method starts from."""

    def __call__(self, real: RealData, ipc: int, factor: int, rng: Streams) -> Tensor:
        """Return float32 (k·ipc, c, h, w) in pixel space, row = class · ipc + i, on the device."""
        ...


@settings
class Noise:
    """Gaussian noise.

    Args:
        space: "normalised" draws x_n ~ N(0, 1) (DC, DEGM); "pixel" draws x = 0.5 + N(0, 1) / 4
            (IDC).
        clip: clip to [0, 1]; False keeps the tails, as the public DC code does.
    """

    space: Literal["normalised", "pixel"] = "normalised"
    clip: bool = True

    def __call__(self, real: RealData, ipc: int, factor: int, rng: Streams) -> Tensor:
        """Return noise images, see :class:`Initialiser`."""
        spec = real.spec
        shape = (spec.classes * ipc, spec.channels, *spec.size)
        noise = torch.randn(shape, generator=rng.initialisation)
        images = spec.denormalise(noise) if self.space == "normalised" else 0.5 + noise / 4
        return (images.clamp(0, 1) if self.clip else images).to(real.device)


@settings
class FromReal:
    """Real images that a rule selects, f² of them packed into a stored image if a factor is used.

    Args:
        rule: selects images of each class.
        pack: True stores f² shrunken images in each stored one (IDC's "mix"); False stores whole
            images.
        shrink: how images shrink to their cells, see :func:`~dcond.multi_formation.encode`.
    """

    rule: Rule
    pack: bool = True
    shrink: Literal["antialias", "nearest", "aligned", "bilinear"] = "antialias"

    def __call__(self, real: RealData, ipc: int, factor: int, rng: Streams) -> Tensor:
        """Return the selected images, packed; see :class:`Initialiser`.

        A class with fewer images than are needed repeats some (:func:`check_ipc` refuses it).
        """
        factor = factor if self.pack else 1
        count = ipc * factor**2
        if factor > 1:
            warn_of_repeats(real, [count] * len(real.class_rows))
        rows = self.rule(real, count, rng)
        shape = (len(rows), ipc, *real.train.images.shape[1:])
        images = torch.empty(shape, device=real.device)
        for own, selected in zip(images, rows, strict=True):
            own.copy_(encode(real.pixels(selected), factor, shrink=self.shrink))
        return images.flatten(0, 1)


@settings
class FromFile:
    """The images of a saved set, with its classes brought into the data set's order.

    Args:
        path: an artefact of dcond, or the run folder that holds one.
    """

    path: str

    def __call__(self, real: RealData, ipc: int, factor: int, rng: Streams) -> Tensor:
        """Return the saved images, see :class:`Initialiser`.

        Raises:
            ArtefactError: the file cannot be read, or is not an artefact of dcond.
            DataError: the set has other classes, or another size, ipc, factor or way of decoding.
        """
        path = expand_home(self.path)
        try:
            saved = artefact.load(path)
        except ArtefactError as error:
            raise ArtefactError(
                f"init.path: {error} A file of other code is converted by "
                "'dcond export FILE --to dcond dataset=NAME'."
            ) from error
        saved = in_class_order(f"init.path={self.path}", saved, real)
        for what, value, needed in (
            ("images (c, h, w)", tuple(saved.images.shape[1:]), tuple(real.train.images.shape[1:])),
            ("ipc", saved.ipc, ipc),
            ("factor", saved.factor, factor),
            ("align_corners", saved.align_corners and factor > 1, False),  # of enlarging
        ):
            if value != needed:
                raise DataError(
                    f"init.path={self.path} has {what} {value}, this run needs "
                    f"{needed}; choose another set, or change the run's settings."
                )
        expected = torch.arange(len(real.class_names)).repeat_interleave(ipc)
        if not torch.equal(saved.labels, expected):
            raise DataError(
                f"init.path={self.path} needs hard labels, {ipc} images of each class in class "
                "order; choose another set."
            )
        return saved.images.to(real.device)


def warn_of_repeats(real: RealData, needed: Sequence[int]) -> None:
    """Log a warning if a class has fewer real images than are needed of it."""
    for name, rows, count in zip(real.class_names, real.class_rows, needed, strict=True):
        if len(rows) < count:
            log.warning(
                "class %r has %d real images and %d are needed: some are used more than once",
                *(name, len(rows), count),
            )
            return


def check_ipc(real: RealData, ipc: int) -> None:
    """Raise :class:`DataError` if a class has fewer than ``ipc`` real images."""
    for name, rows in zip(real.class_names, real.class_rows, strict=True):
        if len(rows) < ipc:
            raise DataError(
                f"ipc={ipc} needs {ipc} images per class; class {name!r} of {real.name} has "
                f"{len(rows)}. Use a smaller ipc; methods that change pixels can begin at "
                "init=noise."
            )

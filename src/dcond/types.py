"""The records that all parts exchange: real data, synthetic set, features.

Letters for shapes, used in every docstring: n images, k classes, c channels, h w height and width,
d features, ipc images stored per class, f multi-formation factor. "Pixel space" is [0, 1];
"normalised" is (x - mean) / std.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from dcond.device import to_device
from dcond.errors import DataError
from dcond.multi_formation import decode
from dcond.whitening import Whitening


class Features(NamedTuple):
    """The features of one stage of a network, for an image and for each place in it."""

    semantic: Tensor  # (n, d)
    spatial: Tensor  # (n, d, h, w)


@dataclass(frozen=True)
class ImageSpec:
    """Shape and normalisation of the images that a network takes.

    ``whitening`` comes before mean and std, for sets that were made in ZCA-whitened space.
    """

    channels: int
    height: int
    width: int
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    whitening: Whitening | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def normalise(self, pixels: Tensor) -> Tensor:
        """Map (..., c, h, w) from [0, 1] to normalised space.

        Raises:
            DataError: the pixels are integers, such as uint8 from 0 to 255.
        """
        if not pixels.is_floating_point():
            raise DataError(f"pixels are {pixels.dtype}; give pixels.float() / 255, in [0, 1].")
        if self.whitening is not None:
            pixels = self.whitening.apply(pixels)
        return (pixels - self._channelwise(self.mean, pixels)) / self._channelwise(self.std, pixels)

    def denormalise(self, images: Tensor) -> Tensor:
        """Map (..., c, h, w) from normalised space to [0, 1]."""
        images = images * self._channelwise(self.std, images) + self._channelwise(self.mean, images)
        return images if self.whitening is None else self.whitening.undo(images)

    def _channelwise(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        return to_device(torch.tensor(values, dtype=like.dtype), like.device).view(-1, 1, 1)


class Stored(Protocol):
    """Images that are read on use: from a file, or decoded from many."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, c, h, w)."""

    def read(self, rows: Tensor | slice) -> Tensor:
        """Return rows (int64 on the CPU, or a slice) as uint8 (len(rows), c, h, w) in host memory.

        Raises:
            DataError: an image cannot be read; the message names it.
        """


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels of one split: uint8 (n, c, h, w) and int64 (n,).

    The labels are on the device that computes. The images are there too, or in host memory, or
    stored: :meth:`take` brings them.
    """

    images: Tensor | Stored
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self.labels.device

    def take(self, rows: Tensor) -> Tensor:
        """Return the images of rows (int64) on the device: uint8 (len(rows), c, h, w)."""
        if isinstance(self.images, Tensor):
            return self._moved(self.images[to_device(rows, self.images.device)])
        return self._moved(self.images.read(rows.cpu()))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels in order on the device, at most ``size`` at a time."""
        for begin in range(0, len(self), size):
            part = slice(begin, min(begin + size, len(self)))
            images = (
                self.images[part] if isinstance(self.images, Tensor) else self.images.read(part)
            )
            yield self._moved(images), self.labels[part]

    def part(self, rows: Tensor) -> "Split":
        """Return the split of these rows (int64); stored images stay where they are."""
        labels = self.labels[rows.to(self.device)]
        if isinstance(self.images, Tensor):
            return Split(self.images[rows.to(self.images.device)], labels)
        return Split(_Part(self.images, rows.cpu()), labels)

    def to(self, device: torch.device) -> "Split":
        """Return the same split on another device.

        Images that are stored, or held on another device than the labels, stay where they are: they
        are read on use.
        """
        images = self.images
        if isinstance(images, Tensor) and images.device == self.device:
            images = images.to(device)
        return Split(images, self.labels.to(device))

    def _moved(self, images: Tensor) -> Tensor:
        if self.device.type == "cuda" and not images.is_cuda:
            images = images.pin_memory()  # large ones are copied faster so
        return to_device(images, self.device)


@dataclass(frozen=True, eq=False)
class _Part:
    """Some rows of stored images."""

    images: Stored
    rows: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.rows), *self.images.shape[1:])

    def read(self, rows: Tensor | slice) -> Tensor:
        return self.images.read(self.rows[rows])


@dataclass(frozen=True, eq=False)
class RealData:
    """A labelled image data set, used on one device.

    ``train`` and ``test`` give raw uint8 pixels, wherever they are held; :meth:`pixels` and
    :meth:`normalised` turn rows of the training split into float images on use.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, in [0, 1] pixel units
    std: tuple[float, ...]
    whitening: Whitening | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(map(str, self.class_names)))
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.train.images.shape[1:]))
        return (
            f"RealData({self.name!r}, {len(self.train)} training and {len(self.test)} test images "
            f"{shape}, {len(self.class_names)} classes)"
        )

    @cached_property
    def spec(self) -> ImageSpec:
        """Shape and normalisation of these images, for networks."""
        _, channels, height, width = self.train.images.shape
        return ImageSpec(
            channels, height, width, len(self.class_names), self.mean, self.std, self.whitening
        )

    @property
    def device(self) -> torch.device:
        """The device that computes; images are brought to it."""
        return self.train.device

    @cached_property
    def class_rows(self) -> tuple[Tensor, ...]:
        """For each class, the rows of the training split that belong to it (int64, on the CPU)."""
        labels = self.train.labels.cpu()
        order = torch.argsort(labels, stable=True)
        return torch.split(order, torch.bincount(labels, minlength=len(self.class_names)).tolist())

    def pixels(self, rows: Tensor) -> Tensor:
        """Return training images (len(rows), c, h, w) in [0, 1], float32."""
        return self.train.take(rows).float() / 255

    def normalised(self, rows: Tensor) -> Tensor:
        """Return training images (len(rows), c, h, w), normalised, float32."""
        return self.spec.normalise(self.pixels(rows))

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return training images, normalised, and their labels, both on the device."""
        return self.normalised(rows), self.train.labels[to_device(rows, self.device)]

    def draw_per_class(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw ``count`` training rows of every class: int64 (k, count), see :func:`draw_rows`."""
        return torch.stack([draw_rows(rows, count, rng) for rows in self.class_rows])

    def normalised_as(self, synthetic: "SyntheticSet") -> "RealData":
        """Return the same images with the normalisation of a set."""
        return replace(self, mean=synthetic.mean, std=synthetic.std, whitening=synthetic.whitening)

    def to(self, device: torch.device) -> "RealData":
        """Return the same data on another device."""
        whitening = None if self.whitening is None else self.whitening.to(device)
        return replace(
            self, train=self.train.to(device), test=self.test.to(device), whitening=whitening
        )


def draw_rows(rows: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Draw ``count`` of ``rows`` without replacement; if there are fewer, all and some again."""
    chosen = rows[torch.randperm(len(rows), generator=rng)[:count]]
    if len(chosen) < count:
        extra = torch.randint(len(rows), (count - len(chosen),), generator=rng)
        chosen = torch.cat([chosen, rows[extra]])
    return chosen


@dataclass(eq=False)
class SyntheticSet:
    """A condensed set: the stored images, and what is needed to train on them.

    ``images`` are float32 (n, c, h, w) in [0, 1] *before* multi-formation decoding, class-major
    (row = class · ipc + i); ``labels`` int64 (n,), or float32 (n, k) where soft: probabilities, or
    logits, on whose softmax networks are trained (:attr:`targets`). A foreign set may
    hold different numbers of images per class: ``ipc`` is their mean, rounded down.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    ipc: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    factor: int = 1
    align_corners: bool = False
    whitening: Whitening | None = None
    logits: bool = False  # whether soft labels are logits
    learned_lr: Tensor | float | None = None  # the rate that was learned with the images
    metadata: dict[str, str] = field(default_factory=dict)  # see dcond.artefact

    def __repr__(self) -> str:
        n, c, h, w = self.images.shape
        packed = f", factor={self.factor}" if self.factor > 1 else ""
        classes = len(self.class_names)
        return f"SyntheticSet({n} images {c}x{h}x{w}, {classes} classes, ipc={self.ipc}{packed})"

    def __post_init__(self) -> None:
        self.class_names = tuple(map(str, self.class_names))
        self.mean, self.std = (tuple(map(float, each)) for each in (self.mean, self.std))
        if self.images.ndim != 4 or len(self.images) != len(self.labels):
            raise DataError(
                "a synthetic set needs images (n, c, h, w) and n labels; got images "
                f"{tuple(self.images.shape)} and labels {tuple(self.labels.shape)}."
            )

    @classmethod
    def from_images(
        cls,
        images: Tensor,
        like: "RealData | SyntheticSet",
        *,
        ipc: int | None = None,
        factor: int = 1,
        labels: Tensor | None = None,
        logits: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> Self:
        """Make a set of images; without ``labels`` they are class-major.

        Args:
            images: float32 (n, c, h, w) in [0, 1], before decoding.
            like: the data whose classes and normalisation the set has.
            ipc: images stored per class; n / k if None.
            factor: multi-formation factor of the images.
            labels: int64 (n,), or soft (n, k) of images in the order of their classes; class c
                repeated ipc times, for every c, if None.
            logits: whether soft labels are logits.
            metadata: see :mod:`dcond.artefact`.

        Example:
            >>> SyntheticSet.from_images(torch.rand(10, 1, 8, 8), digits)  # ipc 1
        """
        classes = len(like.class_names)
        ipc = len(images) // classes if ipc is None else ipc
        if labels is None:
            labels = torch.arange(classes, device=images.device).repeat_interleave(ipc)
        return cls(
            images=images,
            labels=labels,
            class_names=like.class_names,
            ipc=ipc,
            mean=like.mean,
            std=like.std,
            factor=factor,
            align_corners=getattr(like, "align_corners", False),
            whitening=like.spec.whitening,
            logits=logits,
            metadata=dict(metadata or {}),
        )

    @property
    def spec(self) -> ImageSpec:
        """Shape and normalisation of these images, for networks."""
        _, channels, height, width = self.images.shape
        return ImageSpec(
            channels, height, width, len(self.class_names), self.mean, self.std, self.whitening
        )

    @property
    def targets(self) -> Tensor:
        """The labels that networks are trained on: int64 (n,), or probabilities (n, k)."""
        return self.labels.softmax(1) if self.logits else self.labels

    @property
    def classes(self) -> Tensor:
        """The class of every stored image, int64 (n,).

        With soft labels it follows from the row, since images are class-major. Only in a set of
        other code, which need not be, it is the largest entry of the label.
        """
        if self.labels.ndim == 1:
            return self.labels
        k = len(self.class_names)
        if "read_as" in self.metadata or len(self.labels) != k * self.ipc:
            return self.labels.argmax(1)
        return torch.arange(k, device=self.labels.device).repeat_interleave(self.ipc)

    @property
    def counts(self) -> Tensor:
        """Stored images of each class, int64 (k,): ipc, unless a foreign set is unequal."""
        k = len(self.class_names)
        if self.labels.ndim == 1:
            return torch.bincount(self.labels.cpu(), minlength=k)
        return torch.full((k,), self.ipc)

    @property
    def by_class(self) -> Tensor:
        """The stored images as (k, ipc, c, h, w): a view, so gradients reach :attr:`images`."""
        return self.images.view(len(self.class_names), self.ipc, *self.images.shape[1:])

    def decoded(self) -> tuple[Tensor, Tensor]:
        """Return decoded images (n·f², c, h, w) in [0, 1], cell by cell, and their targets."""
        images = decode(self.images, self.factor, align_corners=self.align_corners)
        targets = self.targets
        return images, targets.repeat(self.factor**2, *[1] * (targets.ndim - 1))

    def dataset(self) -> TensorDataset:
        """Return decoded, normalised images and labels, for any training loop."""
        images, labels = self.decoded()
        return TensorDataset(self.spec.normalise(images), labels)

    def to(self, device: torch.device) -> Self:
        """Return the same set on another device."""
        rate = self.learned_lr
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            whitening=None if self.whitening is None else self.whitening.to(device),
            learned_lr=rate.to(device) if isinstance(rate, Tensor) else rate,
        )

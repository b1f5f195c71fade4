"""Differentiable augmentation: draw parameters once, apply them to all batches that share them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from dcond.augment import ops as operations
from dcond.augment.resized_crop import draw_boxes
from dcond.device import to_device
from dcond.errors import one_of, require
from dcond.settings import Fraction, NonNegativeFloat, settings

FAMILIES = ("color", "crop", "cutout", "flip", "scale", "rotate", "resized_crop")
OPERATIONS: dict[str, Callable[..., Tensor]] = {f: getattr(operations, f) for f in FAMILIES}
EXCLUSIVE = ("crop", "scale", "rotate")  # mode "idc" applies one of these


@dataclass(frozen=True, eq=False)
class Step:
    """One family, the groups it changes (int64, ascending), and its parameters, one per group."""

    family: str
    groups: Tensor
    parameters: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Draw:
    """The result of :meth:`DiffAug.draw`: stages in order, each of steps with disjoint groups."""

    groups: int
    size: tuple[int, int]
    stages: tuple[tuple[Step, ...], ...]

    def part(self, begin: int, end: int) -> "Draw":
        """Return the draw of the groups from ``begin`` up to ``end`` alone."""
        if (begin, end) == (0, self.groups):
            return self
        stages = ([_part_of(step, begin, end) for step in stage] for stage in self.stages)
        return _make_draw(end - begin, self.size, stages)


@settings
class DiffAug:
    """Differentiable Siamese augmentation of normalised images, and IDC's variant of it.

    Mode "single": one family per group, uniform over ``ops``. Mode "idc": flip, colour, one of
    {crop, scale, rotate}, resized_crop, cutout, in this order, those that are listed.

    Paper: DSA, arXiv 2102.08259, section 3; IDC, arXiv 2205.14959. The public codes seed the global
    generator at every call; here a passed generator is the only source, and groups may draw
    different families in one call.

    Args:
        ops: families among color, crop, cutout, flip, scale, rotate (DSA's), resized_crop
            (torchvision's ``RandomResizedCrop``, back to full size); an empty list is the identity.
        mode: "single" or "idc".
        flip: False removes "flip" from ``ops``, for data whose classes change when mirrored.
        family: in network training, a chosen family is drawn once per "batch", or per "image" as
            in the DC family's code for MNIST. A Siamese draw always chooses per group.
        brightness: width of the uniform brightness change around 0, in normalised units.
        saturation: largest saturation factor; the factor is uniform from 0.
        contrast: smallest contrast factor; the factor is uniform over a width of 1.
        crop: largest shift as a fraction of the side.
        cutout: side of the box as a fraction of the side.
        scale: largest scale; the factor is uniform from 1/scale.
        rotate: largest angle in degrees, in both directions; images that are not square are sheared
            as well, as by the public code.
        area: smallest area of a resized crop, as a fraction of the image's.

    Raises:
        ConfigError: an unknown or repeated family or mode, or a value out of its range.

    Example:
        >>> augment = DiffAug(["color", "crop"], "single")
        >>> draw = augment.draw(groups=10, size=(32, 32), rng=torch.Generator())
        >>> real, synthetic = augment.apply(real, draw), augment.apply(synthetic, draw)
    """

    ops: Sequence[str] = field(kw_only=False)
    mode: Literal["single", "idc"] = field(default="single", kw_only=False)
    flip: bool = True
    family: Literal["batch", "image"] = "batch"
    brightness: NonNegativeFloat = 1.0
    saturation: NonNegativeFloat = 2.0
    contrast: NonNegativeFloat = 0.5
    crop: Fraction = 0.125
    cutout: Fraction = 0.5
    scale: Annotated[float, Ge(1)] = 1.2
    rotate: NonNegativeFloat = 15.0
    area: Annotated[float, Gt(0), Le(1)] = 0.08

    def __post_init__(self) -> None:
        for name in self.ops:
            one_of("augment.ops", name, OPERATIONS)
        require(
            len(set(self.ops)) == len(self.ops),
            f"augment.ops={list(self.ops)} names a family twice; name each once.",
        )
        ops = tuple(name for name in self.ops if self.flip or name != "flip")
        object.__setattr__(self, "ops", ops)

    def draw(
        self, groups: int, size: tuple[int, int], rng: torch.Generator, shared_family: bool = False
    ) -> Draw:
        """Draw parameters for groups of images.

        Args:
            groups: number of parameter sets: classes for a Siamese draw, images for a draw per
                image.
            size: height and width of the images in pixels.
            rng: a generator on the CPU, the only source of randomness.
            shared_family: choose one family for all groups (network training), not one for each.
        """
        return _make_draw(groups, size, self._stages(groups, size, rng, shared_family))

    def apply(self, x: Tensor, draw: Draw) -> Tensor:
        """Return normalised images (g, b, c, h, w) augmented by a draw for g groups.

        Differentiable in x, which is not changed.
        """
        if x.shape[0] != draw.groups or x.shape[3:] != draw.size:
            raise ValueError(
                f"a draw for {draw.groups} groups of size {draw.size} does not fit {tuple(x.shape)}"
            )
        for stage in draw.stages:
            x = _apply_stage(x, stage)
        return x

    def per_image(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Augment a normalised training batch (n, c, h, w), with parameters for each image."""
        draw = self.draw_per_image(len(x), (x.shape[2], x.shape[3]), rng)
        return self.apply(x[:, None], draw)[:, 0]

    def draw_per_image(self, n: int, size: tuple[int, int], rng: torch.Generator) -> Draw:
        """Draw the parameters of n images of a batch, for :meth:`apply` to (n, 1, c, h, w)."""
        return self.draw(n, size, rng, shared_family=self.family == "batch")

    def per_network(self, x: Tensor, rngs: Sequence[torch.Generator]) -> Tensor:
        """Augment the normalised training batches of r networks (r, n, c, h, w) at once.

        Equals :meth:`per_image` of each batch with its own of the r generators.
        """
        n, size = x.shape[1], (x.shape[3], x.shape[4])
        drawn = [self._stages(n, size, rng, shared_family=self.family == "batch") for rng in rngs]
        stages = [_concatenate(stage, n) for stage in zip(*drawn, strict=True)]
        draw = _make_draw(len(rngs) * n, size, stages)
        return self.apply(x.flatten(0, 1)[:, None], draw).view_as(x)

    def _stages(
        self, groups: int, size: tuple[int, int], rng: torch.Generator, shared_family: bool
    ) -> list[list[Step]]:
        """Draw the steps of every stage; some may change no group."""
        everyone = torch.arange(groups)
        if self.mode == "single":
            return [self._choose(self.ops, everyone, size, rng, shared_family)]
        exclusive = [name for name in self.ops if name in EXCLUSIVE]
        stages = []
        for family in ("flip", "color", "exclusive", "resized_crop", "cutout"):
            if family == "exclusive":
                stages.append(self._choose(exclusive, everyone, size, rng, shared_family))
            elif family in self.ops:
                stages.append([self._step(family, everyone, size, rng)])
        return stages

    def _choose(
        self,
        names: Sequence[str],
        everyone: Tensor,
        size: tuple[int, int],
        rng: torch.Generator,
        shared: bool,
    ) -> list[Step]:
        """Choose a family for each group, uniformly, and draw the steps of the chosen ones."""
        if not names:
            return []
        count = len(everyone)
        choice = torch.randint(len(names), (1 if shared else count,), generator=rng).expand(count)
        chosen = ((name, everyone[choice == i]) for i, name in enumerate(names))
        return [self._step(name, groups, size, rng) for name, groups in chosen if len(groups)]

    def _step(
        self, family: str, groups: Tensor, size: tuple[int, int], rng: torch.Generator
    ) -> Step:
        if family == "flip":  # for half of the groups
            return Step(family, groups[torch.rand(len(groups), generator=rng) < 0.5], ())
        return Step(family, groups, self._parameters(family, len(groups), size, rng))

    def _parameters(
        self, family: str, count: int, size: tuple[int, int], rng: torch.Generator
    ) -> tuple[Tensor, ...]:
        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(count, generator=rng) * (high - low) + low

        def integers(low: int, high: int) -> Tensor:  # both ends are included
            return torch.randint(low, high + 1, (count,), generator=rng)

        match family:
            case "color":
                return (
                    uniform(-self.brightness / 2, self.brightness / 2),
                    uniform(0, self.saturation),
                    uniform(self.contrast, self.contrast + 1),
                )
            case "crop":
                reach = [int(self.crop * side + 0.5) for side in size]
                return integers(-reach[0], reach[0]), integers(-reach[1], reach[1])
            case "cutout":
                box = [int(self.cutout * side + 0.5) for side in size]
                # An even box is centred on one of side + 1 pixel corners, an odd one on a pixel.
                starts = [
                    integers(0, side - q % 2) - q // 2 for side, q in zip(size, box, strict=True)
                ]
                return *starts, *(torch.full((count,), q) for q in box)
            case "scale":
                return uniform(1 / self.scale, self.scale), uniform(1 / self.scale, self.scale)
            case "resized_crop":
                return draw_boxes(count, size, rng, area=self.area).unbind(1)
            case _:  # rotate
                limit = math.radians(self.rotate)
                return (uniform(-limit, limit),)


def _make_draw(groups: int, size: tuple[int, int], stages: Iterable[list[Step]]) -> Draw:
    """Return the draw of these stages, without steps that change no group."""
    active = (tuple(step for step in stage if len(step.groups)) for stage in stages)
    return Draw(groups, size, tuple(stage for stage in active if stage))


def _part_of(step: Step, begin: int, end: int) -> Step:
    """Return a step for the groups from ``begin`` up to ``end``, renumbered from 0."""
    inside = (step.groups >= begin) & (step.groups < end)
    parameters = tuple(values[inside] for values in step.parameters)
    return Step(step.family, step.groups[inside] - begin, parameters)


def _concatenate(stage: Sequence[list[Step]], groups: int) -> list[Step]:
    """Join one stage of several draws for ``groups`` groups each into a stage for all groups."""
    families: dict[str, list[tuple[Tensor, ...]]] = {}
    for index, steps in enumerate(stage):
        for step in steps:
            columns = (step.groups + index * groups, *step.parameters)
            families.setdefault(step.family, []).append(columns)
    joined = []
    for family, parts in families.items():
        changed, *parameters = map(torch.cat, zip(*parts, strict=True))
        joined.append(Step(family, changed, tuple(parameters)))
    return joined


def _apply_stage(x: Tensor, stage: tuple[Step, ...]) -> Tensor:
    """Apply steps with disjoint groups; each computes on its own groups only."""
    if len(stage) == 1 and len(stage[0].groups) == len(x):
        return _operate(stage[0], x)
    changed = x.clone()
    for step in stage:
        groups = to_device(step.groups, x.device)
        changed.index_copy_(0, groups, _operate(step, x.index_select(0, groups)))
    return changed


def _operate(step: Step, x: Tensor) -> Tensor:
    return OPERATIONS[step.family](x, *(to_device(value, x.device) for value in step.parameters))

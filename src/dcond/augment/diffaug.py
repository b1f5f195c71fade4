"""Differentiable augmentation: draw the parameters once, apply them to as many batches as should share them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from dcond.augment import ops as operations
from dcond.errors import one_of, require
from dcond.memory import to_device

OPERATIONS: MappingProxyType[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "color": operations.color,
        "crop": operations.crop,
        "cutout": operations.cutout,
        "flip": operations.flip,
        "scale": operations.scale,
        "rotate": operations.rotate,
    }
)
MODES = ("single", "idc")
FAMILIES = ("batch", "image")  # for what of a training batch one is chosen
EXCLUSIVE = ("crop", "scale", "rotate")  # mode "idc" takes one of these


@dataclass(frozen=True, eq=False)
class Step:
    """One family, the groups it touches (int64, ascending), and its parameters, one entry per touched group."""

    family: str
    groups: Tensor
    parameters: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Draw:
    """What one call of :meth:`DiffAug.draw` decided: stages in order, each of steps that touch disjoint groups."""

    groups: int
    size: tuple[int, int]
    stages: tuple[tuple[Step, ...], ...]

    def part(self, begin: int, end: int) -> "Draw":
        """Return the draw of the groups from ``begin`` up to ``end`` alone."""
        if (begin, end) == (0, self.groups):
            return self
        stages = ([_part_of(step, begin, end) for step in stage] for stage in self.stages)
        return _draw_of(end - begin, self.size, stages)


class DiffAug:
    """Differentiable Siamese augmentation on normalised images, and IDC's variant of it.

    Mode "single": one family per group, uniform over ``ops``. Mode "idc": flip, colour, one of
    {crop, scale, rotate}, cutout, in this order, each where listed.

    Paper: DSA, arXiv 2102.08259, section 3; IDC, arXiv 2205.14959. The public codes seed the global
    generator at every call; here a passed generator is the only source, and groups may draw unlike
    families in one call.

    Args:
        ops: families among color, crop, cutout, flip, scale, rotate; none = identity.
        mode: "single" or "idc".
        flip: False takes "flip" out of ``ops``, for data whose classes change when mirrored.
        family: where a family is chosen, network training chooses one per "batch", or one per
            "image", as the DC family's does on MNIST. A Siamese draw chooses one per group in any
            case.
        brightness: width of the uniform brightness change around 0, normalised units; >= 0.
        saturation: largest saturation factor, uniform from 0; >= 0.
        contrast: smallest contrast factor, uniform over a width of 1; >= 0.
        crop: largest shift as a fraction of the side, in [0, 1].
        cutout: side of the box as a fraction of the side, in [0, 1].
        scale: largest scale; the factor is uniform from 1/scale; >= 1.
        rotate: largest angle in degrees, either way; >= 0.

    Raises:
        ConfigError: unknown family or mode, or a value out of its range.
    """

    def __init__(
        self,
        ops: Iterable[str],
        mode: str = "single",
        flip: bool = True,
        *,
        family: str = "batch",
        brightness: float = 1.0,
        saturation: float = 2.0,
        contrast: float = 0.5,
        crop: float = 0.125,
        cutout: float = 0.5,
        scale: float = 1.2,
        rotate: float = 15.0,
    ):
        require(
            not isinstance(ops, str),
            f"augment.ops={ops!r} is one word; write a list such as [color, crop].",
        )
        listed = tuple(ops)
        for name in listed:
            one_of("augment.ops", name, OPERATIONS)
        require(
            len(set(listed)) == len(listed),
            f"augment.ops={list(listed)} names a family twice; name each once.",
        )
        one_of("augment.mode", mode, MODES)
        one_of("augment.family", family, FAMILIES)
        for name, value in (
            ("brightness", brightness),
            ("saturation", saturation),
            ("contrast", contrast),
        ):
            require(value >= 0, f"augment.{name}={value} is out of range; it must be 0 or more.")
        for name, value in (("crop", crop), ("cutout", cutout)):
            require(
                0 <= value <= 1,
                f"augment.{name}={value} is out of range; it is a fraction in [0, 1].",
            )
        require(scale >= 1, f"augment.scale={scale} is out of range; it must be 1 or more.")
        require(
            rotate >= 0, f"augment.rotate={rotate} is out of range; it must be 0 degrees or more."
        )
        self.ops = tuple(name for name in listed if flip or name != "flip")
        self.mode, self.family = mode, family
        self.brightness, self.saturation, self.contrast = brightness, saturation, contrast
        self.crop, self.cutout, self.scale, self.rotate = crop, cutout, scale, rotate

    def draw(
        self, groups: int, size: tuple[int, int], rng: torch.Generator, shared_family: bool = False
    ) -> Draw:
        """Draw parameters for ``groups`` groups of images of ``size`` (h, w).

        Args:
            groups: how many parameter sets: classes for a Siamese draw, images for a draw per
                image.
            size: height and width of the images in pixels.
            rng: a generator on the CPU, the only source of randomness.
            shared_family: where a family is chosen, choose one for all groups (network training)
                instead of one each.
        """
        return _draw_of(groups, size, self._stages(groups, size, rng, shared_family))

    def apply(self, x: Tensor, draw: Draw) -> Tensor:
        """Augment normalised images (g, b, c, h, w) by a draw for g groups; differentiable in x, which is kept."""
        if x.shape[0] != draw.groups or x.shape[3:] != draw.size:
            raise ValueError(
                f"a draw for {draw.groups} groups of size {draw.size} does not fit {tuple(x.shape)}"
            )
        for stage in draw.stages:
            x = _apply_stage(x, stage)
        return x

    def per_image(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Augment a training batch (n, c, h, w), normalised: parameters per image, chosen family as ``family`` says."""
        draw = self.draw(
            len(x), (x.shape[2], x.shape[3]), rng, shared_family=self.family == "batch"
        )
        return self.apply(x[:, None], draw)[:, 0]

    def per_network(self, x: Tensor, rngs: Sequence[torch.Generator]) -> Tensor:
        """Augment the training batches of r networks (r, n, c, h, w), normalised, in one go.

        Each gets what :meth:`per_image` makes of it with its own of the r generators.
        """
        n, size = x.shape[1], (x.shape[3], x.shape[4])
        drawn = [self._stages(n, size, rng, shared_family=self.family == "batch") for rng in rngs]
        stages = [_in_a_row(stage, n) for stage in zip(*drawn, strict=True)]
        return self.apply(x.flatten(0, 1)[:, None], _draw_of(len(rngs) * n, size, stages)).view_as(
            x
        )

    def _stages(
        self, groups: int, size: tuple[int, int], rng: torch.Generator, shared_family: bool
    ) -> list[list[Step]]:
        """Draw the steps of every stage; some may touch nothing."""
        everyone = torch.arange(groups)
        if self.mode == "single":
            return [self._choose(self.ops, everyone, size, rng, shared_family)]
        return [
            [self._step("flip", everyone, size, rng)] if "flip" in self.ops else [],
            [self._step("color", everyone, size, rng)] if "color" in self.ops else [],
            self._choose(
                [name for name in self.ops if name in EXCLUSIVE], everyone, size, rng, shared_family
            ),
            [self._step("cutout", everyone, size, rng)] if "cutout" in self.ops else [],
        ]

    def _choose(
        self,
        families: Iterable[str],
        everyone: Tensor,
        size: tuple[int, int],
        rng: torch.Generator,
        shared: bool,
    ) -> list[Step]:
        """Choose a family for each group, uniformly, and draw the steps of those that were chosen."""
        names = list(families)
        if not names:
            return []
        choice = torch.randint(len(names), (1 if shared else len(everyone),), generator=rng).expand(
            len(everyone)
        )
        chosen = ((name, everyone[choice == i]) for i, name in enumerate(names))
        return [self._step(name, groups, size, rng) for name, groups in chosen if len(groups)]

    def _step(
        self, family: str, groups: Tensor, size: tuple[int, int], rng: torch.Generator
    ) -> Step:
        if family == "flip":  # half of the groups, without a parameter
            return Step(family, groups[torch.rand(len(groups), generator=rng) < 0.5], ())
        return Step(family, groups, self._parameters(family, len(groups), size, rng))

    def _parameters(
        self, family: str, count: int, size: tuple[int, int], rng: torch.Generator
    ) -> tuple[Tensor, ...]:
        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(count, generator=rng) * (high - low) + low

        def integers(low: int, high: int) -> Tensor:  # both ends included
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
                # An even box is centred on one of side + 1 pixel corners, an odd one on one of
                # `side` pixels.
                starts = [
                    integers(0, side - q % 2) - q // 2 for side, q in zip(size, box, strict=True)
                ]
                return *starts, *(torch.full((count,), q) for q in box)
            case "scale":
                return uniform(1 / self.scale, self.scale), uniform(1 / self.scale, self.scale)
            case _:  # rotate
                limit = math.radians(self.rotate)
                return (uniform(-limit, limit),)


def _draw_of(groups: int, size: tuple[int, int], stages: Iterable[list[Step]]) -> Draw:
    """Return the draw of these stages, without what touches nothing."""
    touching = (tuple(step for step in stage if len(step.groups)) for stage in stages)
    return Draw(groups, size, tuple(stage for stage in touching if stage))


def _part_of(step: Step, begin: int, end: int) -> Step:
    """Return a step of the groups from ``begin`` up to ``end``, counted from there; it may touch none."""
    inside = (step.groups >= begin) & (step.groups < end)
    return Step(
        step.family,
        step.groups[inside] - begin,
        tuple(values[inside] for values in step.parameters),
    )


def _in_a_row(stage: Sequence[list[Step]], groups: int) -> list[Step]:
    """Join a stage of several draws, each for so many groups, into one for all of these groups in a row."""
    families: dict[str, list[tuple[Tensor, tuple[Tensor, ...]]]] = {}
    for index, steps in enumerate(stage):
        for step in steps:
            families.setdefault(step.family, []).append(
                (step.groups + index * groups, step.parameters)
            )
    joined = []
    for family, parts in families.items():
        touched, parameters = zip(*parts, strict=True)
        joined.append(
            Step(family, torch.cat(touched), tuple(map(torch.cat, zip(*parameters, strict=True))))
        )
    return joined


def _apply_stage(x: Tensor, stage: tuple[Step, ...]) -> Tensor:
    """Apply steps that touch disjoint groups; each computes on its own groups only."""
    if len(stage) == 1 and len(stage[0].groups) == len(x):
        return _operate(stage[0], x)
    touched = [to_device(step.groups, x.device) for step in stage]
    results = [
        _operate(step, x.index_select(0, groups))
        for step, groups in zip(stage, touched, strict=True)
    ]
    if len(results) == 1:
        return x.index_copy(0, touched[0], results[0])
    untouched = torch.ones(len(x), dtype=torch.bool).index_fill(
        0, torch.cat([s.groups for s in stage]), False
    )
    rest = to_device(untouched.nonzero()[:, 0], x.device)
    order = torch.cat([*touched, rest]).argsort()
    return torch.cat([*results, x.index_select(0, rest)]).index_select(0, order)


def _operate(step: Step, x: Tensor) -> Tensor:
    return OPERATIONS[step.family](x, *(to_device(value, x.device) for value in step.parameters))

"""The optimiser of the synthetic pixels, shared by every method that moves them.

Images always live in pixel space. The public codes of the DC family optimise normalised images;
their learning rates keep their meaning through ``space="normalised"``: with x_n = (x - mean) / std
a step lr · ∂L/∂x_n on x_n is a step lr · std² · ∂L/∂x on x, and momentum is linear, so the
trajectories are the same.

IDC and M3D step once per class on the one tensor of all images: :class:`PixelSweep` is that sweep.
"""

from typing import Protocol, Self

import torch
from torch import Tensor

from dcond.errors import one_of, require
from dcond.types import SyntheticSet


class PixelSettings(Protocol):
    """The settings by which a method moves its images."""

    @property
    def lr(self) -> float:
        """Step size, in units of ``space``."""
        ...

    @property
    def momentum(self) -> float:
        """In [0, 1)."""
        ...

    @property
    def space(self) -> str:
        """The units of lr: "pixel" or "normalised"."""
        ...

    @property
    def pixel_box(self) -> str:
        """What becomes of pixels outside [0, 1]: "project" or "free"."""
        ...


class SweepSettings(PixelSettings, Protocol):
    """The settings of a method that sweeps over the classes; ``lr`` counts per stored image."""

    @property
    def sweep(self) -> str:
        """How: "joint" or "sequential"."""
        ...


class PixelSGD:
    """SGD with momentum on images (n, c, h, w), kept in the box [0, 1] unless told otherwise.

    v ← m · v + g,  x ← x - lr · v,  x ← clip(x, 0, 1)   with g scaled by std² per channel in normalised space.

    Args:
        images: the leaf tensor to move, in pixel space.
        lr: learning rate in the units of ``space``.
        momentum: m in [0, 1).
        space: "pixel" or "normalised".
        std: per-channel standard deviation, for ``space="normalised"``.
        pixel_box: "project" clips to [0, 1] after every step; "free" never does (the DC family's
            public behaviour).

    Attributes:
        unit: (c, 1, 1), what a pixel changes where the image changes by 1 in the units of ``lr``.
    """

    def __init__(
        self,
        images: Tensor,
        *,
        lr: float,
        momentum: float,
        space: str,
        std: tuple[float, ...],
        pixel_box: str = "project",
    ):
        check_pixel_settings(lr, momentum, space, pixel_box)
        self.images = images.requires_grad_(True)
        self.pixel_box = pixel_box
        deviation = torch.tensor(std, dtype=images.dtype, device=images.device).view(-1, 1, 1)
        self.unit = deviation if space == "normalised" else torch.ones_like(deviation)
        self._sgd = torch.optim.SGD([images], lr=lr, momentum=momentum)

    @classmethod
    def of(
        cls,
        method: PixelSettings,
        synthetic: SyntheticSet,
        *,
        lr: float | None = None,
        momentum: float | None = None,
    ) -> Self:
        """Make the optimiser a method's settings describe; ``lr`` and ``momentum`` take the place of its own."""
        return cls(
            synthetic.images,
            lr=method.lr if lr is None else lr,
            momentum=method.momentum if momentum is None else momentum,
            space=method.space,
            std=synthetic.std,
            pixel_box=method.pixel_box,
        )

    def step(self, gradient: Tensor, lr: float | None = None) -> None:
        """Move the images against ``gradient`` = ∂L/∂images (pixel units), without projecting; ``lr`` from here on."""
        if lr is not None:
            self._sgd.param_groups[0]["lr"] = lr
        self.images.grad = gradient * self.unit.square()
        self._sgd.step()
        self.images.grad = None

    def project(self) -> None:
        """Clip the images to the box, unless it is free: the end of every update."""
        if self.pixel_box == "project":
            with torch.no_grad():
                self.images.clamp_(0, 1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the momentum buffer, where there is one."""
        buffer = self._sgd.state[self.images].get("momentum_buffer") if self._sgd.state else None
        return {} if buffer is None else {"momentum": buffer}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if "momentum" in state:
            self._sgd.state[self.images]["momentum_buffer"] = state["momentum"].to(
                self.images.device
            )


class PixelSweep:
    """One update per class in turn, by SGD with momentum on the one tensor of all k classes' images, as one step.

    In the public loops of IDC and M3D the zero gradients of the other classes let a class's images
    coast on their momentum until its next turn. A class's loss sees its own images only, so the
    sweep has a closed form, with c = 0 .. k-1 the class's place in it and lr that of a method times
    ipc:

        x ← x - lr · (m + ... + m^c) · v             to its own turn, where the gradient g is taken: :meth:`advance`
        v ← m^(c+1) · v + g                          its own turn
        x ← x - lr · (1 + m + ... + m^(k-1-c)) · v   its own step and the rest of the sweep: :meth:`step`
        v ← m^(k-1-c) · v

    ``sweep="sequential"`` is this, equal to the loop but for rounding. ``sweep="joint"`` takes at
    once what a gradient moves the images until their next turn, lr · (1 - m^k) / (1 - m) · g, and
    forgets it: equal up to m^k.

    The rate is times ipc, since the gradient of a mean over n images shrinks as 1/n. Images are
    projected to [0, 1] after every sweep; the public codes clip before a sweep (M3D) or every 100
    (IDC).

    Args:
        method: its lr, momentum, sweep, space and pixel_box.
        synthetic: the set whose images are moved, in place.
    """

    def __init__(self, method: SweepSettings, synthetic: SyntheticSet):
        m, k, images = method.momentum, len(synthetic.class_names), synthetic.images
        self._sgd = PixelSGD.of(method, synthetic, lr=method.lr * synthetic.ipc, momentum=0.0)
        self._velocity = (
            None if method.sweep == "joint" else torch.zeros_like(images, requires_grad=False)
        )
        self._whole = (1 - m**k) / (1 - m)
        turn = torch.arange(k, device=images.device, dtype=images.dtype)
        turn = turn.repeat_interleave(synthetic.ipc).view(-1, 1, 1, 1)
        self._ahead = m * (1 - m**turn) / (1 - m)
        self._decayed = m ** (turn + 1)
        self._behind = (1 - m ** (k - turn)) / (1 - m)
        self._left = m ** (k - 1 - turn)

    def advance(self) -> None:
        """Move every class's images to where they are at its own turn."""
        if self._velocity is not None:
            self._sgd.step(self._ahead * self._velocity)

    def step(self, gradient: Tensor) -> None:
        """Do the rest of the sweep, ``gradient`` = ∂(Σ_c L_c)/∂images (pixel units), without projecting."""
        if self._velocity is None:
            self._sgd.step(self._whole * gradient)
        else:
            velocity = self._decayed * self._velocity + gradient
            self._sgd.step(self._behind * velocity)
            self._velocity = self._left * velocity

    def project(self) -> None:
        """Clip the images to the box, unless it is free: the end of every sweep."""
        self._sgd.project()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the momentum, where it is kept."""
        return {} if self._velocity is None else {"momentum": self._velocity}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if self._velocity is not None:
            self._velocity = state["momentum"].to(self._velocity.device)


def check_sweep_settings(method: SweepSettings) -> None:
    """Raise :class:`ConfigError` for a setting of :class:`PixelSweep` that cannot be."""
    check_pixel_settings(method.lr, method.momentum, method.space, method.pixel_box)
    one_of("method.sweep", method.sweep, ("joint", "sequential"))


def check_pixel_settings(lr: float, momentum: float, space: str, pixel_box: str) -> None:
    """Raise :class:`ConfigError` for a setting of :class:`PixelSGD` that cannot be."""
    require(
        lr > 0,
        f"method.lr={lr} must be greater than 0 (step size of the images, in units of space={space!r}).",
    )
    require(
        0 <= momentum < 1,
        f"method.momentum={momentum} is out of range; allowed: 0 <= momentum < 1.",
    )
    one_of("method.space", space, ("pixel", "normalised"))
    one_of("method.pixel_box", pixel_box, ("project", "free"))

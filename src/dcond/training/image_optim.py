"""The optimiser of the synthetic images, shared by all methods that move pixels.

Images are always stored in pixel space. The public codes of the DC family optimise normalised
images; with ``space="normalised"`` their learning rates keep their meaning. For
x_n = (x - mean) / std, a step lr · ∂L/∂x_n on x_n is a step lr · std² · ∂L/∂x on x. Momentum is
linear, so the trajectories are the same. For whitened images see
:meth:`~dcond.whitening.Whitening.pixel_step`.

IDC, M3D and IDM step once per class on one tensor of all images: :class:`PixelSweep` is that
sweep.
"""

from typing import Literal, Protocol, Self

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dcond.types import SyntheticSet
from dcond.whitening import Whitening

Space = Literal["pixel", "normalised"]
PixelBox = Literal["project", "free"]
Sweep = Literal["joint", "sequential"]


class PixelSettings(Protocol):
    """The settings of a method that moves images."""

    @property
    def lr(self) -> float:
        """Learning rate, in units of ``space``; > 0."""

    @property
    def momentum(self) -> float:
        """Momentum, in [0, 1)."""

    @property
    def space(self) -> Space:
        """Units of the learning rate."""

    @property
    def pixel_box(self) -> PixelBox:
        """Whether images are projected to [0, 1]."""


class SweepSettings(PixelSettings, Protocol):
    """The settings of a method that sweeps over the classes."""

    @property
    def sweep(self) -> Sweep:
        """How the classes are updated."""


class PixelSGD:
    """SGD with momentum on images (n, c, h, w) in pixel space.

    v ← m · v + g,  x ← x - lr · v,  x ← clip(x, 0, 1), with g times std² in normalised space.

    Args:
        images: leaf tensor to move in place, in pixel space.
        lr: learning rate in units of ``space``.
        momentum: m in [0, 1).
        space: "pixel" or "normalised".
        std: standard deviation per channel, for ``space="normalised"``.
        whitening: likewise, where the images are whitened before.
        pixel_box: "project" clips to [0, 1] in :meth:`project`; "free" never clips (the public
            behaviour of the DC family).

    Example:
        >>> pixels = PixelSGD.of(method, synthetic)
        >>> pixels.step(gradient)  # ∂L/∂images
        >>> pixels.project()
    """

    def __init__(
        self,
        images: Tensor,
        *,
        lr: float,
        momentum: float,
        space: Space,
        std: tuple[float, ...],
        whitening: Whitening | None = None,
        pixel_box: PixelBox = "project",
    ):
        self.images = images.requires_grad_(True)
        self.pixel_box = pixel_box
        deviation = torch.tensor(std, dtype=images.dtype, device=images.device).view(-1, 1, 1)
        self._unit = deviation if space == "normalised" else torch.ones_like(deviation)
        self._whitening = whitening if space == "normalised" else None
        self._optimiser: torch.optim.Optimizer = torch.optim.SGD([images], lr=lr, momentum=momentum)

    @classmethod
    def of(
        cls,
        method: PixelSettings,
        synthetic: SyntheticSet,
        *,
        lr: float | None = None,
        momentum: float | None = None,
    ) -> Self:
        """Make the optimiser of a method's settings; ``lr`` and ``momentum`` override them."""
        return cls(
            synthetic.images,
            lr=method.lr if lr is None else lr,
            momentum=method.momentum if momentum is None else momentum,
            space=method.space,
            std=synthetic.std,
            whitening=synthetic.whitening,
            pixel_box=method.pixel_box,
        )

    def in_units(self, gradient: Tensor) -> Tensor:
        """Map ∂L/∂pixels (..., c, h, w) to the gradient in the units of ``space``."""
        return self._unit * (
            gradient if self._whitening is None else self._whitening.gradient(gradient)
        )

    def in_pixels(self, gradient: Tensor) -> Tensor:
        """Map a gradient in the units of ``space`` back to ∂L/∂pixels, for :meth:`step`."""
        gradient = gradient / self._unit
        return gradient if self._whitening is None else self._whitening.pixel_gradient(gradient)

    def step(self, gradient: Tensor, lr: float | None = None) -> None:
        """Do one step on ``gradient`` = ∂L/∂images (pixel units), without projection.

        ``lr`` replaces the learning rate from this step on.
        """
        if lr is not None:
            self._optimiser.param_groups[0]["lr"] = lr
        if self._whitening is not None:
            gradient = self._whitening.pixel_step(gradient)
        self.images.grad = gradient * self._unit.square()
        self._optimiser.step()
        self.images.grad = None

    def halved_on_plateau(self, patience: int) -> ReduceLROnPlateau:
        """Return a schedule that halves the rate where the loss has not fallen for a while.

        That is, after more than ``patience`` steps without one that is lower by more than 0.01 %
        (PyTorch's default, as published).
        """
        return ReduceLROnPlateau(self._optimiser, factor=0.5, patience=patience)

    def project(self) -> None:
        """Clip the images to [0, 1] unless ``pixel_box="free"``: the end of every update."""
        if self.pixel_box == "project":
            with torch.no_grad():
                self.images.clamp_(0, 1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the momentum buffer, if there is one."""
        buffer = self._optimiser.state.get(self.images, {}).get("momentum_buffer")
        return {} if buffer is None else {"momentum": buffer}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if "momentum" in state:
            self._optimiser.state[self.images]["momentum_buffer"] = state["momentum"].to(
                self.images.device
            )


class PixelAdam(PixelSGD):
    """Adam on images in pixel space: an image moves by about ``lr`` per step, whatever its loss.

    Args:
        synthetic: the set whose images are moved in place.
        lr: learning rate, in pixel units.
        pixel_box: see :class:`PixelSGD`.
    """

    def __init__(self, synthetic: SyntheticSet, *, lr: float, pixel_box: PixelBox = "project"):
        super().__init__(
            synthetic.images,
            lr=lr,
            momentum=0.0,
            space="pixel",
            std=synthetic.std,
            pixel_box=pixel_box,
        )
        self._optimiser = torch.optim.Adam([self.images], lr=lr)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the number of steps and both moments of the gradient, once there are any."""
        return dict(self._optimiser.state.get(self.images, {}))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if state:
            self._optimiser.state[self.images] = {
                name: x if name == "step" else x.to(self.images.device) for name, x in state.items()
            }


class PixelSweep:
    """A sweep of SGD steps with momentum, one per class, on one tensor of all k classes' images.

    In the public loops of IDC, M3D and IDM a class's images keep moving by their momentum while
    the other classes step, since their gradients are zero. The loss of a class depends on its own
    images only, so the sweep has a closed form. With c = 0 ... k-1 the class's position in it and
    lr the method's rate times ipc:

        x ← x - lr · (m + ... + m^c) · v             until its turn, where g is taken: advance()
        v ← m^(c+1) · v + g                          at its turn
        x ← x - lr · (1 + m + ... + m^(k-1-c)) · v   its step and the rest of the sweep: step()
        v ← m^(k-1-c) · v

    ``sweep="sequential"`` computes this; it differs from the loop by rounding only.
    ``sweep="joint"`` moves the images at once as far as g moves them until their next turn,
    lr · (1 - m^k) / (1 - m) · g, and drops the momentum: equal up to m^k.

    By default the rate is multiplied by ipc, because the gradient of a mean over n images shrinks
    as 1/n. Images are projected to [0, 1] after every sweep; the public codes clip before every
    sweep (M3D), before every 100 (IDC) or never (IDM).

    Args:
        method: supplies lr, momentum, sweep, space and pixel_box.
        synthetic: the set whose images are moved in place.
        lr: learning rate; None for the method's times ipc.
    """

    def __init__(self, method: SweepSettings, synthetic: SyntheticSet, lr: float | None = None):
        m, k, images = method.momentum, len(synthetic.class_names), synthetic.images
        lr = method.lr * synthetic.ipc if lr is None else lr
        self._sgd = PixelSGD.of(method, synthetic, lr=lr, momentum=0.0)
        self._velocity = None if method.sweep == "joint" else torch.zeros_like(images)
        self._joint = (1 - m**k) / (1 - m)
        turn = torch.arange(k, device=images.device, dtype=images.dtype)
        turn = turn.repeat_interleave(synthetic.ipc).view(-1, 1, 1, 1)
        self._ahead = m * (1 - m**turn) / (1 - m)
        self._decayed = m ** (turn + 1)
        self._behind = (1 - m ** (k - turn)) / (1 - m)
        self._decayed_behind = m ** (k - 1 - turn)

    def advance(self) -> None:
        """Move the images of every class to where they are at its turn."""
        if self._velocity is not None:
            self._sgd.step(self._ahead * self._velocity)

    def step(self, gradient: Tensor) -> None:
        """Do the rest of the sweep on ``gradient`` = ∂(Σ_c L_c)/∂images, without projection."""
        if self._velocity is None:
            self._sgd.step(self._joint * gradient)
        else:
            velocity = self._decayed * self._velocity + gradient
            self._sgd.step(self._behind * velocity)
            self._velocity = self._decayed_behind * velocity

    def project(self) -> None:
        """Clip the images to [0, 1] unless ``pixel_box="free"``: the end of every sweep."""
        self._sgd.project()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the momentum, if there is one."""
        return {} if self._velocity is None else {"momentum": self._velocity}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if self._velocity is not None:
            self._velocity = state["momentum"].to(self._velocity.device)

"""What clipping to [0, 1] hides: steps that are too large leave every loss finite."""

import logging

import torch
from torch import Tensor

from dcond.errors import DivergedError
from dcond.types import SyntheticSet

log = logging.getLogger(__name__)

CLIPPED = 0.95  # share of clipped pixels from which a class is reported
# A class whose pixels jump from 0 to 1 or back, this share of them within 9 steps, so many times in
# sequence, has diverged. Images at the corners of [0, 1] alone have not: a good solution may lie
# there. The number of steps is odd, since pixels that jump in every step are back after two.
JUMPING, JUMPS, JUMP_STEPS = 0.25, 10, 9


class PixelWatch:
    """Watches whether the steps drive the pixels of a class to 0 and 1.

    Args:
        synthetic: the set, whose images are moved in place.
        lr: the rate of the images, for messages.
    """

    def __init__(self, synthetic: SyntheticSet, lr: float | None):
        self.synthetic, self.lr = synthetic, lr
        self._at_first: Tensor | None = self._clipped()  # None: no warning is left to give
        self._corners: tuple[Tensor, Tensor] | None = None  # at the last look
        self._jumped = torch.zeros_like(self._at_first)  # share of the pixels, of each class (k,)
        self._jumps = torch.zeros_like(self._at_first)  # looks in sequence with many of these, (k,)

    def look(self) -> None:
        """Count how often in sequence many pixels of a class jumped; does not wait for a device.

        To be called every :data:`JUMP_STEPS` steps.
        """
        before, now = self._corners, self._find_corners()
        self._corners = now
        if before is None:
            return
        jumped = (before[0] & now[1]) | (before[1] & now[0])
        self._jumped = jumped.float().mean(1)
        self._jumps = (self._jumps + 1) * (self._jumped >= JUMPING)

    def check(self, step: int, loss: float) -> None:
        """Warn once if nearly all pixels of a class are driven to 0 and 1.

        Raises:
            DivergedError: many of them jump between 0 and 1.
        """
        self._warn(step)
        if float(self._jumps.max()) < JUMPS:
            return
        worst = int(self._jumps.argmax())
        raise DivergedError(
            f"step {step}: {100 * float(self._jumped[worst]):.0f} % of the pixels of class "
            f"{self.synthetic.class_names[worst]!r} jump between 0 and 1 within {JUMP_STEPS} steps "
            f"(loss {loss:.4g}, lr {self.lr}). The last good checkpoint stays; try a smaller "
            "method.lr."
        )

    def _warn(self, step: int) -> None:
        if self._at_first is None:
            return
        share, first = self._clipped(), self._at_first
        worst = int((share - first).argmax())
        if float(share[worst]) < CLIPPED or float((share - first)[worst]) < CLIPPED / 3:
            return
        self._at_first = None
        log.warning(
            "step %d: %.0f %% of the pixels of class %r are at 0 or 1, at first %.0f %%; "
            "method.lr=%s is probably too large",
            step,
            100 * float(share[worst]),
            self.synthetic.class_names[worst],
            100 * float(first[worst]),
            self.lr,
        )

    def _clipped(self) -> Tensor:
        """Return the share of pixels at 0 or 1, or beyond, of each class (k,)."""
        black, white = self._find_corners()
        return (black | white).float().mean(1)

    def _find_corners(self) -> tuple[Tensor, Tensor]:
        """Return which pixels are at 0, and which at 1, of each class (k, ...)."""
        images = self.synthetic.by_class.detach().flatten(1)
        return images <= 0, images >= 1

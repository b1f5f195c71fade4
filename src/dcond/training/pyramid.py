"""Images as a sum of levels of growing resolution, optimised by Adam."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 0.01  # initial images are clipped to [0.01, 0.99] before the inverse sigmoid
SLOPE = 2.0  # of the sigmoid
# Colours in which the channels of natural images are uncorrelated, as columns; from LGM's code.
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


class ImagePyramid:
    """Images x = sigmoid(2 M Σ_r up(l_r)) with levels l_r of 1, 2, 4, ... pixels, up to full size.

    up enlarges to full size (bilinear); M maps decorrelated to RGB colours and is 1 for images
    that have no three channels. Levels join one by one, coarse to fine (:meth:`grow`), each with
    the detail that the initial images have at its resolution, and Adam starts anew. Once all levels
    have joined, and without a step, x is the initial images, clipped to [0.01, 0.99].

    Source: Cazenavette et al., arXiv 2511.16674, and its authors' code, where levels start from
    noise instead.

    Args:
        images: initial images (n, c, h, w) in [0, 1].
        lr: learning rate of Adam.
    """

    def __init__(self, images: Tensor, lr: float):
        self.lr, self.size = lr, (images.shape[2], images.shape[3])
        self._mix = _colour_matrix(images)
        start = torch.logit(images.detach().clamp(EPS, 1 - EPS)) / SLOPE
        rest = torch.einsum("ij,njhw->nihw", torch.linalg.inv(self._mix), start)
        self.levels: list[Tensor] = []
        for size in level_sizes(self.size):
            level = F.interpolate(rest, size=size, mode="bilinear", antialias=True)
            rest = rest - self._up(level)
            self.levels.append(level.requires_grad_())
        self.joined = 0
        self.grow()

    def grow(self) -> None:
        """Let the next level join, if one is left; all levels then get a new Adam."""
        if self.joined == len(self.levels):
            return
        self.joined += 1
        self._adam = torch.optim.Adam(self.levels[: self.joined], lr=self.lr)

    def images(self) -> Tensor:
        """Return x (n, c, h, w) in (0, 1), differentiable in the levels that have joined."""
        total = torch.stack([self._up(level) for level in self.levels[: self.joined]]).sum(0)
        mixed: Tensor = torch.einsum("ij,njhw->nihw", self._mix, total)
        return (SLOPE * mixed).sigmoid()

    def step(self, gradient: Tensor) -> None:
        """Do one Adam step on ``gradient`` = ∂L/∂x."""
        self._adam.zero_grad()
        self.images().backward(gradient)
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the levels, how many have joined, and Adam's state."""
        levels = [level.detach() for level in self.levels]
        return {"levels": levels, "joined": self.joined, "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        with torch.no_grad():
            for level, saved in zip(self.levels, state["levels"], strict=True):
                level.copy_(saved)
        self.joined = state["joined"] - 1
        self.grow()
        self._adam.load_state_dict(state["adam"])

    def _up(self, level: Tensor) -> Tensor:
        enlarged: Tensor = F.interpolate(level, size=self.size, mode="bilinear")
        return enlarged


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return height and width of every level: 1, 2, 4, ..., each at most the images'."""
    sides = [1]
    while sides[-1] < max(size):
        sides.append(2 * sides[-1])
    return [(min(side, size[0]), min(side, size[1])) for side in sides]


def _colour_matrix(images: Tensor) -> Tensor:
    """Return M (c, c) of the images' type: the colours scaled to a largest length of 1."""
    channels = images.shape[1]
    if channels != 3:
        return torch.eye(channels, dtype=images.dtype, device=images.device)
    colours = torch.tensor(COLOURS, dtype=images.dtype, device=images.device)
    scaled: Tensor = colours / torch.linalg.vector_norm(colours, dim=0).max()
    return scaled

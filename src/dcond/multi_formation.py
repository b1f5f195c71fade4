"""Multi-formation: one stored image holds f² shrunken training images in its cells.

Source: IDC (arXiv 2205.14959, section 4). The cell side is ⌈h/f⌉. If f does not divide the side,
the stored image is padded at the bottom and right with 0.5, in pixel space.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dcond.errors import ConfigError, one_of, require

PAD_VALUE = 0.5  # mid-grey, pixel space
SHRINKS: dict[str, dict[str, Any]] = {  # arguments of ``interpolate``
    "antialias": {"mode": "bilinear", "antialias": True},
    "nearest": {"mode": "nearest"},
    "aligned": {"mode": "bilinear", "align_corners": True},
    "bilinear": {"mode": "bilinear"},
}


def cell(side: int, factor: int) -> int:
    """Return the side of a cell, ⌈side / f⌉ pixels.

    Raises:
        ConfigError: f is below 1, or so large that the last cell has no pixel of the image.
    """
    require(factor >= 1, f"factor={factor} is out of range; a multi-formation factor is 1 or more.")
    cell_side = -(-side // factor)
    if (factor - 1) * cell_side >= side:
        smaller = range(1, min(factor, side + 1))
        largest = max(f for f in smaller if (f - 1) * -(-side // f) < side)
        raise ConfigError(
            f"factor={factor} leaves cells without a pixel in images of {side} pixels; "
            f"the next smaller factor is {largest}."
        )
    return cell_side


def decode(images: Tensor, factor: int, *, align_corners: bool = False) -> Tensor:
    """Cut every image into f·f cells and enlarge each to full size.

    Args:
        images: (n, c, h, w) in [0, 1].
        factor: f ≥ 1; 1 returns the images.
        align_corners: of the bilinear interpolation.

    Returns:
        (n·f², c, h, w), cell-major: row = (cell_row · f + cell_col) · n + image. Differentiable;
        the gradient of a decoded image is non-zero in its own cell only.
    """
    if factor == 1:
        return images
    n, c, h, w = images.shape
    cell_h, cell_w = cell(h, factor), cell(w, factor)
    padded = F.pad(images, (0, cell_w * factor - w, 0, cell_h * factor - h), value=PAD_VALUE)
    cells = padded.view(n, c, factor, cell_h, factor, cell_w).permute(2, 4, 0, 1, 3, 5)
    cells = cells.reshape(factor * factor * n, c, cell_h, cell_w)
    return F.interpolate(cells, size=(h, w), mode="bilinear", align_corners=align_corners)


def encode(images: Tensor, factor: int, *, shrink: str = "antialias") -> Tensor:
    """Pack f² images into one: the inverse of :func:`decode` up to resolution.

    Args:
        images: (n·f², c, h, w) in [0, 1], cell-major as :func:`decode` returns them.
        factor: f ≥ 1.
        shrink: "antialias" (bilinear with low-pass), "nearest" (as the public codes of the IDC
            family), "aligned" (bilinear, align_corners True, no low-pass, as HMDC's), or "bilinear"
            (no low-pass, as IDM's: at factor 2 and even sides the mean of 2 x 2 pixels).

    Returns:
        (n, c, h, w) in [0, 1].
    """
    one_of("shrink", shrink, SHRINKS)
    if factor == 1:
        return images
    h, w = images.shape[2:]
    cell_h, cell_w = cell(h, factor), cell(w, factor)
    small = F.interpolate(images, size=(cell_h, cell_w), **SHRINKS[shrink])
    return tile(small, factor, (h, w))


def tile(cells: Tensor, factor: int, size: tuple[int, int]) -> Tensor:
    """Put f² cells side by side into each stored image.

    Args:
        cells: (n·f², c, ⌈h/f⌉, ⌈w/f⌉), cell-major as :func:`decode` returns them.
        factor: f ≥ 1.
        size: (h, w) of the stored images.

    Returns:
        (n, c, h, w).
    """
    total, c, cell_h, cell_w = cells.shape
    n = total // factor**2
    require(
        n * factor**2 == total,
        f"encode needs a multiple of factor² = {factor**2} images, got {total}.",
    )
    grid = cells.view(factor, factor, n, c, cell_h, cell_w).permute(2, 3, 0, 4, 1, 5)
    packed = grid.reshape(n, c, factor * cell_h, factor * cell_w)
    return packed[:, :, : size[0], : size[1]].contiguous()

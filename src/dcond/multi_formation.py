"""Multi-formation: f² shrunken training images live in the cells of one stored image.

Source: IDC (arXiv 2205.14959, section 4). The cell side is ⌈h/f⌉; where f does not divide the side,
the stored image is padded at the bottom and right with 0.5, in pixel space.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dcond.errors import ConfigError, one_of, require

PAD_VALUE = 0.5  # mid-grey, pixel space
SHRINKS = ("antialias", "nearest", "aligned")


def cell(side: int, factor: int) -> int:
    """Return the side of a cell, ⌈side / f⌉ pixels.

    Raises:
        ConfigError: f below 1, or so large that the last cell would have no pixel of the image.
    """
    require(factor >= 1, f"factor={factor} is out of range; a multi-formation factor is 1 or more.")
    found = -(-side // factor)
    largest = max(f for f in range(1, side + 1) if (f - 1) * -(-side // f) < side and f <= factor)
    require(
        (factor - 1) * found < side,
        f"factor={factor} leaves cells without a pixel in images of {side} pixels; the next below is {largest}.",
    )
    return found


def decode(images: Tensor, factor: int, *, align_corners: bool = False) -> Tensor:
    """Cut every image into f·f cells and enlarge each to full size.

    Args:
        images: (n, c, h, w) in [0, 1].
        factor: f ≥ 1; 1 is the identity.
        align_corners: how the bilinear enlargement aligns its grid.

    Returns:
        (n·f², c, h, w), cell-major: row = (cell_row · f + cell_col) · n + image. Differentiable;
        the gradient of a decoded image touches its own cell only.
    """
    if factor == 1:
        return images
    n, c, h, w = images.shape
    cell_h, cell_w = cell(h, factor), cell(w, factor)
    padded = F.pad(images, (0, cell_w * factor - w, 0, cell_h * factor - h), value=PAD_VALUE)
    cells = padded.view(n, c, factor, cell_h, factor, cell_w).permute(2, 4, 0, 1, 3, 5)
    cells = cells.reshape(factor * factor * n, c, cell_h, cell_w)
    return F.interpolate(cells, size=(h, w), mode="bilinear", align_corners=align_corners)


def decode_multi(images: Tensor, factor: int) -> Tensor:
    """Decode with every factor from 1 to ``factor`` and join the results, factor 1 first."""
    return torch.cat([decode(images, f) for f in range(1, factor + 1)])


def decode_bound(images: Tensor, factor: int, cap: int) -> Tensor:
    """Decode as many images as possible with a large factor while no more than ``cap`` images come out.

    For f = factor, factor − 1, …, 2: the next min(⌊(cap − decoded − left) / f²⌋, left) images use
    factor f; what is left is kept as it is (IDC's "bound"). Counts each image once before decoding
    it, so it may stop short of the cap.

    Raises:
        ConfigError: more images are stored than ``cap`` allows.
    """
    if len(images) > cap:
        raise ConfigError(
            f"decode 'bound' with cap={cap} cannot hold {len(images)} stored images; raise the cap."
        )
    parts, decoded = [], 0
    for f in range(factor, 1, -1):
        take = max(0, min((cap - decoded - len(images)) // f**2, len(images)))
        parts.append(decode(images[:take], f))
        decoded += take * f**2
        images = images[take:]
    return torch.cat([*parts, images])


def encode(images: Tensor, factor: int, *, shrink: str = "antialias") -> Tensor:
    """Pack f² images into one: the inverse of :func:`decode` up to resolution, in the same order and cells.

    Args:
        images: (n·f², c, h, w) in [0, 1], cell-major as :func:`decode` returns them.
        factor: f ≥ 1.
        shrink: "antialias" (bilinear with low-pass), "nearest" (as the IDC family's public codes
            do), or "aligned" (bilinear, align_corners True, no low-pass, as HMDC's does).

    Returns:
        (n, c, h, w) in [0, 1].
    """
    one_of("shrink", shrink, SHRINKS)
    if factor == 1:
        return images
    total, c, h, w = images.shape
    n, cell_h, cell_w = total // factor**2, cell(h, factor), cell(w, factor)
    require(
        n * factor**2 == total,
        f"encode needs a multiple of factor² = {factor**2} images; got {total}.",
    )
    if shrink == "nearest":
        small = F.interpolate(images, size=(cell_h, cell_w), mode="nearest")
    elif shrink == "aligned":
        small = F.interpolate(images, size=(cell_h, cell_w), mode="bilinear", align_corners=True)
    else:
        small = F.interpolate(images, size=(cell_h, cell_w), mode="bilinear", antialias=True)
    grid = small.view(factor, factor, n, c, cell_h, cell_w).permute(2, 3, 0, 4, 1, 5)
    return grid.reshape(n, c, factor * cell_h, factor * cell_w)[:, :, :h, :w].contiguous()

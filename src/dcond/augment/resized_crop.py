"""Random crops of images, resized to one size: random boxes, and antialiased resampling of them.

The boxes are those of torchvision's ``RandomResizedCrop``, drawn from a passed generator.
"""

import math

import torch
from torch import Tensor

from dcond.device import to_device

TRIES = 10  # boxes drawn for each image; the whole image if none fits


def draw_boxes(
    count: int,
    size: tuple[int, int],
    rng: torch.Generator,
    *,
    area: float,
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Return boxes (count, 4), int64 on the CPU: top, left, height and width in pixels.

    The area is U(area, 1) of the image's, the aspect ratio (width / height) log-uniform in
    ``ratio``, the place uniform. Of ten such boxes an image takes the first that fits into it, or
    else the whole image.

    Args:
        count: number of boxes.
        size: height and width of the images.
        rng: a generator on the CPU, the only source of randomness.
        area: smallest area as a fraction of the image's, in (0, 1].
        ratio: smallest and largest aspect ratio.
    """
    h, w = size
    part = area + (1 - area) * torch.rand(TRIES, count, generator=rng, dtype=torch.float64)
    low, high = map(math.log, ratio)
    stretch = (low + (high - low) * torch.rand(TRIES, count, generator=rng).double()).exp()
    heights, widths = (
        (part * h * w / stretch).sqrt().round().long(),
        (part * h * w * stretch).sqrt().round().long(),
    )
    fits = (heights >= 1) & (heights <= h) & (widths >= 1) & (widths <= w)
    first = fits.int().argmax(0)  # 0 where none fits
    any_fits, columns = fits.any(0), torch.arange(count)
    height = torch.where(any_fits, heights[first, columns], h)
    width = torch.where(any_fits, widths[first, columns], w)
    top, left = (
        (torch.rand(count, generator=rng).double() * (side - length + 1)).long()
        for side, length in ((h, height), (w, width))
    )
    return torch.stack([top, left, height, width], dim=1)


def resize_boxes(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a box out of every image and resize it: bilinear, antialiased; differentiable in images.

    Equals ``F.interpolate(image[:, top:top+height, left:left+width], size, mode="bilinear",
    antialias=True)`` of every image, with two matrix products for all of them.

    Args:
        images: (n, c, h, w).
        boxes: int64 (n, 4), see :func:`draw_boxes`.
        size: height and width of the result.

    Returns:
        (n, c, *size).
    """
    top, left, height, width = to_device(boxes, images.device).unbind(1)
    rows = _weights(top, height, images.shape[2], size[0]).to(images.dtype)
    cols = _weights(left, width, images.shape[3], size[1]).to(images.dtype)
    return rows[:, None] @ images @ cols[:, None].transpose(2, 3)


def _weights(start: Tensor, length: Tensor, side: int, out: int) -> Tensor:
    """Return the weights (n, out, side) of the pixels along one side: a triangle filter."""
    length = length.float()[:, None, None]
    scale = length / out
    centres = (torch.arange(out, device=start.device) + 0.5)[:, None] * scale  # within the box
    pixels = torch.arange(side, device=start.device) - start[:, None, None]
    weights = (1 - (pixels + 0.5 - centres).abs() / scale.clamp_min(1)).clamp_min(0)
    weights = torch.where((pixels >= 0) & (pixels < length), weights, 0)
    return weights / weights.sum(-1, keepdim=True)

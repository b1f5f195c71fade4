"""The operations of differentiable augmentation, as pure functions of images and parameters.

Images are normalised, (g, b, c, h, w): the b images of a group share one parameter, so a Siamese
draw per class has g = classes, a draw per image b = 1. Parameters are tensors (g,) on the images'
device; pixels from outside an image are 0, the mean colour. All are differentiable in the
images.

Source: DSA (arXiv 2102.08259) and its authors' code; ``align_corners`` is False in both.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dcond.augment.resized_crop import resize_boxes


def color(x: Tensor, add: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Change brightness, then saturation, then contrast, in one pass.

    With mu_ch the mean over the channels of a pixel and mu the mean over an image:
    x <- x + add; x <- (x - mu_ch) * saturation + mu_ch; x <- (x - mu) * contrast + mu.
    Neutral values are 0, 1, 1; saturation is the identity for one channel.
    """
    add, saturation, contrast = (_per_group(value, x) for value in (add, saturation, contrast))
    pixel_mean = x.mean(2, keepdim=True)
    image_mean = pixel_mean.mean((3, 4), keepdim=True)
    # Saturation changes neither mean and brightness shifts both by `add`, so the three maps fold
    # into one scale and shift.
    shift = contrast * (1 - saturation) * pixel_mean + (1 - contrast) * image_mean + add
    return torch.addcmul(shift, x, contrast * saturation)


def crop(x: Tensor, shift_rows: Tensor, shift_cols: Tensor) -> Tensor:
    """Shift by whole pixels (int64): out[i, j] = x[i + shift_rows, j + shift_cols], 0 outside."""
    g, b, c, h, w = x.shape
    rows = torch.arange(h, device=x.device) + shift_rows[:, None]  # (g, h)
    cols = torch.arange(w, device=x.device) + shift_cols[:, None]  # (g, w)
    inside = ((rows >= 0) & (rows < h))[:, :, None] & ((cols >= 0) & (cols < w))[:, None, :]
    source = rows.clamp(0, h - 1)[:, :, None] * w + cols.clamp(0, w - 1)[:, None, :]  # (g, h, w)
    # The index is expanded without a copy; gather's backward (scatter_add) costs about as much as
    # its forward.
    moved = x.reshape(g, b * c, h * w).gather(2, source.view(g, 1, h * w).expand(g, b * c, h * w))
    return moved.view_as(x) * inside.view(g, 1, 1, h, w).to(x.dtype)


def cutout(x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Set height rows from top and width columns from left (int64) to 0, clipped at the border."""
    g, _, _, h, w = x.shape
    rows, cols = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
    in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    in_cols = (cols >= left[:, None]) & (cols < (left + width)[:, None])
    outside = ~(in_rows[:, :, None] & in_cols[:, None, :])
    return x * outside.view(g, 1, 1, h, w).to(x.dtype)


def resized_crop(x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Enlarge a box (int64, inside the image) to the size of the image, bilinear."""
    g, b, c, h, w = x.shape
    boxes = torch.stack([top, left, height, width], dim=1)
    return resize_boxes(x.reshape(g, b * c, h, w), boxes, (h, w)).view_as(x)


def flip(x: Tensor) -> Tensor:
    """Swap left and right."""
    return x.flip(-1)


def scale(x: Tensor, scale_x: Tensor, scale_y: Tensor) -> Tensor:
    """Resample at (x * scale_x, y * scale_y), coordinates in [-1, 1], bilinear; above 1 shrinks."""
    zero = torch.zeros_like(scale_x)
    return _resample(x, torch.stack([scale_x, zero, zero, zero, scale_y, zero], dim=1))


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Resample at (x cos - y sin, x sin + y cos), bilinear; radians, coordinates in [-1, 1]."""
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _resample(x, torch.stack([cos, -sin, zero, sin, cos, zero], dim=1))


def _resample(x: Tensor, affine: Tensor) -> Tensor:
    """Sample x bilinearly at affine(position), 0 outside; ``affine`` (g, 6): 2 x 3 matrices."""
    g, b, c, h, w = x.shape
    grid = F.affine_grid(affine.to(x.dtype).view(g, 2, 3), [g, 1, h, w], align_corners=False)
    # Images of a group share the grid: as channels of one image their weights are computed once.
    planes = x.reshape(g, b * c, h, w)
    sampled = F.grid_sample(
        planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled.view_as(x)


def _per_group(value: Tensor, x: Tensor) -> Tensor:
    return value.to(x.dtype).view(-1, 1, 1, 1, 1)

"""The operations against what the authors' code returns, and against plain loops."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dcond.augment import ops

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "dsa_ops.npz", allow_pickle=False)
EXACT, SAMPLED = 1e-10, 1e-4  # the public code samples in float32
FAMILIES = ("brightness", "saturation", "contrast", "crop", "cutout", "flip", "scale", "rotate")
SETS = ("rgb32", "grey28")


def golden(case, name):
    return torch.from_numpy(GOLDEN[f"{case}_{name}"])


def neutral_color(x, add=0.0, saturation=1.0, contrast=1.0):
    parts = (
        torch.as_tensor(value, dtype=x.dtype).expand(len(x))
        for value in (add, saturation, contrast)
    )
    return ops.color(x, *parts)


def recorded(name, case, x):
    """Apply the operation with the parameters that the public code drew for the first len(x)
    groups.
    """

    def drawn(parameter):
        return golden(case, parameter)[: len(x)]

    if name in ("brightness", "saturation", "contrast"):
        key = "add" if name == "brightness" else name
        return neutral_color(x, **{key: drawn("add" if key == "add" else "factor")})
    if name == "crop":
        return ops.crop(x, drawn("shift_rows"), drawn("shift_cols"))
    if name == "cutout":
        side = golden(case, "side").expand(len(x))
        return ops.cutout(x, drawn("top"), drawn("left"), side, side)
    if name == "flip":
        flipped = drawn("flipped").bool()
        return torch.stack(
            [ops.flip(image) if f else image for image, f in zip(x, flipped, strict=True)]
        )
    if name == "scale":
        return ops.scale(x, drawn("sx"), drawn("sy"))
    return ops.rotate(x, drawn("angle_rad"))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", SETS)
def test_a_draw_per_image_is_the_public_codes(size, name):
    x = golden(size, "input")[:, None]  # groups of one image
    expected = golden(f"{size}_{name}", "output").double()
    got = recorded(name, f"{size}_{name}", x)[:, 0]
    assert (got - expected).abs().max() < (SAMPLED if name in ("scale", "rotate") else EXACT)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_shared_draw_is_the_public_codes(name):
    case = f"grey28_{name}_shared"
    x = golden("grey28", "input")
    expected = golden(case, "output").double()
    got = recorded(name, case, x[None])[0]  # one group
    assert (got - expected).abs().max() < (SAMPLED if name in ("scale", "rotate") else EXACT)


@pytest.mark.parametrize("size", SETS)
def test_the_colour_family_is_the_public_codes_three_ops_in_order(size):
    case = f"{size}_color_shared"
    x = golden(size, "input")[None]  # one group that shares one draw
    values = [golden(case, name)[:1] for name in ("add", "saturation", "contrast")]
    assert (ops.color(x, *values)[0] - golden(case, "output")).abs().max() < EXACT


def color_by_hand(x, add, saturation, contrast):
    x = x + add
    mean = x.mean(-3, keepdim=True)
    x = (x - mean) * saturation + mean
    mean = x.mean((-3, -2, -1), keepdim=True)
    return (x - mean) * contrast + mean


def crop_by_hand(x, down, right):
    out = torch.zeros_like(x)
    h, w = x.shape[-2:]
    for i in range(h):
        for j in range(w):
            if 0 <= i + down < h and 0 <= j + right < w:
                out[..., i, j] = x[..., i + down, j + right]
    return out


def cutout_by_hand(x, top, left, height, width):
    out = x.clone()
    out[..., max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = 0
    return out


def resample_by_hand(x, affine):
    """Bilinear sampling pixel by pixel: centres of pixels at (2 i + 1) / side - 1."""
    h, w = x.shape[-2:]
    out = torch.zeros_like(x)
    for i in range(h):
        for j in range(w):
            at_x, at_y = (2 * j + 1) / w - 1, (2 * i + 1) / h - 1
            col = ((affine[0][0] * at_x + affine[0][1] * at_y + 1) * w - 1) / 2
            row = ((affine[1][0] * at_x + affine[1][1] * at_y + 1) * h - 1) / 2
            for r in (math.floor(row), math.floor(row) + 1):
                for q in (math.floor(col), math.floor(col) + 1):
                    if 0 <= r < h and 0 <= q < w:
                        out[..., i, j] += (1 - abs(row - r)) * (1 - abs(col - q)) * x[..., r, q]
    return out


def rotation(angle):
    return [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]


CASES = {
    "color": (ops.color, color_by_hand, lambda g: (g(), g() + 0.5, g() + 0.5)),
    "crop": (ops.crop, crop_by_hand, lambda g: (round(g() * 9) - 4, round(g() * 9) - 4)),
    "cutout": (
        ops.cutout,
        cutout_by_hand,
        lambda g: (round(g() * 12) - 3, round(g() * 9) - 3, 4, 3),
    ),
    "flip": (
        ops.flip,
        lambda x: torch.stack([x[..., -1 - j] for j in range(x.shape[-1])], -1),
        lambda g: (),
    ),
    "scale": (
        ops.scale,
        lambda x, sx, sy: resample_by_hand(x, [[sx, 0], [0, sy]]),
        lambda g: (0.8 + 0.4 * g(), 0.8 + 0.4 * g()),
    ),
    "rotate": (
        ops.rotate,
        lambda x, angle: resample_by_hand(x, rotation(angle)),
        lambda g: (g() - 0.5,),
    ),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_groups_share_one_parameter_and_agree_with_a_plain_loop(name, channels):
    fast, slow, draw = CASES[name]
    rng = torch.Generator().manual_seed(7)
    drawn = [draw(lambda: torch.rand((), generator=rng).item()) for _ in range(4)]
    x = torch.randn(4, 2, channels, 9, 7, dtype=torch.float64, generator=rng, requires_grad=True)
    weight = torch.randn(x.shape, dtype=x.dtype, generator=rng)
    expected = torch.stack([slow(group, *values) for group, values in zip(x, drawn, strict=True)])
    columns = [
        torch.from_numpy(np.array(column)) for column in zip(*drawn, strict=True)
    ]  # float64 or int64
    got = fast(x, *columns)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    (slope,) = torch.autograd.grad((got * weight).sum(), x)
    (expected_slope,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(slope, expected_slope, rtol=1e-9, atol=1e-9)


def test_saturation_does_nothing_to_one_channel():
    x = torch.randn(3, 2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(neutral_color(x, saturation=torch.tensor([0.0, 0.7, 2.0])), x)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_neutral_parameters_are_the_identity(value):
    x = (
        torch.randn(2, 3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        + value
    )
    zero, one = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.float64)
    for same in (neutral_color(x), ops.crop(x, zero, zero), ops.cutout(x, zero, zero, zero, zero)):
        torch.testing.assert_close(same, x)
    torch.testing.assert_close(ops.scale(x, one, one), x)
    torch.testing.assert_close(ops.rotate(x, 0 * one), x)
    assert torch.equal(ops.flip(ops.flip(x)), x)


def test_a_scale_above_one_shrinks_towards_the_middle():
    x = torch.ones(1, 1, 1, 16, 16)
    shrunk = ops.scale(x, torch.tensor([2.0]), torch.tensor([1.0]))[0, 0, 0]
    assert torch.equal(shrunk[:, :3], torch.zeros(16, 3))
    assert torch.equal(shrunk[:, 5:11], torch.ones(16, 6))


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32(name):
    fast, _, draw = CASES[name]
    columns = (torch.tensor([value] * 2) for value in draw(lambda: 0.3))
    assert fast(torch.ones(2, 1, 3, 8, 8), *columns).dtype == torch.float32


def test_crop_gradient_returns_every_visible_pixel_once():
    x = torch.zeros(1, 1, 1, 6, 6, requires_grad=True)
    ops.crop(x, torch.tensor([2]), torch.tensor([-1])).sum().backward()
    assert torch.equal(x.grad[0, 0, 0], F.pad(torch.ones(4, 5), (0, 1, 2, 0)))

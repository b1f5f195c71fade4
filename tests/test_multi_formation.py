"""Multi-formation: cells, order and enlargement, against the public code and by what must hold."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dcond.errors import ConfigError
from dcond.multi_formation import decode, encode, tile

GOLDEN = np.load(Path(__file__).parent / "golden" / "idc_decode.npz", allow_pickle=False)
HMDC = np.load(Path(__file__).parent / "golden" / "hmdc.npz", allow_pickle=False)
SINGLE = ("f2_32", "f2_15", "f3_24", "f3_28", "f3_32", "f1_16")
PRECISION = [(torch.float64, 1e-10), (torch.float32, 1e-5)]


def golden(name):
    return torch.from_numpy(GOLDEN[name])


def noise(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def smooth(n, c, h, w):
    """Slow waves, unlike for every image, in [0, 1]."""
    rows, cols = torch.linspace(0, 1, h)[:, None], torch.linspace(0, 1, w)
    phase = torch.arange(n * c, dtype=torch.float32).view(n, c, 1, 1)
    return 0.5 + 0.4 * torch.sin(2 * rows + 3 * cols + phase)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION)
@pytest.mark.parametrize("case", SINGLE)
def test_single_is_the_public_codes(case, dtype, tolerance):
    got = decode(golden(f"{case}_stored").to(dtype), int(case[1]))
    expected = golden(f"{case}_decoded")
    assert got.dtype == dtype
    assert (got - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("case", SINGLE)
def test_each_decoded_image_comes_from_the_stored_one_that_the_public_code_names(case):
    stored = golden(f"{case}_stored")
    marked = torch.arange(len(stored)).view(-1, 1, 1, 1).expand(stored.shape).double()
    got = decode(marked, int(case[1]))
    assert torch.equal(got[:, 0, 0, 0].long(), golden(f"{case}_source"))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_aligned_corners_are_hmdcs_public_code_up_to_the_order_of_the_cells(dtype, tolerance):
    """It packs row-major, as here, and unpacks column-major: its round trip transposes the grid."""
    public = {
        name: torch.from_numpy(HMDC[name])
        for name in (
            "pack_images",
            "pack_stored",
            "unpack_stored",
            "unpack_images",
            "unpack_source",
            "roundtrip_order",
        )
    }
    packed = encode(public["pack_images"].to(dtype), 2, shrink="aligned")
    assert (packed - public["pack_stored"]).abs().max() < tolerance * public[
        "pack_stored"
    ].abs().max()
    transposed = torch.arange(12).view(2, 2, 3).transpose(0, 1).flatten()
    assert torch.equal(public["roundtrip_order"], transposed)
    unpacked = decode(public["unpack_stored"].to(dtype), 2, align_corners=True)
    wanted = public["unpack_images"]
    assert (unpacked[transposed] - wanted).abs().max() < tolerance * wanted.abs().max()
    assert torch.equal(torch.arange(3).repeat(4), public["unpack_source"])


def decode_by_hand(images, f, align_corners):
    """Every cell cut out by itself, row by row, then enlarged by itself."""
    n, _, h, w = images.shape
    side_h, side_w = -(-h // f), -(-w // f)
    padded = torch.full((*images.shape[:2], side_h * f, side_w * f), 0.5, dtype=images.dtype)
    padded[..., :h, :w] = images
    out = []
    for row in range(f):
        for col in range(f):
            for i in range(n):
                cell = padded[
                    i : i + 1,
                    :,
                    row * side_h : (row + 1) * side_h,
                    col * side_w : (col + 1) * side_w,
                ]
                out.append(
                    F.interpolate(cell, size=(h, w), mode="bilinear", align_corners=align_corners)
                )
    return torch.cat(out)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("f", "h", "w"), [(2, 8, 8), (2, 7, 9), (3, 8, 10), (4, 8, 12)])
def test_decode_is_cell_by_cell_value_and_gradient(f, h, w, align_corners):
    images = noise(3, 2, h, w).requires_grad_()
    got, expected = (
        decode(images, f, align_corners=align_corners),
        decode_by_hand(images, f, align_corners),
    )
    assert got.shape == (3 * f * f, 2, h, w)
    torch.testing.assert_close(got, expected)
    weight = noise(*got.shape, seed=1)
    torch.testing.assert_close(
        *(torch.autograd.grad((x * weight).sum(), images)[0] for x in (got, expected))
    )


def test_factor_one_is_the_identity():
    images = noise(3, 1, 8, 8)
    for same in (
        decode(images, 1),
        encode(images, 1),
    ):
        assert torch.equal(same, images)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_constant_images_survive_exactly(factor):
    images = torch.full((2, 3, 12, 12), 0.25)
    assert torch.equal(decode(images, factor), torch.full((2 * factor**2, 3, 12, 12), 0.25))
    assert torch.equal(encode(decode(images, factor), factor, shrink="nearest"), images)
    torch.testing.assert_close(encode(decode(images, factor), factor), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("factor", "side"), [(2, 8), (3, 8)])
def test_the_gradient_of_a_decoded_image_touches_only_its_cell(factor, side):
    n, cell = 2, -(-side // factor)
    for row in range(factor):
        for col in range(factor):
            images = noise(n, 1, side, side).requires_grad_()
            decode(images, factor)[(row * factor + col) * n + 1].sum().backward()
            expected = torch.zeros(n, 1, side, side, dtype=torch.bool)
            expected[1, :, row * cell : (row + 1) * cell, col * cell : (col + 1) * cell] = True
            assert torch.equal(images.grad != 0, expected)


@pytest.mark.parametrize("shrink", ["antialias", "nearest", "aligned", "bilinear"])
@pytest.mark.parametrize(("factor", "side"), [(2, 32), (2, 15), (3, 24), (3, 28), (3, 32)])
def test_encode_and_decode_agree_on_order_and_cells(factor, side, shrink):
    levels = torch.linspace(0, 1, 2 * factor**2)
    images = levels.view(-1, 1, 1, 1).expand(-1, 3, side, side)
    stored = encode(images, factor, shrink=shrink)
    assert stored.shape == (2, 3, side, side)
    middles = decode(stored, factor)[
        :, :, side // 3, side // 3
    ]  # away from the padding in the last cells
    torch.testing.assert_close(middles, levels[:, None].expand(-1, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shrink", "close"), [("antialias", 0.005), ("nearest", 0.03)])
@pytest.mark.parametrize("factor", [2, 4])
def test_smooth_images_survive_packing_nearly(factor, shrink, close):
    images = smooth(2 * factor**2, 3, 32, 32)
    again = decode(encode(images, factor, shrink=shrink), factor)
    assert again.shape == images.shape
    inside = slice(factor, -factor)  # a cell's outermost pixels are extrapolated
    assert (again - images)[..., inside, inside].abs().max() < close * factor
    assert again.min() >= 0
    assert again.max() <= 1


def test_bilinear_shrinking_by_two_is_the_mean_of_two_by_two_pixels():
    """As the initial images of the public IDM."""
    images = noise(4, 3, 8, 8)
    means = images.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    torch.testing.assert_close(encode(images, 2, shrink="bilinear"), tile(means, 2, (8, 8)))


@pytest.mark.parametrize("factor", [0, -2])
def test_a_factor_below_one_is_refused(factor):
    with pytest.raises(
        ConfigError,
        match=f"factor={factor} is out of range; a multi-formation factor is 1 or more.",
    ):
        decode(noise(1, 1, 8, 8), factor)


@pytest.mark.parametrize(
    ("side", "factor", "largest"), [(8, 5, 4), (8, 7, 4), (28, 8, 7), (32, 9, 8), (4, 6, 4)]
)
def test_cells_without_a_pixel_are_refused(side, factor, largest):
    message = rf"factor={factor} leaves cells without a pixel in images of {side} pixels; the next smaller factor is {largest}\."
    with pytest.raises(ConfigError, match=message):
        decode(noise(1, 1, side, side), factor)
    with pytest.raises(ConfigError, match=message):
        encode(noise(factor**2, 1, 128, side), factor)
    assert len(decode(noise(1, 1, side, side), largest)) == largest**2


def test_encode_refuses_a_remainder_and_an_unknown_shrink():
    with pytest.raises(
        ConfigError, match=r"encode needs a multiple of factor² = 4 images, got 6\."
    ):
        encode(noise(6, 1, 8, 8), 2)
    with pytest.raises(
        ConfigError,
        match=r"shrink='bicubic' is unknown; allowed: antialias, nearest, aligned, bilinear\.",
    ):
        encode(noise(4, 1, 8, 8), 2, shrink="bicubic")

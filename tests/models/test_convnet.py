import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dcond.errors import ConfigError
from dcond.models import ConvNet
from dcond.models.convnet import auto_depth
from dcond.models.staged import centre_pad


def build(spec, **settings):
    return ConvNet(name="C", **settings).build(spec, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("side", "depth"),
    [(2, 1), (4, 1), (8, 2), (16, 3), (20, 3), (28, 3), (32, 3), (64, 4), (128, 5)],
)
def test_depth_follows_the_side(side, depth, make_spec):
    assert auto_depth(side) == depth
    assert len(build(make_spec(1, side), width=4).stages) == depth


def test_padding_equals_the_wider_first_convolution(make_spec):
    """28 px, padded to 32: the DC authors' code pads the first 3x3 convolution by 3 instead."""
    network = build(make_spec(1, 28))
    x = torch.randn(2, 1, 28, 28)
    first = network.stages[0]
    wide = nn.Sequential(*first[1:])(F.conv2d(x, first[0].weight, first[0].bias, padding=3))
    torch.testing.assert_close(network.maps(x)[0], wide)


def test_the_side_decides_on_padding_not_the_channels(make_spec):
    assert build(make_spec(1, 32)).canvas == (32, 32)
    assert build(make_spec(3, 28)).canvas == (32, 32)


def test_centre_pad_puts_an_odd_pixel_at_the_bottom_right():
    padded = centre_pad(torch.ones(1, 1, 3, 2), (6, 4))
    assert padded.sum() == 6
    assert padded[0, 0, 1:4, 1:3].all()


@pytest.mark.parametrize(
    ("norm", "parameters"),
    [
        ("none", 0),
        ("batch", 2 * 3 * 8),
        ("instance", 2 * 3 * 8),
        ("group", 2 * 3 * 8),
        ("layer", 2 * 8 * (256 + 64 + 16)),
    ],
)
def test_norms(norm, parameters, make_spec):
    spec = make_spec(3, 16)
    network = build(spec, width=8, norm=norm, depth=3)
    plain = build(spec, width=8, norm="none", depth=3)
    extra = sum(p.numel() for p in network.parameters()) - sum(
        p.numel() for p in plain.parameters()
    )
    assert extra == parameters


@pytest.mark.parametrize(
    ("norm", "dims"),
    [("batch", (0, 2, 3)), ("instance", (2, 3)), ("layer", (1, 2, 3)), ("group", None)],
)
def test_norms_standardise_over_the_right_axes(norm, dims, make_spec):
    layer = build(make_spec(3, 16), width=8, norm=norm).stages[0][1]
    out = layer(3 + 2 * torch.randn(4, 8, 16, 16))
    if dims is None:  # four groups of two channels
        out, dims = out.view(4, 4, 2, 16, 16), (2, 3, 4)
    torch.testing.assert_close(out.mean(dims), torch.zeros_like(out.mean(dims)), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        out.std(dims, correction=0), torch.ones_like(out.mean(dims)), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    ("activation", "function"),
    [("relu", F.relu), ("leaky_relu", F.leaky_relu), ("silu", F.silu), ("sigmoid", torch.sigmoid)],
)
def test_activations(activation, function, make_spec):
    layer = build(make_spec(3, 16), width=8, activation=activation).stages[0][2]
    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(layer(x), function(x))


def test_pooling_none_keeps_the_size_at_any_depth(make_spec):
    network = build(make_spec(1, 7), width=4, depth=5, pooling="none")
    assert [tap.spatial.shape[2:] for tap in network.features(torch.randn(2, 1, 7, 7))] == [
        (7, 7)
    ] * 5


def test_poolings_differ_and_are_what_they_say(make_spec):
    x = torch.randn(1, 4, 4, 4)
    for pooling, function in (("avg", F.avg_pool2d), ("max", F.max_pool2d)):
        layer = build(make_spec(3, 16), width=4, pooling=pooling).stages[0][3]
        torch.testing.assert_close(layer(x), function(x, 2))


def test_depth_too_large_names_the_largest(make_spec):
    assert build(make_spec(1, 8), depth=3, width=4)(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(
        ConfigError,
        match="C: depth=4 is too large for 8x8 images; the largest depth with pooling is 3",
    ):
        build(make_spec(1, 8), depth=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "ConvNet.depth=0 is out of range; allowed: whole numbers from 1"),
        ({"width": "wide"}, "ConvNet.width='wide' must be a whole number"),
        ({"norm": "instnce"}, "ConvNet.norm='instnce' is unknown; .*Did you mean 'instance'"),
        (
            {"activation": "swish"},
            "ConvNet.activation='swish' is unknown; allowed: relu, leaky_relu, silu, sigmoid",
        ),
        ({"pooling": "mean"}, "ConvNet.pooling='mean' is unknown; allowed: avg, max, none"),
        (
            {"norm": "group", "width": 6},
            "C: width=6 is not a multiple of 4, the number of groups of norm=group",
        ),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        ConvNet(name="C", **settings)

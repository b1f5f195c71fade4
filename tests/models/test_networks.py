"""What holds for every network at native resolution: sizes, taps, weights from the generator alone."""

import pytest
import torch

from dcond.errors import ConfigError
from dcond.models import MLP, VGG11, AlexNet, ConvNet, LeNet, ResNet, ViT

RECIPES = {
    recipe.name: recipe
    for recipe in (
        ConvNet(name="ConvNet"),
        ConvNet(name="ConvNetBN", norm="batch", width=32),
        MLP(name="MLP"),
        LeNet(name="LeNet"),
        AlexNet(name="AlexNet"),
        AlexNet(name="AlexNetBN", norm="batch"),
        VGG11(name="VGG11"),
        VGG11(name="VGG11BN", norm="batch"),
        ResNet(name="ResNet18"),
        ResNet(name="ResNet18BN", norm="batch"),
        ResNet(name="ResNet18_AP", downsample="avg_pool", head="flatten"),
        ResNet(
            name="ResNetAP10",
            blocks=(1, 1, 1, 1),
            downsample="avg_pool",
            stem="by_size",
            initialisation="he_out",
        ),
        ResNet(name="small", blocks=(1, 1, 1), width=16, norm="group"),
        ViT(name="ViT", depth=2, width=64, heads=4),
    )
}
LIGHT = ("ConvNet", "ConvNetBN", "MLP", "LeNet", "AlexNetBN", "small", "ViT")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


# The DC and IDC authors' networks, executed: METHODS 3.5.
@pytest.mark.parametrize(
    ("name", "colour", "grey", "embedding"),
    [
        ("ConvNet", 320_010, 317_706, (2048, 2048)),
        ("MLP", 411_146, 118_282, (128, 128)),
        ("LeNet", 62_006, 61_706, (84, 84)),
        ("AlexNet", 1_872_202, 1_865_802, (3072, 3072)),
        ("VGG11", 9_231_114, 9_229_962, (512, 512)),
        ("VGG11BN", 9_231_114, 9_229_962, (512, 512)),
        ("ResNet18", 11_173_962, 11_172_810, (512, 512)),
        ("ResNet18BN", 11_173_962, 11_172_810, (512, 512)),
        ("ResNet18_AP", 11_250_762, 11_213_770, (8192, 4608)),
        ("ResNetAP10", 4_903_242, 4_902_090, (512, 512)),
    ],
)
def test_parameters_and_embedding_are_the_published_ones(name, colour, grey, embedding, make_spec):
    for parameters, d, (channels, side) in zip(
        (colour, grey), embedding, ((3, 32), (1, 28)), strict=True
    ):
        network = RECIPES[name].build(make_spec(channels, side), rng())
        assert count(network) == parameters
        assert network.embed(torch.randn(2, channels, side, side)).shape == (2, d)


def test_parameters_at_other_sizes_and_classes(make_spec):
    assert count(ConvNet(name="c").build(make_spec(3, 32, 100), rng())) == 504_420
    assert count(ConvNet(name="c").build(make_spec(3, 64, 200), rng())) == 857_160
    assert count(RECIPES["ResNetAP10"].build(make_spec(3, 224), rng())) == 4_910_922


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 16), (1, 28), (3, 64), (1, 96)])
@pytest.mark.parametrize(
    "name", ["ConvNet", "MLP", "LeNet", "AlexNet", "VGG11", "ResNet18", "ResNetAP10", "ViT"]
)
def test_every_size_gives_logits_that_depend_on_the_image(name, channels, side, make_spec):
    network = RECIPES[name].build(make_spec(channels, side, classes=7), rng())
    with torch.no_grad():
        logits = network(torch.randn(2, channels, side, side))
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()
    assert (logits[0] - logits[1]).abs().max() > 1e-6


@pytest.mark.parametrize("name", LIGHT)
def test_logits_and_taps_of_one_pass_are_those_of_two(name, make_spec):
    network = RECIPES[name].build(make_spec(1, 16), rng())
    x = torch.randn(2, 1, 16, 16)
    logits, taps = network.forward_with_features(x)
    torch.testing.assert_close(logits, network(x))
    for one, other in zip(taps, network.features(x), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", LIGHT)
def test_images_need_not_be_square(name, make_spec):
    network = RECIPES[name].build(make_spec(3, 20, width=30), rng())
    assert network(torch.randn(2, 3, 20, 30)).shape == (2, 10)


@pytest.mark.parametrize(("height", "width"), [(16, 130), (256, 20)])
@pytest.mark.parametrize("name", ["ConvNet", "ResNet18", "ResNetAP10"])
def test_strips_keep_pixels_to_the_last_stage(name, height, width, make_spec):
    network = RECIPES[name].build(make_spec(3, height, width=width), rng())
    x = torch.randn(2, 3, height, width)
    assert network(x).shape == (2, 10)
    assert min(network.features(x)[-1].spatial.shape[2:]) >= 2


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("ConvNet", [(128, 16), (128, 8), (128, 4)]),
        ("MLP", [(128, 1), (128, 1)]),
        ("LeNet", [(6, 14), (16, 5)]),
        ("AlexNet", [(128, 16), (192, 8), (192, 4)]),
        ("VGG11", [(64, 16), (128, 8), (256, 4), (512, 2), (512, 1)]),
        ("ResNet18", [(64, 32), (64, 32), (128, 16), (256, 8), (512, 4)]),
        ("small", [(16, 32), (16, 32), (32, 16), (64, 8)]),
        ("ViT", [(64, 8), (64, 8)]),
    ],
)
def test_taps(name, maps, make_spec):
    network = RECIPES[name].build(make_spec(), rng())
    taps = network.features(torch.randn(2, 3, 32, 32))
    assert [tuple(tap.spatial.shape) for tap in taps] == [(2, d, side, side) for d, side in maps]
    for tap, (d, _) in zip(taps, maps, strict=True):
        assert tap.semantic.shape == (2, d)
        if name != "ViT":
            torch.testing.assert_close(tap.semantic, tap.spatial.mean((2, 3)))


@pytest.mark.parametrize("name", LIGHT)
def test_embedding_is_what_the_head_reads(name, make_spec):
    network = RECIPES[name].build(make_spec(), rng())
    x = torch.randn(4, 3, 32, 32)
    head = network.body.head if name == "ViT" else network.head
    torch.testing.assert_close(head(network.embed(x)), network(x))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_same_seed_same_weights_and_global_generator_untouched(name, make_spec):
    spec = make_spec(3, 16)
    before = torch.random.get_rng_state()
    one, two = (RECIPES[name].build(spec, rng(3)).state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("name", LIGHT)
def test_reset_equals_a_new_build_in_the_same_tensors(name, make_spec):
    spec = make_spec(3, 16)
    network = RECIPES[name].build(spec, rng(0))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    places = [parameter.data_ptr() for parameter in network.parameters()]
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    network(torch.randn(4, 3, 16, 16)).square().sum().backward()
    optimiser.step()  # so that constants and running statistics move away from their start too
    RECIPES[name].reset(network, spec, rng(1))
    fresh = RECIPES[name].build(spec, rng(1)).state_dict()
    assert [parameter.data_ptr() for parameter in network.parameters()] == places
    for key, value in network.state_dict().items():
        assert torch.equal(value, fresh[key]), key
        random = value.numel() > 1 and value.std() > 0
        assert not random or not torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_gradient_reaches_the_image_and_every_weight(name, make_spec):
    network = RECIPES[name].build(make_spec(3, 16), rng())
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    torch.nn.functional.cross_entropy(network(x), torch.tensor([0, 1])).backward()
    assert (x.grad.abs().amax((2, 3)) > 0).all()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["ConvNet", "LeNet", "AlexNetBN", "VGG11", "small", "ViT"])
def test_double_backward(name, make_spec):
    """Gradient matching: the derivative, in the image, of a function of the weights' gradient.
    Against a difference.
    """
    torch.manual_seed(0)
    network = RECIPES[name].build(make_spec(1, 8), rng()).double()
    x, direction = torch.randn(2, 1, 8, 8).double(), torch.randn(2, 1, 8, 8).double()
    last = [parameter for key, parameter in network.named_parameters() if "head" not in key][-1]

    def matched(images):
        loss = torch.nn.functional.cross_entropy(network(images), torch.tensor([0, 1]))
        return torch.autograd.grad(loss, last, create_graph=True)[0].square().sum()

    leaf = x.clone().requires_grad_()
    exact = (torch.autograd.grad(matched(leaf), leaf)[0] * direction).sum()
    step = 1e-6
    difference = (matched(x + step * direction) - matched(x - step * direction)) / (2 * step)
    assert exact.abs() > 0
    torch.testing.assert_close(exact, difference.detach(), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("name", ["ConvNetBN", "VGG11BN", "AlexNetBN"])
def test_batch_norm_counts_in_train_mode_only(name, make_spec):
    network = RECIPES[name].build(make_spec(3, 16), rng())
    assert network.training
    x = torch.randn(4, 3, 16, 16)
    network(x)
    means = [
        value.clone() for key, value in network.state_dict().items() if key.endswith("running_mean")
    ]
    assert means
    assert all(mean.abs().max() > 0 for mean in means)
    network.eval()(x)
    after = [value for key, value in network.state_dict().items() if key.endswith("running_mean")]
    assert all(torch.equal(one, two) for one, two in zip(means, after, strict=True))


def test_resnet_ap10_stem_follows_the_size(make_spec):
    for side, kernel, map_side in ((64, 3, 64), (65, 3, 32), (128, 3, 64), (129, 7, 32)):
        stem = RECIPES["ResNetAP10"].build(make_spec(3, side), rng()).stages[0]
        assert stem[0].kernel_size == (kernel, kernel)
        assert stem(torch.randn(1, 3, side, side)).shape[-1] == map_side


def test_he_out_initialisation(make_spec):
    network = RECIPES["ResNetAP10"].build(make_spec(), rng())
    weight = network.stages[3][0].body[0].weight  # 256 channels out, 3x3
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP(name="M", hidden=()), "M: hidden is empty; give at least one width"),
        (
            lambda: MLP(name="M", hidden=(0,)),
            "M: hidden width=0 is out of range; allowed: whole numbers from 1",
        ),
        (lambda: ResNet(name="R", blocks=()), "R: blocks is empty; ResNet-18 has"),
        (
            lambda: ResNet(name="R", blocks=(1, -1)),
            "R: blocks per stage=-1 is out of range",
        ),
        (
            lambda: ResNet(name="R", width=2.5),
            "ResNet.width=2.5 must be a whole number",
        ),
        (
            lambda: ResNet(name="R", norm="instanc"),
            "ResNet.norm='instanc' is unknown; .*Did you mean 'instance'",
        ),
        (
            lambda: ResNet(name="R", downsample="pool"),
            "ResNet.downsample='pool' is unknown; allowed: stride, avg_pool",
        ),
        (
            lambda: ResNet(name="R", head="max"),
            "ResNet.head='max' is unknown; allowed: mean, flatten",
        ),
        (
            lambda: ResNet(name="R", stem="big"),
            "ResNet.stem='big' is unknown; allowed: plain, by_size",
        ),
        (
            lambda: ResNet(name="R", initialisation="he"),
            "ResNet.initialisation='he' is unknown; allowed: default, he_out",
        ),
        (
            lambda: ResNet(name="R", norm="group", width=6),
            "R: width=6 is not a multiple of 4",
        ),
        (
            lambda: VGG11(name="V", norm="layer"),
            "VGG11.norm='layer' is unknown; allowed: instance, batch, group, none",
        ),
        (
            lambda: AlexNet(name="A", norm="layer"),
            "AlexNet.norm='layer' is unknown; allowed: none, batch, instance, group",
        ),
        (lambda: LeNet(name="L", lr=0), "LeNet.lr=0 is out of range; allowed: numbers above 0"),
        (lambda: LeNet(name="L", lr="abc"), "LeNet.lr='abc' must be a number"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ConfigError, match=message):
        make()

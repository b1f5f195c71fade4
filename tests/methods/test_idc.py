"""IDC beyond the contract: the sweep against the public loop, what is shown to the network, in
float64.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dcond.augment import DiffAug
from dcond.errors import ConfigError
from dcond.matching.engine import Engine
from dcond.methods.idc import IDC
from dcond.models import MLP
from dcond.rng import Streams
from dcond.types import Split
from helpers.double import Double, double_data, start
from helpers.idc_runs import DoubleConvNet, method, run

CLASSES, PER_CLASS = 3, 5


@pytest.fixture
def real() -> Double:
    return double_data(CLASSES, PER_CLASS)


def loop(real, steps, *, distance, momentum, lr, ipc=2) -> tuple[Tensor, list[float]]:
    """The public loop in plain words: for each class, one step of SGD with momentum on the one
    tensor of all images.
    """
    network = DoubleConvNet().build(real.spec, Streams(0).networks)
    weights = [p for p in network.parameters() if p.ndim > 2]
    x, velocity, losses = start(real, ipc).images.requires_grad_(), 0.0, []
    for _ in range(steps):
        losses.append(0.0)
        for c in range(CLASSES):
            batch = real.normalised(real.class_rows[c])
            images = real.spec.normalise(x[c * ipc : (c + 1) * ipc])
            target = torch.autograd.grad(
                F.cross_entropy(network(batch), torch.full((len(batch),), c)), weights
            )
            loss = F.cross_entropy(network(images), torch.full((ipc,), c))
            ours = torch.autograd.grad(loss, weights, create_graph=True)
            gap = [a - b for a, b in zip(ours, target, strict=True)]
            total = sum((g.square() if distance == "conv_squared" else g.abs()).sum() for g in gap)
            losses[-1] += float(total.detach())
            (gradient,) = torch.autograd.grad(total, x)
            velocity = momentum * velocity + gradient
            x = (x - lr * ipc * velocity).detach().requires_grad_()
        x = x.detach().clamp(0, 1).requires_grad_()
    return x.detach(), losses


# The network stands still, and every class is one batch: nothing is left to chance.
STILL = {"lr_network": 1e-30, "momentum_network": 0.0, "batch_real": PER_CLASS, "lr": 0.05}


@pytest.mark.parametrize("distance", ["conv_squared", "conv_l1"])
def test_a_sequential_sweep_is_the_public_loop(real, distance):
    made, synthetic = method(sweep="sequential", distance=distance, **STILL), start(real)
    state = made.init(real, synthetic, Streams(0))
    losses = [float(made.step(real, synthetic, state)["loss"]) for _ in range(4)]
    wanted, their_losses = loop(real, 4, distance=distance, momentum=0.5, lr=0.05)
    torch.testing.assert_close(synthetic.images.detach(), wanted, rtol=1e-8, atol=1e-8)
    assert losses == pytest.approx(their_losses, rel=1e-8)
    assert (wanted - start(real).images).abs().max() > 1e-3


def test_a_joint_sweep_is_the_sequential_one_up_to_m_to_the_k(real):
    joint, sequential, without = (start(real) for _ in range(3))
    run(real, joint, 5, sweep="joint", momentum=0.25, **STILL)
    run(real, sequential, 5, sweep="sequential", momentum=0.25, **STILL)
    run(real, without, 5, sweep="sequential", momentum=0.0, **STILL)
    travelled = (joint.images - start(real).images).abs().max()
    gap = (joint.images - sequential.images).abs().max()
    assert 0 < gap < 0.1 * travelled
    assert (without.images - joint.images).abs().max() > 1.5 * gap


@pytest.mark.parametrize(("cap", "shown"), [(3, 3), (8, 8), (128, 8)])
def test_no_more_decoded_images_than_the_cap_are_shown(real, matched, cap, shown):
    run(real, start(real, ipc=2, factor=2), 2, factor=2, batch_synthetic=cap, batch_real=4)
    assert [(batch.shape[:2], images.shape[:2]) for batch, images, _ in matched] == [
        ((CLASSES, 4), (CLASSES, shown))
    ] * 2


def test_every_class_draws_its_own_augmentation_and_shares_it_between_real_and_synthetic(
    real, matched
):
    black = torch.zeros_like(real.train.images)
    dark = Double(
        "dark", Split(black, real.train.labels), real.test, real.class_names, (0.0,), (1.0,)
    )
    synthetic = start(dark)
    synthetic.images.zero_()
    bright = DiffAug(
        ["color"], contrast=0.0, saturation=0.0
    )  # black images show the added brightness
    run(dark, synthetic, 1, augment=bright, batch_real=3)
    shown_real, shown, _ = matched[0]
    brightness = shown_real[:, 0, 0, 0, 0]
    assert len(brightness.unique()) == CLASSES
    assert torch.equal(shown_real, brightness.view(-1, 1, 1, 1, 1).expand_as(shown_real))
    assert torch.equal(shown, brightness.view(-1, 1, 1, 1, 1).expand_as(shown))


@pytest.mark.parametrize("distance", ["conv_squared", "conv_l1", "conv_l1_mean", "conv_cosine"])
def test_equal_sets_are_at_no_distance_and_move_little(distance):
    one = double_data(CLASSES, 1)  # a single image in every class
    synthetic = start(one, ipc=1)
    with torch.no_grad():
        synthetic.images.copy_(one.pixels(torch.arange(CLASSES)))
    before = synthetic.images.clone()
    made_method = method(distance=distance, batch_real=1)
    loss = made_method.step(one, synthetic, made_method.init(one, synthetic, Streams(0)))["loss"]
    assert abs(float(loss)) < 1e-3  # conv_cosine has 1e-6 in its denominator
    assert torch.isfinite(synthetic.images).all()
    if distance in (
        "conv_squared",
        "conv_cosine",
    ):  # an absolute value has a slope of 1 at any rounding error
        torch.testing.assert_close(synthetic.images.detach(), before, rtol=0, atol=1e-6)


def test_batch_norm_networks_are_matched_with_frozen_statistics(condense, toy, batch_norms):
    condense("idc", toy, "model.norm=batch", steps=7)
    assert len(batch_norms) == 7
    assert not any(batch_norms)


def test_a_network_without_convolutions_is_refused_before_the_first_step(condense, toy):
    with pytest.raises(
        ConfigError, match=r"method\.distance=conv_squared compares convolution weights"
    ):
        condense("idc", toy, "model=mlp")
    assert condense("idc", toy, "model=mlp", distance="rowwise", steps=2).losses[0] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distance": "conv_mse"}, "IDC.distance='conv_mse' is unknown; allowed: rowwise,"),
        ({"sweep": "both"}, "IDC.sweep='both' is unknown; allowed: joint, sequential."),
        ({"steps": 0}, "IDC.steps=0 is out of range; allowed: whole numbers from 1."),
        ({"batch_synthetic": 0}, "IDC.batch_synthetic=0 is out of range"),
        ({"steps_per_network": 2.5}, "IDC.steps_per_network=2.5 must be a whole number"),
        ({"train_images": 0}, "IDC.train_images=0 is out of range"),
        ({"batch_train": 0}, "IDC.batch_train=0 is out of range"),
        (
            {"warmup_epochs": -1},
            "IDC.warmup_epochs=-1 is out of range; allowed: whole numbers from 0.",
        ),
        ({"warmup_epochs": 0.5}, "IDC.warmup_epochs=0.5 must be a whole number"),
        ({"lr": 0.0}, "IDC.lr=0.0 is out of range; allowed: numbers above 0."),
        ({"lr_network": 0.0}, "IDC.lr_network=0.0 is out of range; allowed: numbers above 0."),
        (
            {"momentum_network": 1.0},
            "IDC.momentum_network=1.0 is out of range; allowed: numbers from 0, below 1.",
        ),
        ({"weight_decay": -1.0}, "IDC.weight_decay=-1.0 is out of range; allowed: numbers from 0."),
        ({"cutmix_p": 1.5}, "IDC.cutmix_p=1.5 is out of range; allowed: numbers from 0, up to 1."),
    ],
)
def test_settings_that_cannot_be_are_refused_when_the_method_is_made(settings, message):
    good = {
        "network": MLP(name="MLP"),
        "engine": Engine(),
        "augment": None,
        "train_augment": None,
        "steps": 1,
    }
    with pytest.raises(ConfigError) as caught:
        IDC(**(good | settings))
    assert message in str(caught.value)

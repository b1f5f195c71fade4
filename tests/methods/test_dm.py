"""DM beyond the contract: its loss against a plain loop, its gradient, and the life of a network."""

import pytest
import torch

from dcond.augment import DiffAug
from dcond.errors import ConfigError
from dcond.matching.engine import Engine
from dcond.methods.dm import DM
from dcond.models import ConvNet
from dcond.rng import Streams
from dcond.types import SyntheticSet
from helpers.linear_features import LinearRecipe


def start(real, ipc=3, factor=1) -> SyntheticSet:
    k = len(real.class_names)
    images = torch.rand(k * ipc, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(k).repeat_interleave(ipc)
    return SyntheticSet(images, labels, real.class_names, ipc, real.mean, real.std, factor)


def exact(**settings) -> Engine:
    return Engine(precision="float32", compile=False, **settings)


def method(**settings) -> DM:
    plain = {
        "network": LinearRecipe(dtype=torch.float32),
        "engine": exact(),
        "augment": None,
        "steps": 1,
        "lr": 0.01,
        "pixel_box": "free",
    }
    return DM(**(plain | settings))


def test_under_linear_features_all_images_of_a_class_move_alike(toy):
    dm, synthetic, rng = method(), start(toy), Streams(0)
    before = synthetic.images.detach().clone()
    dm.step(toy, synthetic, dm.init(toy, synthetic, rng))
    moved = (synthetic.images.detach() - before).view(3, 3, -1)
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), rtol=1e-4, atol=1e-7)
    assert (moved[0, 0] - moved[1, 0]).abs().max() > 1e-5  # and unlike classes do not


@pytest.mark.parametrize("factor", [1, 2])
def test_loss_and_step_are_those_of_a_loop_over_the_classes(toy, factor):
    augment = DiffAug(["color", "crop", "cutout", "flip", "scale", "rotate"])
    recipe = ConvNet(name="net", width=8)
    dm = method(network=recipe, augment=augment, batch_real=5, factor=factor, lr=0.5, momentum=0.0)
    synthetic = start(toy, factor=factor)
    images = synthetic.images.detach().clone().requires_grad_()
    loss = dm.step(toy, synthetic, dm.init(toy, synthetic, Streams(4)))["loss"]

    rng = Streams(4)
    network = recipe.build(toy.spec, rng.networks)
    recipe.reset(network, toy.spec, rng.networks)
    rows = toy.draw_per_class(5, rng.real)
    draw = augment.draw(3, (8, 8), rng.augmentation, shared_family=False)
    decoded, labels = SyntheticSet(
        images, synthetic.labels, toy.class_names, 3, toy.mean, toy.std, factor
    ).decoded()
    slow = torch.zeros(())
    for c in range(3):
        syn = toy.spec.normalise(decoded[labels == c])
        real = toy.normalised(rows[c])
        # An augmentation of all classes with this class in its own place: the others are only there
        # to fill the draw.
        syn, real = (augment.apply(x.expand(3, *x.shape), draw)[c] for x in (syn, real))
        gap = network.embed(syn).mean(0) - network.embed(real).mean(0).detach()
        slow = slow + gap.square().sum()
    (gradient,) = torch.autograd.grad(slow, images)
    expected = images.detach() - 0.5 * gradient * toy.std[0] ** 2
    torch.testing.assert_close(loss, slow.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(synthetic.images.detach(), expected, rtol=1e-5, atol=1e-6)


def test_every_step_has_a_fresh_network_that_is_never_trained(toy):
    dm, synthetic = method(), start(toy)
    state = dm.init(toy, synthetic, Streams(0))
    weights = []
    for _ in range(3):
        dm.step(toy, synthetic, state)
        weights.append(state.network.weight.detach().clone())
        assert not state.network.weight.requires_grad
        assert state.network.training
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_the_loss_is_zero_where_the_set_is_the_data(toy):
    rows = toy.draw_per_class(30, Streams(0).real)
    synthetic = SyntheticSet(
        toy.pixels(rows.flatten()),
        torch.arange(3).repeat_interleave(30),
        toy.class_names,
        30,
        toy.mean,
        toy.std,
    )
    dm = method(batch_real=30)
    rng = Streams(0)  # draws the same real images
    assert dm.step(toy, synthetic, dm.init(toy, synthetic, rng))["loss"] < 1e-9


def test_batch_norm_sees_all_classes_in_one_batch(toy):
    losses = []
    for chunk in (10000, 4):
        network = ConvNet(name="bn", width=8, norm="batch")
        dm, synthetic = method(network=network, engine=exact(chunk=chunk), batch_real=5), start(toy)
        losses.append(dm.step(toy, synthetic, dm.init(toy, synthetic, Streams(0)))["loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["steps", "batch_real", "factor"])
def test_settings_below_one_are_refused(name):
    with pytest.raises(
        ConfigError, match=rf"DM\.{name}=0 is out of range; allowed: whole numbers from 1\."
    ):
        method(**{name: 0})

"""Matching of distillation gradients against the loss written down as it stands, in float64."""

import pytest
import torch

from dcond.matching.alignment import Alignment
from dcond.matching.distances import squared
from dcond.matching.distillation import (
    Distillation,
    distillation_gradient,
)
from dcond.models import ConvNet, ResNet, ViT
from dcond.rng import generator
from dcond.types import ImageSpec

SPEC = ImageSpec(1, 8, 8, 3, (0.5,), (0.25,))
RECIPES = [
    ConvNet(name="ConvNet", width=4),
    ViT(name="ViT", depth=3, width=8, heads=2),
    ResNet(name="ResNet", blocks=(1, 1), width=4),
]


def images(count, seed):
    return torch.randn(3, count, 1, 8, 8, generator=generator(seed, "images"), dtype=torch.float64)


def networks_and_alignment(count, form="mean"):
    networks = [
        recipe.build(SPEC, generator(0, recipe.name)).double() for recipe in RECIPES[:count]
    ]
    alignment = Alignment.of(
        [n.features(images(2, 0)[0]) for n in networks], axis="source", form=form
    ).double()
    for i, logits in enumerate(alignment.logits):
        logits.data = torch.randn(
            logits.shape, generator=generator(i, "logits"), dtype=torch.float64
        )
    return networks, alignment


@pytest.mark.parametrize(("count", "form"), [(2, "mean"), (3, "mean"), (3, "pairwise")])
def test_loss_and_image_gradient_are_those_of_the_loss_as_written(count, form):
    networks, alignment = networks_and_alignment(count, form)
    real, synthetic = images(12, 1), images(2, 2)
    leaf = synthetic.clone().requires_grad_(True)
    losses = []
    for c in range(3):
        loss = torch.zeros((), dtype=torch.float64)
        theirs, ours = (alignment([n.features(x) for n in networks]) for x in (real[c], leaf[c]))
        for network in networks:
            for parameter in network.parameters():
                (target,) = torch.autograd.grad(
                    theirs, parameter, retain_graph=True, allow_unused=True
                )
                if target is not None:
                    (own,) = torch.autograd.grad(ours, parameter, create_graph=True)
                    loss = loss + (own - target).square().sum()
        losses.append(loss)
    (wanted,) = torch.autograd.grad(torch.stack(losses).sum(), leaf)
    for chunk, classes in ((5, 1), (100, 1), (7, 2), (100, 3)):
        distillation = Distillation(networks, chunk, classes)
        got_losses, got = distillation.match(alignment, real, synthetic, squared)
        assert distillation.classes == classes
        torch.testing.assert_close(got_losses, torch.stack(losses).detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8 * float(wanted.abs().max()))


def test_only_what_the_taps_depend_on_is_matched():
    """Neither the heads nor the alignment's maps and logits."""
    networks, alignment = networks_and_alignment(2)
    found = distillation_gradient(networks, alignment, images(2, 1)[0])
    heads = {
        "head.weight",
        "head.bias",
        "body.head.weight",
        "body.head.bias",
        "body.norm.weight",
        "body.norm.bias",
    }
    wanted = [p for n in networks for name, p in n.named_parameters() if name not in heads]
    loss = alignment([n.features(images(2, 1)[0]) for n in networks])
    for got, parameter in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, torch.autograd.grad(loss, parameter, retain_graph=True)[0])
        assert not got.requires_grad


def test_real_gradients_carry_no_graph():
    networks, alignment = networks_and_alignment(2)
    assert not any(
        g.requires_grad for g in distillation_gradient(networks, alignment, images(4, 1)[0])
    )
    at_once = Distillation(networks, 4, classes=2)
    assert not any(g.requires_grad for g in at_once._real(alignment, images(4, 1)))


def test_equal_sets_are_at_distance_zero():
    networks, alignment = networks_and_alignment(2)
    both = images(4, 4)
    losses, gradient = Distillation(networks, 2).match(alignment, both, both, squared)
    assert float(losses.max()) < 1e-25
    assert float(gradient.abs().max()) < 1e-12


def test_swapping_the_networks_leaves_losses_and_gradient_equal():
    networks, alignment = networks_and_alignment(2)
    other = Alignment.of(
        [n.features(images(2, 0)[0]) for n in networks[::-1]], axis="source", form="mean"
    ).double()
    other.logits.load_state_dict(alignment.logits.state_dict())
    for mine, theirs in zip(alignment.maps, reversed(other.maps), strict=True):
        theirs.load_state_dict(mine.state_dict())
    real, synthetic = images(6, 1), images(2, 2)
    one = Distillation(networks, 8).match(alignment, real, synthetic, squared)
    two = Distillation(networks[::-1], 8).match(other, real, synthetic, squared)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-14)

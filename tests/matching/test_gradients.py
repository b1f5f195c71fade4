"""Gradients of classes in a network's weights, one class after the other or together, and frozen
batch norm.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dcond.matching.gradients import (
    class_gradient,
    frozen_batch_norm,
    mean_over_chunks,
    stacked_gradients,
)
from helpers.small_networks import RECIPES, by_recipe, images, network_of

pytestmark = pytest.mark.usefixtures("narrow_vgg")


@by_recipe
def test_the_mean_of_class_gradients_is_the_gradient_of_the_balanced_batch(recipe):
    network = network_of(recipe)
    real = images(6, 3)
    with frozen_batch_norm(network, real):
        classes = [
            mean_over_chunks(real[c], 4, partial(class_gradient, network, label=c))
            for c in range(3)
        ]
        labels = torch.arange(3).repeat_interleave(6)
        mixed = torch.autograd.grad(
            F.cross_entropy(network(real.flatten(0, 1)), labels), list(network.parameters())
        )
    for parts, whole in zip(zip(*classes, strict=True), mixed, strict=True):
        torch.testing.assert_close(sum(parts) / 3, whole, rtol=1e-9, atol=1e-12)


def test_with_batch_norm_in_train_mode_the_mixed_batch_has_another_gradient():
    network = network_of(RECIPES[1])
    real = images(6, 3)
    classes = [class_gradient(network, real[c], c)[0] for c in range(3)]
    labels = torch.arange(3).repeat_interleave(6)
    mixed = torch.autograd.grad(
        F.cross_entropy(network(real.flatten(0, 1)), labels), next(network.parameters())
    )
    assert float((sum(classes) / 3 - mixed[0]).norm() / mixed[0].norm()) > 0.01


@by_recipe
def test_classes_together_have_the_gradients_of_each(recipe):
    network = network_of(recipe)
    real = images(4, 3)
    with frozen_batch_norm(network, real):
        alone = [class_gradient(network, real[c], c) for c in range(3)]
        together = stacked_gradients(network, real, torch.arange(3))
    for one, stack in zip(zip(*alone, strict=True), together, strict=True):
        torch.testing.assert_close(torch.stack(one), stack, rtol=1e-9, atol=1e-12)


def test_real_gradients_carry_no_graph():
    network = network_of(RECIPES[0])
    real = images(4, 5)[0]
    assert not any(g.requires_grad for g in class_gradient(network, real, 0))
    assert all(g.requires_grad for g in class_gradient(network, real, 0, create_graph=True))


def test_batch_norm_is_frozen_for_the_block_only():
    network = network_of(RECIPES[1])
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = norms[0].running_mean.clone()
    with frozen_batch_norm(network, images(4, 6)):
        taken = norms[0].running_mean.clone()
        assert not torch.equal(taken, before)
        class_gradient(network, images(4, 7)[0], 0)
        assert torch.equal(norms[0].running_mean, taken)
        assert not norms[0].training
    assert norms[0].training


def test_norms_that_are_in_evaluation_mode_already_stay_there():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    network[1].eval()
    before = network[1].running_mean.clone()
    with frozen_batch_norm(network, torch.rand(3, 2, 1, 8, 8)):
        assert not network[1].training
    assert not network[1].training
    assert torch.equal(network[1].running_mean, before)

"""One step of ordinary training."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dcond.augment import DiffAug, cutmix
from dcond.training.steps import training_step


def rng(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch():
    return torch.randn(6, 1, 8, 8, generator=rng(1)), torch.tensor([0, 1, 2, 0, 1, 2])


def network() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng(2)) / 8)
    return net


def stepped(images, labels, **settings) -> tuple[nn.Module, torch.Tensor]:
    net = network()
    loss = training_step(
        net, torch.optim.SGD(net.parameters(), lr=0.5), images, labels, rng=rng(3), **settings
    )
    return net, loss


def test_a_step_is_one_of_sgd_on_cross_entropy(batch):
    images, labels = batch
    net, loss = stepped(images, labels)
    plain = network()
    expected = F.cross_entropy(plain(images), labels)
    expected.backward()
    assert loss == expected
    assert not loss.requires_grad
    for got, before in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got, before - 0.5 * before.grad)


def test_one_hot_soft_labels_are_hard_ones(batch):
    images, labels = batch
    hard, loss = stepped(images, labels)
    soft, same = stepped(images, F.one_hot(labels, 3).float())
    torch.testing.assert_close(loss, same)
    torch.testing.assert_close(hard[1].weight, soft[1].weight)


def test_every_image_is_augmented_on_its_own_and_the_callers_are_left_alone(batch):
    images, labels = batch
    before = images.clone()
    augment = DiffAug(["crop"])
    _, loss = stepped(images, labels, augment=augment)
    expected = F.cross_entropy(network()(augment.per_image(images, rng(3))), labels)
    assert loss == expected.detach()
    assert torch.equal(images, before)


@pytest.mark.parametrize("soft", [False, True])
def test_cutmix_weighs_the_labels_by_area(batch, soft):
    images, labels = batch
    given = F.one_hot(labels, 3).float() if soft else labels
    _, loss = stepped(images, given, cutmix_p=1.0)
    mix = cutmix.draw(images.shape, 1.0, rng(3))
    target = mix.weight * F.one_hot(labels, 3) + (1 - mix.weight) * F.one_hot(
        labels[mix.partner], 3
    )
    expected = F.cross_entropy(network()(cutmix.apply(images, mix)), target.float())
    torch.testing.assert_close(loss, expected.detach())
    assert 0 < mix.weight < 1  # something was mixed


def test_old_gradients_do_not_count(batch):
    images, labels = batch
    net = network()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    training_step(net, optimiser, images, labels, rng=rng(3))
    torch.testing.assert_close(net[1].weight, stepped(images, labels)[0][1].weight)


def test_the_global_generator_is_left_alone(batch):
    net = network()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    augment = DiffAug(["color", "crop", "cutout", "flip", "scale", "rotate"])
    before = torch.get_rng_state()
    training_step(net, optimiser, *batch, augment=augment, cutmix_p=0.5, rng=rng(3))
    assert torch.equal(torch.get_rng_state(), before)

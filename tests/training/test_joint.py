"""Networks that learn together: what is trained, what starts anew, and what is left alone."""

from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch

from dcond.models import MLP, ConvNet, Pool, ResNet, Timm, ViT
from dcond.rng import Streams
from dcond.training.joint import Learners

POOL = Pool(
    networks={
        "C": ConvNet(
            name="C", width=4, norm="none", lr=0.1
        ),  # under a norm a bias has no effect and does not move
        "V": ViT(name="V", depth=2, width=8, heads=2, lr=0.2),
        "M": MLP(name="M", hidden=(8, 8), lr=0.3),
    }
)


def make(real, seed=0, pool=POOL, **settings):
    rng = Streams(seed)
    settings = {"form": "mean", "axis": "source", "lr_alignment": 0.01} | settings
    return Learners(pool, real, rng, **settings), rng


def train(learners, real, rng, steps=2):
    learners.train(real, rng, steps=steps, batch=8, augment=None, cutmix_p=0.5, fast=nullcontext())


def values(modules):
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]


def used_in_the_forward(learners, real):
    """The parameters that logits or taps depend on, found by differentiation."""
    images, found = real.normalised(torch.arange(4)), []
    for network in learners.networks:
        logits, taps = network.forward_with_features(images)
        total = logits.sum() + sum(tap.semantic.sum() + tap.spatial.sum() for tap in taps)
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        found += [
            p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None
        ]
    return found


POOLS = {
    "plain": POOL,
    "resnet": Pool(
        networks={"C": POOL.networks["C"], "R": ResNet(name="R", blocks=(1, 1), width=4, lr=0.1)}
    ),
    "batch_norm": Pool(
        networks={"B": ConvNet(name="B", width=4, norm="batch", lr=0.1), "M": POOL.networks["M"]}
    ),
    "instance_norm": Pool(
        networks={"I": ConvNet(name="I", width=4, norm="instance", lr=0.1), "M": POOL.networks["M"]}
    ),
    "timm": Pool(
        networks={
            "C": POOL.networks["C"],
            "T": Timm(name="T", architecture="test_resnet", input_size=32, lr=0.1),
        }
    ),
}


def without_effect(network):
    """The parameters that a norm undoes: biases of convolutions in front of one, which do not move
    but by rounding.
    """
    modules = list(network.modules())
    norms = (torch.nn.GroupNorm, torch.nn.modules.batchnorm._BatchNorm)
    followed = [
        a for a, b in pairwise(modules) if isinstance(a, torch.nn.Conv2d) and isinstance(b, norms)
    ]
    return {id(one.bias) for one in followed}


@pytest.mark.parametrize("resets", [0, 1, 2])
@pytest.mark.parametrize("pool", POOLS)
def test_every_parameter_used_in_the_forward_is_in_its_optimiser_and_moves(pool, resets, toy):
    learners, rng = make(toy, pool=POOLS[pool])
    for _ in range(resets):
        train(learners, toy, rng)
        learners.renew(toy, rng)
    held = {id(p) for group in learners.optimiser.param_groups for p in group["params"]}
    used = used_in_the_forward(learners, toy)
    assert (
        {id(p) for p in used} == held == {id(p) for n in learners.networks for p in n.parameters()}
    )
    before = values(learners.networks)
    train(
        learners, toy, rng, steps=2
    )  # timm starts the last norm of a block at 0: what is before it moves after it
    moving = [id(p) for network in learners.networks for p in network.parameters()]
    still = {
        p
        for p, a, b in zip(moving, before, values(learners.networks), strict=True)
        if torch.equal(a, b)
    }
    assert still <= {one for network in learners.networks for one in without_effect(network)}


def test_weights_that_are_frozen_stay_as_they_are(toy):
    learners, rng = make(toy)
    frozen = learners.networks[0].stages[0].requires_grad_(False)
    learners._start(toy, rng)
    before = values([frozen]), values(learners.networks)
    train(learners, toy, rng)
    assert all(map(torch.equal, values([frozen]), before[0]))
    assert not all(map(torch.equal, values(learners.networks), before[1]))


def test_each_network_has_its_own_rate(toy):
    assert [group["lr"] for group in make(toy)[0].optimiser.param_groups] == [0.1, 0.2, 0.3]


def test_a_renewal_depends_on_the_seed_alone(toy):
    """Heads, maps and logits included, whatever was learned before."""
    one, rng_one = make(toy)
    other, rng_other = make(toy)
    train(one, toy, rng_one, steps=3)
    for learners, rng in ((one, rng_one), (other, rng_other)):
        rng.networks.manual_seed(7)
        learners.renew(toy, rng)
    for a, b in zip(*(values([*x.networks, x.alignment]) for x in (one, other)), strict=True):
        assert torch.equal(a, b)
    assert one.aligner.state_dict()["state"] == {}
    assert all(bool((logits == 0).all()) for logits in one.alignment.logits)


def test_networks_and_alignment_are_trained_apart(toy):
    """The alignment is in the networks' loss but moves by its own optimiser, on features without a
    graph.
    """
    learners, rng = make(toy)
    learners.aligner = None  # the joint pass only
    before = values([learners.alignment])
    train(learners, toy, rng)
    assert all(torch.equal(a, b) for a, b in zip(before, values([learners.alignment]), strict=True))
    assert all(p.grad is None for p in learners.alignment.parameters())
    learners, rng = make(toy)
    learners.optimiser.param_groups[0]["lr"] = learners.optimiser.param_groups[1]["lr"] = 0.0
    learners.optimiser.param_groups[2]["lr"] = 0.0
    networks, before = values(learners.networks), values([learners.alignment])
    train(learners, toy, rng, steps=1)
    assert all(torch.equal(a, b) for a, b in zip(networks, values(learners.networks), strict=True))
    assert not any(
        torch.equal(a, b) for a, b in zip(before, values([learners.alignment]), strict=True)
    )


def test_distillation_changes_what_the_networks_learn(toy):
    made = []
    for form in ("mean", "pairwise", "none"):
        learners, _ = make(toy, form=form)
        rng = Streams(1)
        train(learners, toy, rng)
        made.append(torch.cat([value.flatten() for value in values(learners.networks)]))
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize(
    ("pool", "form"), [(Pool(networks={"C": POOL.networks["C"]}), "mean"), (POOL, "none")]
)
def test_one_network_or_no_distillation_has_no_alignment(pool, form, toy):
    learners, rng = make(toy, pool=pool, form=form)
    train(learners, toy, rng)
    assert learners.alignment is learners.aligner is None
    assert learners.state_dict().keys() == {"networks", "optimiser"}


def test_the_public_codes_fault_trains_a_convnets_head_only_and_keeps_it(toy):
    learners, rng = make(toy, frozen_convnet=True)
    convnet = learners.networks[0]
    before = {name: p.detach().clone() for name, p in convnet.named_parameters()}
    train(learners, toy, rng)
    moved = {name for name, p in convnet.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"head.weight", "head.bias"}
    head = convnet.head.weight.detach().clone()
    learners.renew(toy, rng)
    assert torch.equal(convnet.head.weight, head)
    assert not torch.equal(convnet.stages[0][0].weight, before["stages.0.0.weight"])
    others = [p for network in learners.networks[1:] for p in network.parameters()]
    assert {id(p) for group in learners.optimiser.param_groups[1:] for p in group["params"]} == {
        id(p) for p in others
    }

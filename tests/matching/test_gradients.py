"""The class-gradient engine against the matching loss written down as it stands, in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dcond.matching.distances import DISTANCES
from dcond.matching.gradients import (
    _distance_and_gradient,
    _mean,
    class_gradient,
    frozen_batch_norm,
    match_class_gradients,
    match_levels,
    mean_gradient,
)
from dcond.models import MLP, ConvNet, LeNet, ResNet, ViT
from dcond.rng import generator
from dcond.types import ImageSpec

GOLDEN = Path(__file__).parents[1] / "golden"
SPEC = ImageSpec(1, 8, 8, 3, (0.5,), (0.25,))
RECIPES = [
    ConvNet(name="ConvNet", width=4),
    ConvNet(name="ConvNetBN", width=4, norm="batch"),
    MLP(name="MLP", hidden=(8,)),
    LeNet(name="LeNet"),
    ResNet(name="ResNet", blocks=(1, 1), width=4),
    ViT(name="ViT", depth=1, width=8, heads=2),
]
MATCHED = [  # an MLP has no convolution to compare
    pytest.param(recipe, name, id=f"{recipe.name}-{name}")
    for recipe in RECIPES
    for name in DISTANCES
    if not (isinstance(recipe, MLP) and name.startswith("conv_"))
]
by_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def images(count, seed):
    return torch.randn(3, count, 1, 8, 8, generator=generator(seed, "images"), dtype=torch.float64)


def written_down(network, real, synthetic, distance):
    """Σ_c D(∇ℓ(S_c), ∇ℓ(B_c)) and its image gradient, with one graph and PyTorch's own differentiation."""
    synthetic = synthetic.clone().requires_grad_(True)
    parameters = list(network.parameters())
    losses = []
    for c in range(3):
        target, ours = (
            torch.autograd.grad(F.cross_entropy(network(x), torch.full((len(x),), c)), parameters, create_graph=graph)
            for x, graph in ((real[c], False), (synthetic[c], True))
        )
        losses.append(distance(ours, [t.detach() for t in target]))
    (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), synthetic)
    return torch.stack(losses).detach(), gradient


@pytest.mark.parametrize(("recipe", "name"), MATCHED)
def test_loss_and_image_gradient_are_those_of_the_loss_as_written(recipe, name):
    network = recipe.build(SPEC, generator(0, "network")).double()
    real, synthetic = images(12, 1), images(2, 2)
    with frozen_batch_norm(network, real.flatten(0, 1)):
        wanted_losses, wanted = written_down(network, real, synthetic, DISTANCES[name])
        for chunk in (5, 100):
            losses, got = match_class_gradients(network, real, synthetic, DISTANCES[name], chunk=chunk)
            torch.testing.assert_close(losses, wanted_losses, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8 * float(wanted.abs().max()))


@by_recipe
def test_the_mean_of_class_gradients_is_the_gradient_of_the_balanced_batch(recipe):
    network = recipe.build(SPEC, generator(0, "network")).double()
    real = images(6, 3)
    with frozen_batch_norm(network, real.flatten(0, 1)):
        classes = [mean_gradient(network, real[c], c, 4) for c in range(3)]
        labels = torch.arange(3).repeat_interleave(6)
        mixed = torch.autograd.grad(F.cross_entropy(network(real.flatten(0, 1)), labels), list(network.parameters()))
    for parts, whole in zip(zip(*classes, strict=True), mixed, strict=True):
        torch.testing.assert_close(sum(parts) / 3, whole, rtol=1e-9, atol=1e-12)


def test_equal_sets_are_at_distance_zero():
    network = RECIPES[0].build(SPEC, generator(0, "network")).double()
    both = images(4, 4)
    losses, gradient = match_class_gradients(network, both, both, DISTANCES["squared"], chunk=2)
    assert float(losses.max()) < 1e-25
    assert float(gradient.abs().max()) < 1e-12


def test_real_gradients_carry_no_graph():
    network = RECIPES[0].build(SPEC, generator(0, "network")).double()
    real = images(4, 5)[0]
    assert not any(g.requires_grad for g in mean_gradient(network, real, 0, 2))
    assert all(g.requires_grad for g in class_gradient(network, real, 0, create_graph=True))


def test_batch_norm_is_frozen_for_the_block_only():
    network = RECIPES[1].build(SPEC, generator(0, "network")).double()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = norms[0].running_mean.clone()
    with frozen_batch_norm(network, images(4, 6).flatten(0, 1)):
        taken = norms[0].running_mean.clone()
        assert not torch.equal(taken, before)
        class_gradient(network, images(4, 7)[0], 0)
        assert torch.equal(norms[0].running_mean, taken)
        assert not norms[0].training
    assert norms[0].training


@by_recipe
@pytest.mark.parametrize("name", ["rowwise_cosine", "rowwise_angle_and_magnitude", "squared"])
def test_both_levels_are_those_of_the_loss_as_written(recipe, name):
    network = recipe.build(SPEC, generator(0, "network")).double()
    real, synthetic = images(12, 1), images(2, 2)
    distance, parameters = DISTANCES[name], list(network.parameters())

    def gradients(x, graph):
        return [
            torch.autograd.grad(
                F.cross_entropy(network(x[c]), torch.full((x.shape[1],), c)), parameters, create_graph=graph
            )
            for c in range(3)
        ]

    with frozen_batch_norm(network, real.flatten(0, 1)):
        leaf = synthetic.clone().requires_grad_(True)
        ours, targets = gradients(leaf, True), gradients(real, False)
        within = sum(distance(s, t) for s, t in zip(ours, targets, strict=True))
        across = distance(*([sum(g) / 3 for g in zip(*side, strict=True)] for side in (ours, targets)))
        (wanted,) = torch.autograd.grad(within + 3 * across, leaf)
        for chunk in (5, 100):
            got_within, got_across, got = match_levels(network, real, synthetic, distance, chunk=chunk)
            torch.testing.assert_close(got_within.sum(), within.detach(), rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(got_across, across.detach(), rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("theirs", "ours"), [("baseline", "rowwise_cosine"), ("improved", "rowwise_angle_and_magnitude")]
)
def test_the_multi_level_total_of_the_public_code(theirs, ours):
    golden = np.load(GOLDEN / "degm_distance.npz")
    count = len(golden["names"])

    def lists(side):
        return [[torch.tensor(golden[f"ml_{side}_c{c}_{i:02d}"]) for i in range(count)] for c in range(3)]

    syn, real = lists("syn"), lists("real")
    distance = DISTANCES[ours]
    across, v_mean = _distance_and_gradient(distance, _mean(syn), _mean(real))
    total = 3 * float(across)
    for c in range(3):
        within, v_class = _distance_and_gradient(distance, syn[c], real[c])
        total += float(within)
        for i in range(count):
            wanted = torch.tensor(golden[f"ml_grad_{theirs}_c{c}_{i:02d}"])
            torch.testing.assert_close(
                v_class[i] + v_mean[i], wanted, rtol=1e-9, atol=1e-9 * max(1e-3, float(wanted.abs().max()))
            )
    assert float(across) == pytest.approx(float(golden[f"ml_inter_{theirs}"]), rel=1e-9)
    assert total == pytest.approx(float(golden[f"ml_loss_{theirs}"]), rel=1e-9)


def test_one_class_counts_twice():
    network = RECIPES[0].build(SPEC, generator(0, "network")).double()
    real, synthetic = images(4, 1)[:1], images(2, 2)[:1]
    within, across, _ = match_levels(network, real, synthetic, DISTANCES["rowwise"], chunk=10)
    torch.testing.assert_close(within[0], across)

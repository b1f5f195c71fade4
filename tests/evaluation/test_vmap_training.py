"""Networks trained at once equal those trained one after another."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch

from dcond.augment import DiffAug
from dcond.evaluation import EvaluationProtocol, Teacher
from dcond.evaluation.full_data import hold_out
from dcond.evaluation.vmap_training import Stack, TrainingJob
from dcond.models import MLP, Recipe
from dcond.rng import generator
from dcond.settings import settings as checked
from dcond.training.steps import training_batch, training_batches
from helpers.stacks import NETWORKS, settings, train

FAMILIES = ["color", "crop", "cutout", "flip", "scale", "rotate"]
SCHEDULES = {  # 50 steps: 25 epochs of a batch of 4 and one of 2
    "sgd": {
        "lr": 0.02,
        "lr_milestones": (0.4, 0.8),
        "lr_gamma": 0.5,
        "reset_optimizer_at_drop": True,
        "augment": DiffAug(FAMILIES),
    },
    "adamw": {
        "lr": 0.002,
        "optimiser": "adamw",
        "lr_milestones": (0.5,),
        "augment": DiffAug(FAMILIES, "idc"),
    },
}


def check_equal(
    how: EvaluationProtocol,
    inner: Recipe,
    sets,
    toy,
    stacks,
    *,
    dtype=torch.float64,
    tolerance=1e-9,
    teacher=None,
):
    wanted, networks = train(replace(how, stack=False), inner, sets, toy, dtype, teacher=teacher)
    assert not stacks
    found, _ = train(replace(how, stack=True), inner, sets, toy, dtype, teacher=teacher)
    (stack,) = stacks
    for r, network in enumerate(networks):
        for name, value in network.named_parameters():
            ours = (stack.parameters | stack.frozen)[name][r]
            torch.testing.assert_close(ours, value, rtol=0, atol=tolerance)
        for name, value in network.named_buffers():
            torch.testing.assert_close(stack.buffers[name][r], value, rtol=0, atol=tolerance)
    assert (found.accuracies, found.best, found.searched) == (
        wanted.accuracies,
        wanted.best,
        wanted.searched,
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda recipe: recipe.name)
def test_stacked_networks_equal_those_trained_in_turn(network, schedule, sets, toy, stacks):
    """Separate sets, with milestones, augmentation and CutMix."""
    check_equal(settings(cutmix_p=0.5, **SCHEDULES[schedule]), network, sets, toy, stacks)


def test_stacked_networks_equal_those_trained_in_turn_in_float32(sets, toy, stacks):
    def single(repeat):
        return replace(sets(repeat), images=sets(repeat).images.float())

    how = settings(cutmix_p=0.5, **SCHEDULES["sgd"])
    check_equal(how, NETWORKS[0], single, toy, stacks, dtype=torch.float32, tolerance=1e-5)


def test_a_shared_set_with_soft_labels_and_best_over_epochs(sets, toy, stacks):
    soft = torch.rand(6, 3, generator=generator(0, "soft"), dtype=torch.float64).softmax(1)
    one = replace(sets(0), labels=soft, factor=2)
    how = settings(epochs=10, cutmix_p=0.5, best_every=3, weight_decay=0.01)
    check_equal(how, NETWORKS[4], lambda repeat: one, toy, stacks)
    assert len(stacks[0].images) == 1


def test_hard_labels_and_plain_images(sets, toy, stacks):
    check_equal(settings(), NETWORKS[0], sets, toy, stacks)


@pytest.fixture
def teacher(toy, tmp_path):
    """A teacher in float64, so that its labels of one batch and of several agree to 1e-12."""
    found = Teacher(network=NETWORKS[1], epochs=2, lr=0.1).load_or_train(toy, tmp_path)
    return replace(found, network=found.network.double())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_labels_by_a_teacher(schedule, sets, toy, stacks, teacher):
    """Packed sets, with augmentation and CutMix."""
    how = settings(
        cutmix_p=0.5, **SCHEDULES[schedule], teacher=Teacher(network=NETWORKS[1], epochs=2)
    )
    check_equal(
        how,
        NETWORKS[0],
        lambda repeat: replace(sets(repeat), factor=2),
        toy,
        stacks,
        teacher=teacher,
    )


def test_rates_searched_on_labels_by_a_teacher(sets, toy, stacks, teacher):
    recipe = Teacher(network=NETWORKS[1], epochs=2)
    how = settings(epochs=5, lr="search", search_rates=(0.001, 0.05), repeats=1, teacher=recipe)
    given = {"held_out": hold_out(how, toy), "teacher": teacher}
    wanted, _ = train(replace(how, stack=False), NETWORKS[1], sets, toy, **given)
    found, _ = train(replace(how, stack=True), NETWORKS[1], sets, toy, **given)
    assert len(stacks) == 1
    assert (found.searched, found.lr, found.accuracies) == (
        wanted.searched,
        wanted.lr,
        wanted.accuracies,
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_search_over_rates_is_one_stack(schedule, sets, toy, stacks):
    """A rate for each network, with milestones, all from the same weights."""
    rates = (0.0001, 0.01, 0.002)
    how = settings(**SCHEDULES[schedule] | {"lr": "search", "search_rates": rates}, repeats=1)
    held_out = hold_out(how, toy)
    wanted, networks = train(replace(how, stack=False), NETWORKS[0], sets, toy, held_out=held_out)
    found, _ = train(replace(how, stack=True), NETWORKS[0], sets, toy, held_out=held_out)
    (stack,) = stacks
    for r, network in enumerate(networks[:3]):
        for name, value in network.named_parameters():
            torch.testing.assert_close(stack.parameters[name][r], value, rtol=0, atol=1e-9)
    assert (found.searched, found.lr) == (wanted.searched, wanted.lr)
    assert list(found.searched) == sorted(rates)


def test_every_network_draws_from_its_own_stream():
    """Batches drawn alone and together leave the generators in the same state."""
    images, labels = (
        torch.rand(4, 5, 3, 8, 8, generator=generator(0, "x")),
        torch.arange(20).view(4, 5) % 3,
    )
    for mode in ("single", "idc"):
        alone, together = ([generator(r, mode) for r in range(4)] for _ in range(2))
        for _ in range(10):
            batch = training_batches(images, labels, DiffAug(FAMILIES, mode), 0.5, together)
            for r, rng in enumerate(alone):
                one = training_batch(images[r], labels[r], DiffAug(FAMILIES, mode), 0.5, rng)
                torch.testing.assert_close(batch.images[r], one.images)
                logits = torch.randn(5, 3, generator=generator(r, "logits"))
                mixed = () if batch.partners is None else (batch.partners[r], batch.weight[r])
                ours = type(batch)(batch.images[r], batch.labels[r], *mixed).cross_entropy(logits)
                torch.testing.assert_close(ours, one.cross_entropy(logits))
        assert all(
            torch.equal(a.get_state(), b.get_state()) for a, b in zip(alone, together, strict=True)
        )


def test_a_stack_is_freed_at_once(toy, chosen):
    job = TrainingJob(MLP(name="MLP", hidden=(6,)), chosen, 0, "stream", 0.01)
    gc.disable()
    try:
        stack = Stack([job, job], torch.device("cpu"))
        stack.epoch(torch.optim.SGD(stack.groups()), 4, None, 0.0)
        gone = weakref.ref(stack)
        del stack
        assert gone() is None
    finally:
        gc.enable()


@checked
class HalfFrozen(MLP):
    """An MLP whose first layer is not trained."""

    def module(self, spec):
        network = super().module(spec)
        network.stages[0].requires_grad_(False)
        return network


def test_weights_that_are_frozen_stay_as_they_are(toy, chosen, stacks):
    how = EvaluationProtocol(name="x", epochs=3, repeats=2, lr=0.05, lr_milestones=())
    check_equal(how, HalfFrozen(name="H", hidden=(6, 6)), lambda repeat: chosen, toy, stacks)
    (stack,) = stacks
    assert len(stack.frozen) == 2

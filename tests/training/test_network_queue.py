"""The queue: first in, first out; a member goes on as if it had been trained without a pause."""

import pytest
import torch
import torch.nn.functional as F

from dcond.models import ConvNet
from dcond.rng import generator
from dcond.training.network_queue import NetworkQueue
from dcond.types import ImageSpec

SPEC = ImageSpec(1, 8, 8, 3, (0.5,), (0.25,))
RECIPE = ConvNet(name="c", width=4, depth=1)


def optimiser_of(network):
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)


def queue(size=3, members=0):
    network = RECIPE.build(SPEC, generator(0, "first"))
    made = NetworkQueue(network, network, lambda: optimiser_of(network), size)
    rng = generator(0, "members")
    for _ in range(members):
        made.push(RECIPE, SPEC, rng)
    return made


def weights(made, index):
    made.load(index)
    return [x.detach().clone() for x in made.network.parameters()]


@pytest.fixture
def batches():
    rng = torch.Generator().manual_seed(0)
    return [(torch.randn(6, 1, 8, 8, generator=rng), torch.arange(3).repeat(2)) for _ in range(4)]


def test_the_oldest_leaves_first():
    every = queue(size=5, members=5)
    few = queue(size=3, members=5)
    assert (len(every), len(few)) == (5, 3)
    for index in range(3):
        for a, b in zip(weights(few, index), weights(every, index + 2), strict=True):
            assert torch.equal(a, b)


def test_a_member_that_takes_turns_is_trained_as_one_that_does_not(batches):
    alone, turns = queue(members=1), queue(members=2)
    todo, later = iter(batches), iter(batches)
    alone.train(0, 4, lambda: next(todo))
    for _ in range(2):
        turns.train(0, 2, lambda: next(later))
        turns.train(1, 1, lambda: batches[0])
    for a, b in zip(weights(alone, 0), weights(turns, 0), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("parts", [(4,), (1, 3)], ids=["one training", "two trainings"])
def test_training_is_plain_sgd_and_the_accuracy_that_of_its_own_batches(batches, parts):
    made, todo = queue(members=1), iter(batches)
    for steps in parts:
        made.train(0, steps, lambda: next(todo))
    plain = RECIPE.build(SPEC, generator(0, "first"))
    RECIPE.reset(plain, SPEC, generator(0, "members"))
    optimiser, correct = optimiser_of(plain), 0
    for images, labels in batches:
        logits = plain(images)
        correct += int((logits.argmax(1) == labels).sum())
        optimiser.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimiser.step()
    for a, b in zip(weights(made, 0), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach())
    assert made.load(0) == pytest.approx(correct / 24)


def test_a_forgotten_accuracy_is_zero_and_then_that_of_the_next_training(batches):
    made, other = queue(members=1), queue(members=1)
    for each in (made, other):
        each.train(0, 1, lambda: batches[0])
    made.forget_accuracies()
    assert made.load(0) == 0
    del other._members[0]["seen"]  # of a checkpoint from before accuracies were running ones
    for each in (made, other):
        each.train(0, 1, lambda: batches[0])  # again, so that some are right
    assert made.load(0) == other.load(0) > 0


def test_a_restored_queue_goes_on_alike(batches):
    made, other = queue(members=2), queue(members=0)
    made.train(1, 1, lambda: batches[0])
    other.load_state_dict(made.state_dict())
    for each in (made, other):
        each.train(1, 1, lambda: batches[1])
    assert len(other) == 2
    assert made.load(1) == other.load(1)
    for a, b in zip(weights(made, 1), weights(other, 1), strict=True):
        assert torch.equal(a, b)


def test_training_leaves_the_modules_mode_and_no_gradient():
    made = queue(members=1)
    made.network.eval()
    made.train(0, 1, lambda: (torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])))
    assert not made.network.training
    assert not any(p.requires_grad for p in made.network.parameters())

"""The evaluation protocol: training, seeds, settings, and independence of the test set."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F

from dcond.augment import cutmix
from dcond.errors import ConfigError, DataError
from dcond.evaluation import EvaluationProtocol
from dcond.evaluation.protocol import check_fits
from dcond.models import MLP, ConvNet, Pool
from dcond.rng import generator
from dcond.training.steps import training_step
from dcond.types import RealData, Split, SyntheticSet
from helpers.watched import evaluate, quick, same, watched


def test_the_accuracy_is_that_of_the_last_epoch(toy, chosen):
    """Reference: the documented stream, a new order per epoch, one test at the end."""
    recipe = MLP(name="MLP", hidden=(12,), lr=0.05)
    protocol = quick(epochs=7, batch=4, repeats=1, momentum=0.5, weight_decay=0.01)
    got = evaluate(protocol, chosen, toy, recipe, seed=3).networks["MLP"]

    rng = generator(3, "evaluation/MLP/0")
    network = recipe.build(toy.spec, rng)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.5, weight_decay=0.01)
    images, labels = chosen.dataset().tensors
    for _ in range(7):
        order = torch.randperm(6, generator=rng)
        for rows in (order[:4], order[4:]):
            training_step(network, optimiser, images[rows], labels[rows], rng=rng)
    logits = network(toy.spec.normalise(toy.test.images / 255))
    assert got.accuracies == ((logits.argmax(1) == toy.test.labels).float().mean().item(),)
    assert (got.lr, got.epochs) == (0.05, 7)
    assert got.wall_s > 0


def test_training_reaches_high_accuracy(toy, chosen):
    found = evaluate(quick(epochs=60), chosen, toy, ConvNet(name="ConvNet", width=16), watched())
    assert found.average > 0.9
    assert found.wall_s == sum(network.wall_s for network in found.networks.values())


def test_every_repeat_uses_its_own_set(toy, chosen):
    asked = []

    def sets(repeat):
        asked.append(repeat)
        return chosen

    notes = []
    pool = Pool(networks={"one": watched("one"), "two": watched("two")})
    quick(epochs=1, repeats=3).evaluate(sets, pool, toy.test, 0, progress=notes.append)
    assert asked == [0, 1, 2, 0, 1, 2]
    assert notes == ["one 1/3", "one 2/3", "one 3/3", "two 1/3", "two 2/3", "two 3/3"]


def test_test_labels_change_only_the_accuracy(toy, chosen):
    recipes, found = [watched(), watched()], []
    wrong = Split(toy.test.images, (toy.test.labels + 1) % 3)
    for recipe, test in zip(recipes, (toy.test, wrong), strict=True):
        found.append(evaluate(quick(epochs=60), chosen, toy, recipe, test=test))
    assert found[0].average > 0.9
    assert found[1].average < 0.1
    for (one, _), (other, _) in zip(recipes[0].built, recipes[1].built, strict=True):
        assert same(one.state_dict(), other.state_dict())


def test_a_set_under_optimisation_is_unchanged(toy, chosen):
    images = chosen.images.clone()
    chosen.images.requires_grad_()
    evaluate(quick(epochs=2), chosen, toy, watched())
    assert chosen.images.grad is None
    assert torch.equal(chosen.images.detach(), images)


def test_one_hot_labels_give_the_same_networks_as_hard_labels(toy, chosen):
    soft = replace(chosen, labels=F.one_hot(chosen.labels, 3).float())
    for settings in ({}, {"cutmix_p": 1.0}):
        hard, same_ones = (
            evaluate(quick(epochs=30, **settings), synthetic, toy, watched())
            for synthetic in (chosen, soft)
        )
        assert hard.networks["MLP"].accuracies == same_ones.networks["MLP"].accuracies


def test_a_decoded_set_is_trained_on_decoded(toy, chosen):
    seen = []

    @dataclass(frozen=True, kw_only=True)
    class Counting(EvaluationProtocol):
        def epoch(self, network, optimiser, images, labels, rng, soft):
            seen.append((images(torch.arange(len(labels))), labels))

    packed = replace(chosen, factor=2)
    evaluate(Counting(name="x", epochs=1, repeats=1), packed, toy, watched())
    images, labels = packed.dataset().tensors
    assert torch.equal(seen[0][0], images)
    assert torch.equal(seen[0][1], labels)


@pytest.mark.parametrize("stack", [False, True])
def test_networks_can_disable_cutmix(stack, toy, chosen, monkeypatch):
    chances, draw = [], cutmix.draw
    monkeypatch.setattr(
        cutmix, "draw", lambda shape, p, rng: chances.append(p) or draw(shape, p, rng)
    )
    recipes = (replace(watched("Without"), cutmix=False), watched("With"))
    for recipe, wanted in zip(recipes, (0.0, 1.0), strict=True):
        evaluate(quick(cutmix_p=1.0, stack=stack), chosen, toy, recipe)
        assert set(chances) == {wanted}
        chances.clear()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"epochs": 0},
            "EvaluationProtocol.epochs=0 is out of range; allowed: whole numbers from 1.",
        ),
        (
            {"repeats": 0},
            "EvaluationProtocol.repeats=0 is out of range; allowed: whole numbers from 1.",
        ),
        ({"batch": 1.5}, "EvaluationProtocol.batch=1.5 must be a whole number."),
        (
            {"test_batch": 0},
            "EvaluationProtocol.test_batch=0 is out of range; allowed: whole numbers from 1.",
        ),
        (
            {"optimiser": "adam"},
            "EvaluationProtocol.optimiser='adam' is unknown; allowed: sgd, adamw. Did you mean 'adamw'?",
        ),
        (
            {"cutmix_p": 1.1},
            "EvaluationProtocol.cutmix_p=1.1 is out of range; allowed: numbers from 0, up to 1.",
        ),
        (
            {"momentum": -1.0},
            "EvaluationProtocol.momentum=-1.0 is out of range; allowed: numbers from 0, below 1.",
        ),
        (
            {"momentum": 1},
            "EvaluationProtocol.momentum=1 is out of range; allowed: numbers from 0, below 1.",
        ),
        (
            {"weight_decay": -1.0},
            "EvaluationProtocol.weight_decay=-1.0 is out of range; allowed: numbers from 0.",
        ),
        (
            {"weight_decay": float("nan")},
            "EvaluationProtocol.weight_decay=nan is out of range; allowed: numbers from 0.",
        ),
        (
            {"lr_gamma": -1.0},
            "EvaluationProtocol.lr_gamma=-1.0 is out of range; allowed: numbers above 0, up to 1.",
        ),
        (
            {"lr_gamma": 1.5},
            "EvaluationProtocol.lr_gamma=1.5 is out of range; allowed: numbers above 0, up to 1.",
        ),
        (
            {"lr": float("inf")},
            "EvaluationProtocol.lr=inf is out of range; allowed: numbers above 0, search, learned, null.",
        ),
        (
            {"search_rates": (float("inf"),)},
            "evaluation.search_rates=[inf] must be a list of one or more numbers above 0.",
        ),
        (
            {"lr": 0.0},
            "EvaluationProtocol.lr=0.0 is out of range; allowed: numbers above 0, search, learned, null.",
        ),
        (
            {"lr_milestones": (0.5, 1.0)},
            "EvaluationProtocol.lr_milestones=[0.5, 1.0] is out of range; allowed: fractions of the epochs above 0, below 1.",
        ),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ConfigError) as error:
        quick(**settings)
    assert str(error.value) == message


# --- sets that do not fit


@pytest.mark.parametrize(
    ("shape", "names", "difference"),
    [
        ((6, 3, 8, 8), 3, "channels=3, data set 'toy' has 1"),
        ((6, 1, 9, 8), 3, "height=9, data set 'toy' has 8"),
        ((6, 1, 8, 7), 3, "width=7, data set 'toy' has 8"),
        ((6, 1, 8, 8), 2, "classes=2, data set 'toy' has 3"),
    ],
)
def test_a_set_with_other_image_size_or_classes_is_refused(shape, names, difference, toy):
    labels = torch.arange(names).repeat_interleave(6 // names)
    stats = (0.5,) * shape[1]
    synthetic = SyntheticSet(
        torch.rand(shape), labels, tuple("abc"[:names]), 6 // names, stats, stats
    )
    with pytest.raises(DataError) as error:
        check_fits(synthetic, toy)
    assert str(error.value) == (
        f"the synthetic set has {difference}; evaluate it on the data set it "
        "was made from (dataset=NAME), "
        "with the same options (dataset.size and the like)."
    )


def test_a_matching_set_is_accepted(chosen, toy):
    check_fits(chosen, toy)


def test_the_object_of_result_json(toy, chosen):
    found = evaluate(quick(epochs=1), chosen, toy, watched("one"), watched("two")).as_dict()
    assert found.keys() == {"protocol", "networks", "average", "teacher"}
    assert (found["protocol"], found["teacher"]) == ("quick", None)
    assert list(found["networks"]) == ["one", "two"]
    for network in found["networks"].values():
        assert network.keys() == {
            *("accuracies", "mean", "std", "ci95", "lr", "epochs", "wall_s"),
            *("lr_search", "best_over_epochs_on_test"),
        }
        assert all(0 <= value <= 1 for value in network["accuracies"])
    json.dumps(found, allow_nan=False)


def test_real_data_is_not_needed_beyond_the_test_split(toy, chosen):
    empty = Split(toy.train.images[:0], toy.train.labels[:0])
    bare = RealData("bare", empty, toy.test, toy.class_names, toy.mean, toy.std)
    assert evaluate(quick(epochs=1), chosen, bare, watched()).protocol == "quick"

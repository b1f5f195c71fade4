"""Learning rates searched on held-out training data; best over epochs on the test set."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F

from dcond.errors import ConfigError, DataError
from dcond.evaluation import EvaluationProtocol
from dcond.evaluation.full_data import (
    HELD_OUT_MAX,
    HeldOut,
    full_training_set,
    held_out_rows,
    hold_out,
)
from dcond.models import MLP, Pool
from dcond.rng import generator
from dcond.training.steps import training_step
from dcond.types import RealData, Split

RATES = (0.0001, 0.05, 1000.0)


def searching(**settings) -> EvaluationProtocol:
    given = {
        "name": "quick",
        "epochs": 30,
        "repeats": 2,
        "lr_milestones": (),
        "lr": "search",
        "search_rates": RATES,
    } | settings
    return EvaluationProtocol(**given)


@pytest.fixture
def pool() -> Pool:
    return Pool(networks={name: MLP(name=name, hidden=(12,), lr=0.02) for name in ("one", "two")})


def test_the_rate_is_the_one_that_did_best_on_the_held_out_images(toy, chosen, pool):
    """Reference: one training per rate from the same weights, tested on the held-out images."""
    protocol = searching()
    found = protocol.evaluate(lambda r: chosen, pool, toy.test, 0, held_out=hold_out(protocol, toy))
    split, _ = held_out_rows(toy)
    for name, result in found.networks.items():
        assert list(result.searched) == list(RATES)
        for rate, accuracy in result.searched.items():
            rng = generator(0, f"evaluation/{name}/search")
            network = pool.networks[name].build(toy.spec, rng)
            optimiser = torch.optim.SGD(
                network.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4
            )
            images, labels = chosen.dataset().tensors
            for _ in range(30):
                rows = torch.randperm(6, generator=rng)
                training_step(network, optimiser, images[rows], labels[rows], rng=rng)
            logits = network(toy.spec.normalise(split.images / 255))
            right = (logits.argmax(1) == split.labels) & logits.isfinite().all(1)
            assert accuracy == pytest.approx(right.float().mean().item())
        assert result.lr == 0.05
        assert result.searched[0.05] == max(result.searched.values())
    given = replace(protocol, lr=0.05).evaluate(lambda r: chosen, pool, toy.test, 0)
    for name in pool.networks:
        assert (
            found.networks[name].accuracies == given.networks[name].accuracies
        )  # the search itself changes nothing


def test_the_test_labels_change_no_choice(toy, chosen, pool):
    wrong = Split(toy.test.images, (toy.test.labels + 1) % 3)
    protocol = searching()
    right, other = (
        protocol.evaluate(lambda r: chosen, pool, test, 0, held_out=hold_out(protocol, toy))
        for test in (toy.test, wrong)
    )
    for name in pool.networks:
        assert right.networks[name].searched == other.networks[name].searched
        assert right.networks[name].lr == other.networks[name].lr
    assert right.average > 0.8 > 0.2 > other.average


def test_every_set_is_searched_separately(toy, chosen, pool):
    """Low-contrast images need a large rate; on high-contrast ones a large rate diverges."""
    protocol = searching(search_rates=(0.001, 100.0))
    flat = replace(chosen, images=chosen.images * 0 + 0.5)
    picks = [
        protocol.evaluate(
            lambda r, each=each: each, pool, toy.test, 0, held_out=hold_out(protocol, toy)
        ).networks["one"]
        for each in (chosen, flat)
    ]
    assert picks[0].searched != picks[1].searched


def test_the_smallest_rate_wins_a_tie(toy, chosen, pool):
    protocol = searching(search_rates=(0.1, 0.05), epochs=60)
    result = protocol.evaluate(
        lambda r: chosen, pool, toy.test, 0, held_out=hold_out(protocol, toy)
    ).networks["one"]
    assert result.searched[0.05] == result.searched[0.1]
    assert result.lr == 0.05


def test_searching_needs_held_out_images(toy, chosen, pool):
    with pytest.raises(
        ConfigError,
        match=r"^evaluation\.lr=search needs held-out training data; pass a rate or null\.$",
    ):
        searching().evaluate(lambda r: chosen, pool, toy.test, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"lr": "serch"},
            "EvaluationProtocol.lr='serch' is unknown; allowed: numbers above 0, search, learned, null. "
            "Did you mean 'search'?",
        ),
        (
            {"search_rates": ()},
            "evaluation.search_rates=[] must be a list of one or more numbers above 0.",
        ),
        (
            {"search_rates": (0.1, 0.0)},
            "evaluation.search_rates=[0.1, 0.0] must be a list of one or more numbers above 0.",
        ),
        (
            {"best_every": -1},
            "EvaluationProtocol.best_every=-1 is out of range; allowed: whole numbers from 0.",
        ),
    ],
)
def test_invalid_search_settings_are_refused(settings, message):
    with pytest.raises(ConfigError) as error:
        searching(**settings)
    assert str(error.value) == message


# --- what is held out


def test_a_tenth_of_every_class_the_same_in_every_run(toy):
    split, rest_rows = held_out_rows(toy)
    assert torch.bincount(split.labels).tolist() == [4, 3, 5]
    assert len(rest_rows) == 108
    again, _ = held_out_rows(toy)
    assert torch.equal(split.images, again.images)
    rest = full_training_set(toy, rest_rows)
    held = {image.numpy().tobytes() for image in split.images}
    assert not held & {image.numpy().tobytes() for image in (rest.images * 255).round().byte()}


def test_at_most_five_thousand():
    labels = torch.arange(3).repeat_interleave(20_000)
    big = Split(torch.zeros(60_000, 1, 1, 1, dtype=torch.uint8), labels)
    split, rest_rows = held_out_rows(RealData("big", big, big, ("a", "b", "c"), (0.0,), (1.0,)))
    assert len(split) == HELD_OUT_MAX == 5000
    assert len(rest_rows) == 55_000


def test_the_full_set_excludes_the_held_out_images_during_the_search(toy, chosen, pool):
    asked = []

    @dataclass(frozen=True, kw_only=True)
    class Counting(EvaluationProtocol):
        def epoch(self, network, optimiser, images, labels, rng, soft):
            asked.append(len(labels))

    protocol = Counting(name="x", epochs=1, repeats=1, lr="search", search_rates=(0.1,))
    held_out = hold_out(protocol, toy, full_data=True)
    assert isinstance(held_out, HeldOut)
    whole = full_training_set(toy)
    protocol.evaluate(
        lambda r: whole,
        Pool(networks={"one": pool.networks["one"]}),
        toy.test,
        0,
        held_out=held_out,
    )
    assert asked == [108, 120]
    assert hold_out(replace(protocol, lr=None), toy) is None


# --- the best of several looks


def test_best_over_epochs_changes_no_other_number(toy, chosen, pool):
    settings = {"lr": 0.05, "epochs": 7, "batch": 4, "lr_milestones": (0.5,)}
    never, some, every = (
        searching(**settings, best_every=n).evaluate(lambda r: chosen, pool, toy.test, 0)
        for n in (0, 3, 1)
    )
    for name in pool.networks:
        plain, few, all_epochs = (found.networks[name] for found in (never, some, every))
        assert plain.accuracies == few.accuracies == all_epochs.accuracies
        assert plain.best is None
        for last, best_of_some, best_of_all in zip(
            plain.accuracies, few.best, all_epochs.best, strict=True
        ):
            assert last <= best_of_some <= best_of_all
        entry = all_epochs.as_dict()
        assert entry["best_over_epochs_on_test"] == list(all_epochs.best)
        assert entry["mean"] == plain.mean


def test_the_best_is_that_of_the_epochs(toy, chosen, pool):
    """Tested after epoch 2 of 3 and at the end: the larger accuracy."""
    short, whole = (
        searching(
            lr=0.05, epochs=epochs, lr_milestones=(), best_every=0 if epochs == 2 else 2
        ).evaluate(lambda r: chosen, pool, toy.test, 0)
        for epochs in (2, 3)
    )
    for name in pool.networks:
        pairs = zip(short.networks[name].accuracies, whole.networks[name].accuracies, strict=True)
        assert whole.networks[name].best == tuple(map(max, pairs))


# --- soft labels


def test_soft_labels_train_by_soft_cross_entropy(toy, chosen):
    """One step on -Σ y log p, computed directly."""
    soft = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    images = chosen.dataset().tensors[0]
    recipe = MLP(name="one", hidden=(12,), lr=0.1)
    networks = [recipe.build(toy.spec, generator(0, "x")) for _ in range(2)]
    optimiser = torch.optim.SGD(networks[0].parameters(), lr=0.1)
    loss = training_step(networks[0], optimiser, images, soft, rng=generator(0, "y"))
    wanted = -(soft * F.log_softmax(networks[1](images), 1)).sum(1).mean()
    assert torch.allclose(loss, wanted)
    wanted.backward()
    for ours, theirs in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.allclose(ours, theirs - 0.1 * theirs.grad, atol=1e-6)


@pytest.mark.parametrize("counts", [(1,) * 30, (2, 2)])
def test_too_few_images_to_hold_out_are_refused(counts, toy):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    few = replace(toy, train=Split(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), labels))
    with pytest.raises(
        DataError,
        match=rf"toy has {len(labels)} training images, too few to hold out a tenth",
    ):
        held_out_rows(few)


def test_a_diverging_rate_is_never_chosen(toy, chosen, pool):
    """All held-out images are of class 0, which argmax of NaN logits would predict."""
    few = toy.test.labels == 0
    split = Split(toy.test.images[few], toy.test.labels[few])
    protocol = searching(epochs=20, search_rates=(0.0001, 1e30))
    found = protocol.evaluate(lambda r: chosen, pool, toy.test, 0, held_out=HeldOut(split))
    for result in found.networks.values():
        assert result.searched[1e30] == 0
        assert result.lr == 0.0001

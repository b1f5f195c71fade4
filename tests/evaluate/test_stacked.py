"""Networks trained at once are those trained in turn: the same streams, the same weights, the same choices."""

import logging
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from dcond.augment import DiffAug
from dcond.errors import ConfigError
from dcond.evaluate import Protocol, Teacher, protocol, stacked
from dcond.evaluate.full import hold_out
from dcond.models import MLP, ConvNet, Pool, Recipe, ResNet, ViT
from dcond.rng import generator
from dcond.training import training_batch, training_batches
from dcond.types import SyntheticSet

FAMILIES = ["color", "crop", "cutout", "flip", "scale", "rotate"]
NETWORKS = [
    ConvNet(name="ConvNet", width=8, depth=2),
    MLP(name="MLP", hidden=(12,)),
    ResNet(name="ResNet", blocks=(1, 1), width=4),
    ViT(name="ViT", depth=2, width=12),
    ConvNet(name="ConvNet-BN", width=8, depth=2, norm="batch"),
]
SCHEDULES = {  # 50 steps: 25 epochs of a batch of 4 and one of 2
    "sgd": {"lr": 0.02, "drops": (0.4, 0.8), "drop": 0.5, "forget_at_drop": True, "augment": DiffAug(FAMILIES)},
    "adamw": {"lr": 0.002, "optimiser": "adamw", "drops": (0.5,), "augment": DiffAug(FAMILIES, "idc")},
}


class Cast(nn.Module):
    """Computes in the precision of its weights, whatever the test images come in."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.to(next(self.parameters()).dtype))


@dataclass(frozen=True, kw_only=True)
class Kept(Recipe):
    """Another recipe's networks in float64 or float32, kept for a look at their weights."""

    inner: Recipe
    dtype: torch.dtype = torch.float64
    built: list = field(default_factory=list, compare=False, repr=False)

    def module(self, spec):
        return Cast(self.inner.module(spec))

    def build(self, spec, rng, device="cpu"):
        self.built.append(super().build(spec, rng, device).to(self.dtype))
        return self.built[-1]


@pytest.fixture
def stacks(monkeypatch) -> list:
    """Every stack that is made."""
    made = []

    class Noted(stacked.Stack):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(protocol, "Stack", Noted)
    return made


@pytest.fixture
def sets(toy):
    """A set for every repeat, in float64."""

    def one(repeat: int) -> SyntheticSet:
        rows = torch.cat([rows[2 * repeat : 2 * repeat + 2] for rows in toy.class_rows])
        images = toy.pixels(rows).double()
        return SyntheticSet(images, toy.train.labels[rows], toy.class_names, 2, toy.mean, toy.std)

    return one


def settings(**given) -> Protocol:
    return Protocol(**({"name": "x", "epochs": 25, "batch": 4, "repeats": 3, "drops": (), "lr": 0.02} | given))


def train(how: Protocol, inner: Recipe, sets, toy, dtype=torch.float64, held_out=None, taught=None):
    """Return what was found and the networks that were built on the way."""
    recipe = Kept(name=inner.name, inner=inner, dtype=dtype)
    found = how.evaluate(sets, Pool(networks={inner.name: recipe}), toy.test, 0, held_out=held_out, taught=taught)
    return found.networks[inner.name], recipe.built


def check_equal(how: Protocol, inner: Recipe, sets, toy, stacks, *, dtype=torch.float64, tolerance=1e-9, taught=None):
    wanted, networks = train(replace(how, stack=False), inner, sets, toy, dtype, taught=taught)
    assert not stacks
    found, _ = train(replace(how, stack=True), inner, sets, toy, dtype, taught=taught)
    (stack,) = stacks
    for r, network in enumerate(networks):
        for name, value in network.named_parameters():
            torch.testing.assert_close(stack.parameters[name][r], value, rtol=0, atol=tolerance)
        for name, value in network.named_buffers():
            torch.testing.assert_close(stack.buffers[name][r], value, rtol=0, atol=tolerance)
    assert (found.accuracies, found.best, found.searched) == (wanted.accuracies, wanted.best, wanted.searched)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda recipe: recipe.name)
def test_the_networks_are_those_of_one_after_another(network, schedule, sets, toy, stacks):
    """On a set each, with drops, augmentation and CutMix."""
    check_equal(settings(cutmix_p=0.5, **SCHEDULES[schedule]), network, sets, toy, stacks)


def test_so_they_are_in_float32(sets, toy, stacks):
    def single(repeat):
        return replace(sets(repeat), images=sets(repeat).images.float())

    how = settings(cutmix_p=0.5, **SCHEDULES["sgd"])
    check_equal(how, NETWORKS[0], single, toy, stacks, dtype=torch.float32, tolerance=1e-5)


def test_one_set_for_all_with_soft_labels_and_looks_at_the_test_set(sets, toy, stacks):
    soft = torch.rand(6, 3, generator=generator(0, "soft"), dtype=torch.float64).softmax(1)
    one = replace(sets(0), labels=soft, factor=2)
    how = settings(epochs=10, cutmix_p=0.5, best_every=3, weight_decay=0.01)
    check_equal(how, NETWORKS[4], lambda repeat: one, toy, stacks)
    assert len(stacks[0].images) == 1


def test_hard_labels_and_plain_images(sets, toy, stacks):
    check_equal(settings(), NETWORKS[0], sets, toy, stacks)


@pytest.fixture
def taught(toy, tmp_path):
    """A teacher in float64, so that what it says of one batch and of several together is the same but for 1e-12."""
    found = Teacher(network=NETWORKS[1], epochs=2, lr=0.1).learnt(toy, tmp_path)
    return replace(found, network=found.network.double())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_labels_by_a_teacher(schedule, sets, toy, stacks, taught):
    """On packed sets, with augmentation and CutMix."""
    how = settings(cutmix_p=0.5, **SCHEDULES[schedule], teacher=Teacher(network=NETWORKS[1], epochs=2))
    check_equal(how, NETWORKS[0], lambda repeat: replace(sets(repeat), factor=2), toy, stacks, taught=taught)


def test_rates_searched_on_labels_by_a_teacher(sets, toy, stacks, taught):
    teacher = Teacher(network=NETWORKS[1], epochs=2)
    how = settings(epochs=5, lr="search", search_rates=(0.001, 0.05), repeats=1, teacher=teacher)
    given = {"held_out": hold_out(how, toy), "taught": taught}
    wanted, _ = train(replace(how, stack=False), NETWORKS[1], sets, toy, **given)
    found, _ = train(replace(how, stack=True), NETWORKS[1], sets, toy, **given)
    assert len(stacks) == 1
    assert (found.searched, found.lr, found.accuracies) == (wanted.searched, wanted.lr, wanted.accuracies)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_search_over_rates_is_one_stack(schedule, sets, toy, stacks):
    """A rate for each network through the drops, all from one start."""
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
    """Batches, one by one and together: what is drawn leaves the generators in the same state."""
    images, labels = torch.rand(4, 5, 3, 8, 8, generator=generator(0, "x")), torch.arange(20).view(4, 5) % 3
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
        assert all(torch.equal(a.get_state(), b.get_state()) for a, b in zip(alone, together, strict=True))


# --- which way is taken -------------------------------------------------------------------------------------------


def test_on_a_cpu_auto_trains_in_turn(sets, toy, stacks):
    train(settings(epochs=1), NETWORKS[1], sets, toy)
    assert not stacks


def test_sets_of_unlike_sizes_are_trained_on_in_turn(sets, toy, stacks):
    def uneven(repeat):
        one = sets(repeat)
        return replace(one, images=one.images[: 6 - repeat], labels=one.labels[: 6 - repeat])

    found, _ = train(settings(epochs=1, stack=True), NETWORKS[1], uneven, toy)
    assert len(found.accuracies) == 3
    assert not stacks


class Dropping(Recipe):
    """An MLP with dropout before it."""

    def module(self, spec):
        return nn.Sequential(nn.Dropout(0.5), MLP(name="inner", hidden=(12,)).module(spec))


def test_a_network_that_cannot_be_stacked_is_trained_in_turn_and_says_so(sets, toy, stacks, caplog):
    found, built = train(settings(epochs=1, stack=True), Dropping(name="dropout"), sets, toy)
    assert len(found.accuracies) == 3
    assert len(stacks) == 1
    assert len(built) == 6  # three for the stack, then one after another
    (note,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert note.getMessage().startswith("these networks cannot be stacked, so they are trained in turn: vmap")


def trainings(sets, count: int, recipe: Recipe = NETWORKS[1]) -> list[stacked.Training]:
    return [stacked.Training(recipe, sets(r), 0, f"stream/{r}", 0.1) for r in range(count)]


def test_what_does_not_fit_in_memory_is_begun_anew_in_smaller_stacks(sets, caplog):
    tried = []

    def training(group):
        tried.append([one.stream[-1] for one in group])
        if len(group) > 2:
            raise torch.OutOfMemoryError
        return [(float(one.stream[-1]), 1.0) for one in group]

    found = list(stacked.in_stacks(trainings(sets, 5), 5, training))
    assert found == [(float(r), 1.0) for r in range(5)]
    assert tried == [list("01234"), list("012"), list("01"), list("23"), ["4"]]
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "5 networks at once do not fit in the device's memory; going on with 3"


def test_one_network_that_fails_alone_fails(sets):
    def training(group):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        list(stacked.in_stacks(trainings(sets, 2), 2, training))


def test_elsewhere_it_is_measured_once_per_architecture(sets, monkeypatch):
    """On a stand-in for another device: what is measured is a step's worth of images, in both ways."""
    monkeypatch.setattr(stacked, "_measured", {})
    tried = []

    def briefly(group):
        tried.append(len(group))
        assert all(len(one.synthetic.images) == 4 for one in group)
        if len(group) > 3:
            raise torch.OutOfMemoryError

    def choose(count, recipe):
        return stacked.how_many("auto", trainings(sets, count, recipe), torch.device("meta"), 4, briefly)

    first = choose(5, NETWORKS[1])
    assert first in (1, 3)
    assert tried == [5] + [3, 2] * 2 + [1] * 10
    assert choose(5, NETWORKS[1]) == first
    assert len(tried) == 15
    choose(5, NETWORKS[0])
    assert len(tried) == 30


def test_a_network_that_cannot_be_stacked_is_found_out_by_measuring(sets, monkeypatch):
    monkeypatch.setattr(stacked, "_measured", {})

    def briefly(group):
        raise RuntimeError("vmap: not this one")

    assert stacked.how_many("auto", trainings(sets, 3), torch.device("meta"), 4, briefly) == 1


def test_what_measures_leaves_the_results_alone(sets, toy, stacks, monkeypatch):
    """Whatever is measured trains networks of its own; the real ones begin after it."""
    monkeypatch.setattr(stacked, "_measured", {})
    how = settings(epochs=3)
    wanted, _ = train(replace(how, stack=False), NETWORKS[1], sets, toy)
    choose = stacked.how_many
    elsewhere = torch.device("meta")
    monkeypatch.setattr(protocol, "how_many", lambda stack, all_of, _, *rest: choose(stack, all_of, elsewhere, *rest))
    found, _ = train(how, NETWORKS[1], sets, toy)
    assert stacks
    assert found.accuracies == wanted.accuracies


def test_a_word_that_is_no_way_is_refused():
    with pytest.raises(ConfigError) as error:
        settings(stack="always")
    assert str(error.value) == "evaluation.stack='always' is unknown; allowed: auto, true, false."

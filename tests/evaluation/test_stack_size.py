"""The number of networks that are trained at once, and the fallback to one after another."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from dcond.errors import ConfigError
from dcond.evaluation import protocol
from dcond.evaluation import vmap_training as stacked
from dcond.models import MLP, Recipe
from helpers.stacks import NETWORKS, settings, train


def test_on_a_cpu_auto_trains_in_turn(sets, toy, stacks):
    train(settings(epochs=1), NETWORKS[1], sets, toy)
    assert not stacks


def test_sets_of_different_sizes_are_trained_in_turn(sets, toy, stacks):
    def uneven(repeat):
        one = sets(repeat)
        return replace(one, images=one.images[: 6 - repeat], labels=one.labels[: 6 - repeat])

    found, _ = train(settings(epochs=1, stack=True), NETWORKS[1], uneven, toy)
    assert len(found.accuracies) == 3
    assert not stacks


class Dropping(Recipe):
    """An MLP with dropout in front."""

    def module(self, spec):
        return nn.Sequential(nn.Dropout(0.5), MLP(name="inner", hidden=(12,)).module(spec))


def test_a_network_that_cannot_be_stacked_is_trained_in_turn_with_a_warning(
    sets, toy, stacks, caplog
):
    found, built = train(settings(epochs=1, stack=True), Dropping(name="dropout"), sets, toy)
    assert len(found.accuracies) == 3
    assert len(stacks) == 1
    assert len(built) == 6  # three for the stack, then one after another
    (note,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert note.getMessage().startswith(
        "these networks cannot be stacked, training one after another: vmap"
    )


def trainings(sets, count: int, recipe: Recipe = NETWORKS[1]) -> list[stacked.TrainingJob]:
    return [stacked.TrainingJob(recipe, sets(r), 0, f"stream/{r}", 0.1) for r in range(count)]


def test_a_stack_that_exceeds_the_memory_is_halved(sets, caplog):
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
    assert messages[0] == "5 networks do not fit in the device's memory; training 3"


def test_one_network_that_fails_alone_fails(sets):
    def training(group):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        list(stacked.in_stacks(trainings(sets, 2), 2, training))


def test_other_devices_are_timed_once_per_architecture(sets, monkeypatch):
    """On a stand-in for another device; both ways are timed on one step's images."""
    monkeypatch.setattr(stacked, "_stack_sizes", {})
    tried = []

    def briefly(group):
        tried.append(len(group))
        assert all(len(one.synthetic.images) == 4 for one in group)
        if len(group) > 3:
            raise torch.OutOfMemoryError

    def choose(count, recipe):
        return stacked.choose_stack_size(
            "auto", trainings(sets, count, recipe), torch.device("meta"), 4, briefly
        )

    first = choose(5, NETWORKS[1])
    assert first in (1, 3)
    assert tried == [5] + [3, 2] * 2 + [1] * 10
    assert choose(5, NETWORKS[1]) == first
    assert len(tried) == 15
    choose(5, NETWORKS[0])
    assert len(tried) == 30


def test_timing_detects_a_network_that_cannot_be_stacked(sets, monkeypatch):
    monkeypatch.setattr(stacked, "_stack_sizes", {})

    def briefly(group):
        raise RuntimeError("vmap: not this one")

    assert (
        stacked.choose_stack_size("auto", trainings(sets, 3), torch.device("meta"), 4, briefly) == 1
    )


def test_timing_does_not_change_results(sets, toy, stacks, monkeypatch):
    """Timing trains separate networks before the actual ones."""
    monkeypatch.setattr(stacked, "_stack_sizes", {})
    how = settings(epochs=3)
    wanted, _ = train(replace(how, stack=False), NETWORKS[1], sets, toy)
    choose = stacked.choose_stack_size
    elsewhere = torch.device("meta")
    monkeypatch.setattr(
        protocol,
        "choose_stack_size",
        lambda stack, all_of, _, *rest: choose(stack, all_of, elsewhere, *rest),
    )
    found, _ = train(how, NETWORKS[1], sets, toy)
    assert stacks
    assert found.accuracies == wanted.accuracies


def test_an_unknown_stack_value_is_refused():
    with pytest.raises(ConfigError) as error:
        settings(stack="always")
    assert (
        str(error.value)
        == "EvaluationProtocol.stack='always' is unknown; allowed: true, false, auto."
    )

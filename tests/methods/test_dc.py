"""DC and DSA: the loops of the algorithm, and what a step is made of."""

import pytest
import torch

from dcond.errors import ConfigError
from dcond.matching.loops import TABLE, published_loops
from dcond.methods import dc as module
from dcond.methods.dc import DC
from dcond.models import ConvNet


def test_the_published_loops_and_the_rule_between_them():
    assert TABLE == {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
    assert published_loops(10) == (10, 50)
    assert published_loops(5) == (5, 100)
    assert published_loops(49) == (49, 10)
    assert published_loops(200) == (50, 10)


def test_k_image_steps_and_k_minus_one_trainings_per_network(condense, toy, monkeypatch):
    seen = []
    plain_match, plain_train, plain_reset = module.match_class_gradients, DC._train, ConvNet.reset

    def match(*args, **kwargs):
        seen.append("image")
        return plain_match(*args, **kwargs)

    def train(self, synthetic, state):
        seen.append("train")
        plain_train(self, synthetic, state)

    def reset(self, *args):
        seen.append("new")
        plain_reset(self, *args)

    monkeypatch.setattr(module, "match_class_gradients", match)
    monkeypatch.setattr(DC, "_train", train)
    monkeypatch.setattr(ConvNet, "reset", reset)
    condense("dc", toy, steps=7, outer=3, inner_epochs=1)
    once = ["image", "train", "image", "train", "image"]
    assert seen == [*once, "new", *once, "new", "image"]


def test_dsa_without_its_augmentation_is_dc(condense, toy):
    with_dc = condense("dc", toy, "init=real", steps=4)
    with_dsa = condense("dsa", toy, "augment=none", steps=4)
    assert with_dc.bytes == with_dsa.bytes


def test_batch_norm_networks_are_matched_with_frozen_statistics(condense, toy):
    losses = condense("dsa", toy, "model.norm=batch", steps=4).losses
    assert all(torch.isfinite(torch.tensor(losses)))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"distance": "mse"}, "method.distance='mse' is unknown"),
        ({"inner_momentum": 1.0}, "method.inner_momentum=1.0; allowed"),
        ({"lr_network": 0.0}, "method.lr_network=0.0 must be greater than 0"),
        ({"outer": 0}, "method.outer=0 is out of range"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, words):
    with pytest.raises(ConfigError, match=words):
        DC(network=ConvNet(name="c"), augment=None, ipc=1, steps=1, **setting)

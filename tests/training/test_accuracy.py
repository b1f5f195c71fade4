"""Accuracy of a network on test images."""

import torch

from dcond.models import ConvNet
from dcond.rng import generator
from dcond.training.accuracy import accuracies, accuracy
from dcond.types import Split


def test_networks_are_tested_in_eval_mode_with_any_batch_size(toy):
    network = ConvNet(name="bn", width=8, norm="batch").build(toy.spec, generator(0, "x"))
    network(toy.normalised(torch.arange(40)))  # statistics to go by
    whole = accuracy(network, toy.spec, toy.test, batch=1000)
    assert whole == accuracy(network, toy.spec, toy.test, batch=7)
    assert not network.training
    logits = network(toy.spec.normalise(toy.test.images.float() / 255))
    assert whole == (logits.argmax(1) == toy.test.labels).sum().item() / 60


def test_non_finite_logits_are_wrong_predictions(toy):
    """argmax of NaN logits is 0, which would give the share of class 0."""
    test = Split(toy.test.images, torch.zeros_like(toy.test.labels))
    for broken in (float("nan"), float("inf"), -float("inf")):
        logits = torch.zeros(len(test), 3)
        logits[: len(test) // 2, 1] = broken
        assert accuracies(lambda x, logits=logits: logits, toy.spec, test, batch=1000) == [0.5]

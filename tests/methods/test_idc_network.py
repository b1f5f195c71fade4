"""IDC's network: what it learns from, and how long it serves."""

import itertools

import pytest
import torch
from torch import Tensor

from dcond.matching.batches import embed_real
from dcond.matching.kmeans import representatives
from dcond.methods import idc as module
from dcond.methods.idc import IDC
from dcond.rng import Streams
from dcond.types import RealData
from helpers.double import Double, double_data, start
from helpers.idc_runs import DoubleConvNet, run

CLASSES, PER_CLASS = 3, 5


@pytest.fixture
def real() -> Double:
    return double_data(CLASSES, PER_CLASS)


@pytest.fixture
def trained_on(monkeypatch) -> list[tuple[Tensor, Tensor]]:
    """Every batch that a network is trained on: images and labels."""
    seen, plain = [], module.training_step

    def step(network, optimiser, images, labels, **rest):
        seen.append((images, labels))
        return plain(network, optimiser, images, labels, **rest)

    monkeypatch.setattr(module, "training_step", step)
    return seen


def test_the_network_is_trained_on_real_images_under_their_labels(real, trained_on):
    run(
        real, start(real), 3, train_images=7
    )  # two batches of four, between steps 1 and 2 and between 2 and 3
    assert [len(images) for images, _ in trained_on] == [4] * 4
    wanted = {
        tuple(image.flatten().tolist()): int(real.train.labels[i])
        for i, image in enumerate(whole(real))
    }
    for images, labels in trained_on:
        found = [
            wanted[tuple(image.flatten().tolist())] for image in images
        ]  # a KeyError were it not a real one
        assert found == labels.tolist()
    first, second = (torch.cat([images for images, _ in trained_on[i : i + 2]]) for i in (0, 2))
    assert len(first.unique(dim=0)) == 8  # without replacement
    assert not torch.equal(first, second)


def whole(real: RealData) -> Tensor:
    return real.normalised(torch.arange(len(real.train)))


def test_the_synthetic_images_do_not_teach_the_network(real):
    one, other = (run(real, start(real, seed=seed), 4, lr=0.1).network for seed in (1, 2))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_more_images_than_there_are_is_one_pass(real, trained_on):
    run(real, start(real), 2, train_images=1000)
    assert sum(len(images) for images, _ in trained_on) == CLASSES * PER_CLASS


def test_a_network_and_its_optimiser_serve_for_steps_per_network_steps(real, matched, trained_on):
    state = run(real, start(real), 7, steps_per_network=3)
    weights = [weights for *_, weights in matched]
    assert len(trained_on) == 2 * 4  # two batches between 1-2-3, 4-5-6, not after 3 and 6
    fresh = [DoubleConvNet().build(real.spec, Streams(0).networks)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], fresh[0].parameters(), strict=True))
    moved = [
        max(float((a - b).abs().max()) for a, b in zip(*pair, strict=True))
        for pair in itertools.pairwise(weights)
    ]
    new = [i for i, far in enumerate(moved) if far > 0.1]
    assert new == [2, 5]
    assert all(far > 0 for far in moved)
    assert state.network_steps == 1
    assert not state.optimiser.state  # the momentum of the last network is forgotten


@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_a_new_network_is_trained_for_early_epochs_before_it_is_matched(
    warmup_epochs, real, matched, trained_on
):
    run(real, start(real), 2, warmup_epochs=warmup_epochs, steps_per_network=1)
    assert sum(len(images) for images, _ in trained_on) == 2 * warmup_epochs * CLASSES * PER_CLASS


def test_kmeans_takes_the_real_images_nearest_to_the_centroids_of_the_networks_embedding(real):
    state = run(real, start(real), 1, real_selection="kmeans", batch_real=2)
    features = embed_real(state.network, real, 256)  # the first step trains no network
    expected = representatives(features, real.class_rows, 2, Streams(0).real)
    assert torch.equal(state.rows, expected)


def test_a_selection_serves_for_select_every_steps_and_no_longer_than_its_network(
    real, monkeypatch
):
    at, plain = [], IDC._select

    def select(self, real, state):
        at.append(state.network_steps)
        plain(self, real, state)

    monkeypatch.setattr(IDC, "_select", select)
    settings = {"batch_real": 2, "select_every": 2, "steps_per_network": 5}
    run(real, start(real), 8, real_selection="kmeans", **settings)
    assert at == [0, 2, 4, 0, 2]
    run(real, start(real), 2, **settings)
    assert len(at) == 5  # none for random images

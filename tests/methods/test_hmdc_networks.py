"""HMDC's networks: which of them choose real images, when they learn and start anew, how batch norm
is held.
"""

import pytest
import torch
import torch.nn.functional as F

from dcond.matching import batches as views
from dcond.matching import kmeans
from dcond.matching.batches import class_features, embed_real
from dcond.matching.kmeans import representatives
from dcond.methods import hmdc as module
from dcond.methods.hmdc import HMDC
from dcond.rng import Streams
from helpers.one_step import step_once


def test_real_images_are_those_nearest_to_the_centroids(parts, toy, monkeypatch):
    made, seen = parts("hmdc", "init=mix", batch_real=8), []

    def features(network, *rest):
        seen.append(network)
        return class_features(network, *rest)

    monkeypatch.setattr(kmeans, "class_features", features)
    _, state, _, _ = step_once(made, toy)
    networks = state.learners.networks
    assert seen == networks[:1]
    plain = embed_real(networks[0], toy, 256)  # a step trains the networks only before the next
    assert torch.equal(state.rows, representatives(plain, toy.class_rows, 8, Streams(0).real))
    for c, chosen in enumerate(state.rows):
        assert (toy.train.labels[chosen] == c).all()


@pytest.fixture
def choices(monkeypatch):
    """Collect every choice: the image steps under these networks, and the places of the networks
    that embedded.
    """
    made, states = [], []
    plain_choose, plain_embed = HMDC._select, views.embed_real

    def choose(self, real, state):
        states.append(state)
        made.append((state.network_steps, set()))
        return plain_choose(self, real, state)

    def embed(network, *rest):
        made[-1][1].add([id(one) for one in states[-1].learners.networks].index(id(network)))
        return plain_embed(network, *rest)

    monkeypatch.setattr(HMDC, "_select", choose)
    monkeypatch.setattr(views, "embed_real", embed)
    return made


def test_the_choice_is_kept_between_refreshes_and_networks_take_turns(
    parts, run_made, toy, tmp_path, choices
):
    run_made(
        parts("hmdc", "init=noise", "method.select_every=2", steps=9, steps_per_network=5),
        toy,
        tmp_path / "run",
    )
    once = [(0, {0}), (2, {1}), (4, {0})]
    assert choices == [*once, *once[:2]]


def test_networks_that_live_no_longer_than_a_choice_leave_it_to_the_first(
    parts, run_made, toy, tmp_path, choices
):
    """The turns are counted from the start of each set of networks: with steps_per_network <=
    select_every no other ever embeds.
    """
    run_made(
        parts("hmdc", "init=noise", "method.select_every=10", steps=13, steps_per_network=4),
        toy,
        tmp_path / "run",
    )
    assert choices == [(0, {0})] * 4


def test_networks_are_trained_between_image_steps_and_start_anew_after_outer_ones(
    parts, run_made, toy, tmp_path, monkeypatch
):
    seen = []
    for name in ("train", "renew"):
        plain = getattr(module.Learners, name)

        def call(self, *args, plain=plain, name=name, **arguments):
            seen.append(name)
            return plain(self, *args, **arguments)

        monkeypatch.setattr(module.Learners, name, call)
    accumulators = []
    plain_balanced = HMDC._balance

    def balanced(self, gradients, state):
        accumulators.append(float(state.accumulator.max()))
        return plain_balanced(self, gradients, state)

    monkeypatch.setattr(HMDC, "_balance", balanced)
    run_made(parts("hmdc", steps=5, steps_per_network=2), toy, tmp_path / "run")
    assert seen == ["train", "renew", "train", "renew"]
    start = module.balance.START
    assert [value == pytest.approx(start) for value in accumulators] == [
        True,
        False,
        True,
        False,
        True,
    ]


def test_batch_norm_is_frozen_on_the_real_batch_while_gradients_are_matched(
    parts, run_made, toy, tmp_path
):
    """The loss of one step, written down: a pass of 16 real images per class, then evaluation mode."""
    plain = {
        "cutmix_real": 0,
        "cutmix_synthetic": 0,
        "real_selection": "random",
        "unit_gradients": False,
        "factor": 1,
    }
    arguments = (
        "pool@learners=convnet",
        "learners.networks.ConvNet.norm=batch",
        "init=real",
        "augment=none",
    )
    made = parts("hmdc", *arguments, steps=1, batch_real=20, **plain)
    got = run_made(made, toy, tmp_path / "run")
    rng = Streams(0)
    made.start(toy, 2, 1, rng)
    network = made.method.pool.networks["ConvNet"].build(toy.spec, rng.networks)
    real = toy.normalised(toy.draw_per_class(20, rng.real).flatten()).view(3, 20, 1, 8, 8)
    images = toy.spec.normalise(got.first).view(3, 2, 1, 8, 8)
    with torch.no_grad():
        network(real[:, :16].flatten(0, 1))
    network.eval()
    loss = 0.0
    for c in range(3):
        gradients = []
        for own in (real[c], images[c]):
            entropy = F.cross_entropy(network(own), torch.full((len(own),), c))
            gradients.append(torch.autograd.grad(entropy, list(network.parameters())))
        loss += sum(float((a - b).square().sum()) for a, b in zip(*gradients, strict=True))
    assert got.losses == pytest.approx([loss], rel=1e-4)


def test_batch_norm_learns_statistics_once_in_a_step_and_goes_on_learning_after_it(
    parts, toy, monkeypatch
):
    """Of three networks, one with batch norm: every pass but the one that freezes it is in
    evaluation mode.
    """
    learning = []
    plain = torch.nn.BatchNorm2d.forward

    def forward(self, images):
        learning.append(self.training)
        return plain(self, images)

    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", forward)
    arguments = (
        "pool@learners=convnet_resnet_vit",
        "learners.networks.ConvNet.norm=batch",
        "method.real_selection=random",
    )
    _, state, _, _ = step_once(parts("hmdc", *arguments, width=8), toy)
    norms = [
        one for one in state.learners.networks[0].modules() if isinstance(one, torch.nn.BatchNorm2d)
    ]
    learning = learning[
        learning.index(True) :
    ]  # what has no weights yet is tried in evaluation mode, for its shapes
    assert learning[: len(norms)] == [True] * len(norms)
    assert len(learning) > 4 * len(norms)
    assert not any(learning[len(norms) :])
    assert all(norm.training for norm in norms)

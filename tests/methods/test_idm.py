"""IDM beyond the contract: the step against a plain loop, and what its networks are trained on."""

import pytest
import torch
import torch.nn.functional as F

from dcond.errors import ConfigError
from dcond.matching.engine import Engine
from dcond.methods.idm import IDM
from dcond.models import ConvNet
from dcond.rng import Streams
from dcond.training.network_queue import NetworkQueue
from helpers.double import Double, double_data, start
from helpers.idc_runs import DoubleConvNet

CLASSES, PER_CLASS = 3, 5


@pytest.fixture
def real() -> Double:
    return double_data(CLASSES, PER_CLASS)


def method(**settings) -> IDM:
    plain = {
        "network": DoubleConvNet(),
        "engine": Engine(precision="float32", compile=False),
        "steps": 9,
        "batch_real": PER_CLASS,  # all images of every class
        "batch_train": 4,
        "inner_steps": 2,
        "factor": 1,
        "pixel_box": "free",
    }
    return IDM(**(plain | settings))


def begin(real, synthetic, seed=0, **settings):
    made = method(**settings)
    return made, made.init(real, synthetic, Streams(seed))


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_two_sweeps_are_those_of_the_public_loop(real, momentum):
    """One SGD step with momentum per class, on one tensor of all images, in normalised units."""
    synthetic = start(real)
    made, state = begin(
        real, synthetic, momentum=momentum, sweep="sequential", lr=0.2, ce_weight=3.0
    )
    x, velocity, losses = synthetic.images.detach().clone(), 0.0, []
    for _ in range(2):
        found = made.step(real, synthetic, state)
        network, accuracy, total = state.network, float(state.accuracy), 0.0
        for c in range(CLASSES):
            images = real.spec.normalise(x).requires_grad_()
            own = images[2 * c : 2 * c + 2]
            gap = network.embed(real.normalised(real.class_rows[c])).mean(0) - network.embed(
                own
            ).mean(0)
            entropy = F.cross_entropy(network(own), torch.full((2,), c))
            loss = gap.square().sum() + 3.0 * accuracy * entropy
            velocity = momentum * velocity + torch.autograd.grad(loss, images)[0]
            x = x - 0.2 * real.std[0] * velocity  # normalised units
            total += float(loss.detach())
        losses.append((float(found["loss"]), total))
    for got, expected in losses:
        assert got == pytest.approx(expected, rel=1e-9)
    if momentum == 0:  # with momentum the loop leaves the late classes' tails to the next sweep
        torch.testing.assert_close(synthetic.images.detach(), x, rtol=1e-9, atol=1e-9)


def test_the_accuracy_is_a_fraction_and_zero_for_a_new_network(real):
    _, state = begin(real, start(real), queue_start=1)
    assert state.queue.load(0) == 0
    images, labels = real.normalised(torch.arange(15)), real.train.labels
    state.queue.train(0, 200, lambda: (images, labels))
    assert 0.5 < state.queue.load(0) <= 1


def test_networks_are_trained_between_steps_and_join_at_their_time(real, monkeypatch):
    made, state = begin(real, synthetic := start(real), push_every=2, queue_size=4)
    sizes, trained, plain = [], [], type(state.queue).train

    def train(queue, index, steps, draw):
        trained.append((state.step, index, steps))
        plain(queue, index, steps, draw)

    monkeypatch.setattr(type(state.queue), "train", train)
    assert len(state.queue) == 3
    for _ in range(5):
        made.step(real, synthetic, state)
        sizes.append(len(state.queue))
    assert sizes == [4] * 5  # a fourth joins before the first step; then the oldest leaves
    assert [step for step, *_ in trained] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert {steps for *_, steps in trained} == {2}
    assert all(a[1] != b[1] for a, b in zip(trained[::2], trained[1::2], strict=True))


def test_the_networks_see_real_images_only_and_the_images_see_no_training(real):
    made, state = begin(real, one := start(real, seed=1))
    same, other = begin(real, two := start(real, seed=2))
    for _ in range(3):
        made.step(real, one, state)
        same.step(real, two, other)
    for a, b in zip(state.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(a, b)  # whatever the synthetic images
        assert not a.requires_grad
    assert not state.network.training


def test_the_cross_entropy_counts_by_its_weight_and_the_accuracy(real, monkeypatch):
    accuracies, plain = iter((0.0, 0.5, 0.5)), NetworkQueue.load

    def load(queue, index):
        plain(queue, index)
        return next(accuracies)

    monkeypatch.setattr(NetworkQueue, "load", load)
    moved = []
    for weight in (50.0, 50.0, 0.0):
        made, state = begin(real, synthetic := start(real), ce_weight=weight)
        made.step(real, synthetic, state)
        moved.append(synthetic.images.detach().clone())
    assert torch.equal(moved[0], moved[2])
    assert (moved[0] - moved[1]).abs().max() > 1e-3


def test_a_rate_is_the_same_at_any_ipc(real):
    """Copies of one image move by their share of its gradient."""
    moved = []
    for ipc in (1, 3):
        synthetic = start(real, ipc)
        with torch.no_grad():
            synthetic.images.copy_(start(real, 1).images.repeat_interleave(ipc, 0))
        made, state = begin(real, synthetic, ce_weight=0.0)
        made.step(real, synthetic, state)
        moved.append(synthetic.by_class[:, 0].detach() - start(real, 1).images)
    torch.testing.assert_close(moved[0] / 3, moved[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("forget_every", "zero"), [(2, [0, 2, 4]), (None, [0])])
def test_accuracies_start_anew_at_their_time(real, forget_every, zero):
    made, state = begin(
        real, synthetic := start(real), queue_size=1, inner_steps=9, forget_every=forget_every
    )
    accuracies = []
    for _ in range(5):
        made.step(real, synthetic, state)
        accuracies.append(float(state.accuracy))
    assert [step for step, value in enumerate(accuracies) if value == 0] == zero


@pytest.mark.parametrize(
    "name", ["queue_size", "push_every", "inner_steps", "train_networks", "forget_every"]
)
def test_settings_below_one_are_refused(name):
    with pytest.raises(ConfigError, match=rf"IDM\.{name}=0 is out of range"):
        method(network=ConvNet(name="c"), **{name: 0})

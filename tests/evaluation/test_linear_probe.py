"""The linear-probe protocol against scikit-learn, and what it does with networks, sets and labels."""

import logging
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from dcond.errors import ConfigError, DivergedError
from dcond.evaluation import LinearProbe, Teacher
from dcond.evaluation.linear_probe import fit_linear
from dcond.models import MLP, ConvNet, Pool
from dcond.rng import generator
from dcond.training.teacher import TrainedTeacher
from dcond.types import SyntheticSet

RECIPE = MLP(name="MLP", hidden=(12,))
PROBE = LinearProbe(name="linear_probe", repeats=1)


def points(n=60, d=7, k=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, generator=rng, dtype=torch.float64)
    return z, torch.randint(k, (n,), generator=rng)


def probed(probe, sets, toy, recipe=RECIPE, seed=0, **options):
    pool = Pool(networks={"net": recipe})
    return probe.evaluate(sets, pool, toy.test, seed, **options).networks["net"].accuracies


@pytest.fixture
def with_weights(tmp_path, toy):
    """A recipe whose networks all start from the same file."""
    network = RECIPE.build(toy.spec, torch.Generator().manual_seed(5))
    torch.save(network.state_dict(), tmp_path / "MLP.pt")
    return replace(RECIPE, weights=str(tmp_path / "MLP.pt"))


@pytest.mark.parametrize("penalty", [0.001, 0.1])
def test_the_fit_is_scikit_learns(penalty):
    z, labels = points()
    weight, bias = fit_linear(z, labels, 4, penalty)
    reference = LogisticRegression(C=1 / (len(z) * penalty), tol=1e-10, max_iter=10_000)
    reference.fit(z.numpy(), labels.numpy())
    ours = F.linear(z, weight, bias).softmax(1)
    theirs = torch.from_numpy(reference.predict_proba(z.numpy()))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    torch.testing.assert_close(weight, torch.from_numpy(reference.coef_), rtol=1e-3, atol=1e-3)


def test_the_accuracy_is_that_of_scikit_learn_on_the_features(toy, chosen, with_weights):
    network = with_weights.build(toy.spec, torch.Generator()).eval()
    with torch.no_grad():
        z = network.embed(chosen.dataset().tensors[0])
        test = network.embed(toy.spec.normalise(toy.test.images / 255))
    scale = z.square().mean().sqrt()
    reference = LogisticRegression(C=1 / (len(z) * PROBE.penalty), tol=1e-10, max_iter=10_000)
    reference.fit((z / scale).numpy(), chosen.labels.numpy())
    theirs = reference.score((test / scale).numpy(), toy.test.labels.numpy())
    assert probed(PROBE, lambda repeat: chosen, toy, with_weights) == (pytest.approx(theirs),)


def test_the_scale_of_the_features_does_not_matter(toy, chosen, with_weights, tmp_path):
    larger = torch.load(with_weights.weights, weights_only=True)
    hidden = [name for name in larger if name.endswith(("weight", "bias"))][:2]
    for name in hidden:
        larger[name] *= 100
    torch.save(larger, tmp_path / "larger.pt")
    recipe = replace(with_weights, weights=str(tmp_path / "larger.pt"))
    one = probed(PROBE, lambda repeat: chosen, toy, with_weights)
    assert probed(PROBE, lambda repeat: chosen, toy, recipe) == pytest.approx(one, abs=1e-9)


def test_repeats_differ_by_random_weights_and_by_their_sets(toy, chosen, with_weights):
    def sets(repeat):
        return replace(chosen, labels=(chosen.labels + repeat) % 3)

    probe = replace(PROBE, repeats=3)
    assert len(set(probed(probe, lambda repeat: chosen, toy))) > 1
    assert len(set(probed(probe, lambda repeat: chosen, toy, with_weights))) == 1
    first, *others = probed(probe, sets, toy, with_weights)
    assert first > 0.5 > max(others)


def test_one_hot_labels_are_hard_labels_and_decoded_images_are_used(toy, chosen, with_weights):
    one_hot = replace(chosen, labels=F.one_hot(chosen.labels, 3).float())
    hard = probed(PROBE, lambda repeat: chosen, toy, with_weights)
    assert probed(PROBE, lambda repeat: one_hot, toy, with_weights) == hard
    packed = replace(chosen, factor=2)
    images, labels = packed.decoded()
    unpacked = SyntheticSet.from_images(images, toy, ipc=8, labels=labels)
    assert len(images) == 24
    assert probed(PROBE, lambda repeat: packed, toy, with_weights) == probed(
        PROBE, lambda repeat: unpacked, toy, with_weights
    )


def test_a_teacher_labels_the_images(toy, chosen, with_weights):
    """A teacher that is sure of the next class: the probe is wrong wherever it was right."""

    class Next(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Parameter(torch.ones(()))

        def forward(self, x):
            return 100 * F.one_hot((chosen.labels + 1) % 3, 3).float()

    teacher = TrainedTeacher(Next(), toy.spec, 4.0, {})
    probe = replace(PROBE, teacher=Teacher(network=RECIPE, epochs=1))
    moved = replace(chosen, labels=(chosen.labels + 1) % 3)
    expected = probed(PROBE, lambda repeat: moved, toy, with_weights)
    got = probed(probe, lambda repeat: chosen, toy, with_weights, teacher=teacher)
    assert got == pytest.approx(expected, abs=0.05)
    with pytest.raises(ConfigError, match="needs a trained one"):
        probed(probe, lambda repeat: chosen, toy, with_weights)


def test_the_network_and_the_set_stay_as_they_are(toy, chosen):
    chosen.images.requires_grad_()
    built = []

    class Watched(MLP):
        def build(self, *args, **kwargs):
            network = super().build(*args, **kwargs)
            built.append((network, {k: v.clone() for k, v in network.state_dict().items()}))
            return network

    probed(PROBE, lambda repeat: chosen, toy, Watched(name="MLP", hidden=(12,)))
    ((network, before),) = built
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert chosen.images.grad is None


def test_random_weights_are_reported(toy, chosen, with_weights, caplog):
    caplog.set_level(logging.INFO)
    probed(PROBE, lambda repeat: chosen, toy, with_weights)
    assert "random features" not in caplog.text
    probed(PROBE, lambda repeat: chosen, toy, ConvNet(name="ConvNet", width=4))
    assert "ConvNet has no trained weights: random features are probed" in caplog.text


def test_features_that_are_not_finite_are_refused(toy, chosen, with_weights):
    weights = torch.load(with_weights.weights, weights_only=True)
    next(iter(weights.values())).fill_(float("nan"))
    torch.save(weights, with_weights.weights)
    broken = replace(with_weights)
    with pytest.raises(DivergedError, match="features of the set are not finite; check"):
        probed(PROBE, lambda repeat: chosen, toy, broken)


def test_a_fit_that_has_not_converged_is_reported(caplog):
    fit_linear(*points(), 4, 0.001, max_steps=2)
    assert "not converged after 2 steps" in caplog.text


def test_the_result_has_no_epochs_and_no_rate(toy, chosen):
    result = PROBE.evaluate(
        lambda repeat: chosen, Pool(networks={"net": RECIPE}), toy.test, 0
    ).networks["net"]
    entry = result.as_dict()
    assert (entry["lr"], entry["epochs"], entry["best_over_epochs_on_test"]) == (None, None, None)
    assert not PROBE.augments
    assert not PROBE.searches


def test_features_come_from_evaluation_mode(toy, chosen):
    """Batch norm in training mode would use the statistics of the set."""
    recipe = ConvNet(name="ConvNet", width=4, norm="batch", depth=1)
    network = recipe.build(toy.spec, generator(0, "evaluation/net/0")).eval()
    with torch.no_grad():
        z = network.embed(chosen.dataset().tensors[0])
        test = network.embed(toy.spec.normalise(toy.test.images / 255))
    scale = z.square().mean().sqrt()
    weight, bias = fit_linear(z / scale, chosen.labels, 3, PROBE.penalty)
    hits = F.linear(test / scale, weight, bias).argmax(1) == toy.test.labels
    expected = hits.float().mean().item()
    assert probed(PROBE, lambda repeat: chosen, toy, recipe) == (pytest.approx(expected),)


def test_large_inputs_are_tested_in_small_passes(toy, chosen, with_weights):
    """A network that enlarges its images counts at the size that it works on."""
    most: list[int] = []

    def counted(self, x):
        most.append(len(x))
        return embed(self, x)

    network = with_weights.build(toy.spec, torch.Generator())
    embed = type(network).embed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(network), "embed", counted)
        patch.setattr(type(network), "input_side", 640)
        probed(replace(PROBE, test_batch=100), lambda repeat: chosen, toy, with_weights)
    assert max(most) == 1

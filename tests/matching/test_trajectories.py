"""The student's trajectory: its loss at both ends, exact gradients, and recomputed segments."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dcond.augment import DiffAug
from dcond.matching.trajectories import (
    Batch,
    draw_batches,
    match_trajectory,
    squared_distance,
    student_loss,
)
from dcond.models import ConvNet
from dcond.types import ImageSpec
from dcond.whitening import fit_whitening

SIDE, CLASSES = 4, 3
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "trajectories.npz", allow_pickle=False)


class Problem:
    """A small student in float64, its images, labels and batches."""

    def __init__(self, network: nn.Module, steps: int, augment: DiffAug | None = None, soft=False):
        rng = torch.Generator().manual_seed(0)
        self.network, self.steps, self.augment = network.double(), steps, augment
        self.start = [p.detach() for p in network.parameters()]
        self.target = [
            p + 0.1 * torch.randn(p.shape, generator=rng, dtype=torch.float64) for p in self.start
        ]
        self.images = torch.rand(5, 1, SIDE, SIDE, generator=rng, dtype=torch.float64)
        self.labels = torch.tensor([0, 0, 1, 1, 2])
        if soft:
            self.labels = torch.randn(5, CLASSES, generator=rng, dtype=torch.float64)
        self.rate = torch.tensor(0.1, dtype=torch.float64)
        self.batches = draw_batches(5, (SIDE, SIDE), steps, 2, augment, rng, rng)

    def match(self, images=None, labels=None, rate=None, normalise=lambda x: x, **options):
        leaf = (self.images if images is None else images).clone().requires_grad_()
        labels = self.labels if labels is None else labels
        leaves = [leaf]
        if labels.ndim == 2:
            labels = labels.clone().requires_grad_()
            leaves.append(labels)

        names = [name for name, _ in self.network.named_parameters()]

        def loss(weights, step):  # normalised anew: the leaf is the stored image
            x = normalise(leaf)
            own = student_loss(self.network, names, {}, x, labels, self.batches, self.augment)
            return own(weights, step)

        rate = self.rate if rate is None else rate
        return match_trajectory(loss, self.start, self.target, rate, leaves, self.steps, **options)


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 6), nn.Tanh(), nn.Linear(6, CLASSES))


def convnet() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.GroupNorm(4, 4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


@pytest.fixture(autouse=True)
def _own_generator():
    with torch.random.fork_rng():
        yield


def test_the_loss_is_1_without_steps_and_nothing_has_a_gradient():
    matched = Problem(mlp(), 0, soft=True).match()
    assert float(matched.loss) == 1
    assert all(not bool(g.any()) for g in [*matched.gradients, matched.rate])


def test_the_loss_is_0_where_the_student_meets_the_target():
    problem = Problem(mlp(), 3)
    names = [name for name, _ in problem.network.named_parameters()]
    loss = student_loss(
        problem.network, names, {}, problem.images, problem.labels, problem.batches, None
    )
    weights = problem.start
    for step in range(3):  # plain SGD
        weights = [w.clone().requires_grad_() for w in weights]
        gradients = torch.autograd.grad(loss(weights, step), weights)
        weights = [(w - problem.rate * g).detach() for w, g in zip(weights, gradients, strict=True)]
    problem.target = weights
    assert float(problem.match().loss) < 1e-25
    assert float(squared_distance(problem.start, problem.target)) > 1e-4


@pytest.mark.parametrize("segment", [1, 2])
def test_dropout_draws_the_same_where_a_segment_is_computed_again(segment):
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Dropout(0.5), nn.Linear(SIDE**2, CLASSES))
    problem = Problem(nn.Sequential(*layers), 4)
    torch.manual_seed(3)
    whole, other = problem.match(), problem.match(segment=segment)
    assert torch.allclose(whole.loss, other.loss, rtol=1e-12)
    assert torch.allclose(whole.gradients[0], other.gradients[0], rtol=1e-9, atol=1e-15)
    assert torch.allclose(whole.rate, other.rate, rtol=1e-9)


@pytest.mark.parametrize("segment", [None, 2])
def test_the_gradients_are_those_of_finite_differences(segment):
    problem = Problem(mlp(), 3, soft=True)
    matched = problem.match(segment=segment)
    step = 1e-5

    def difference(name, values, place):
        change = torch.zeros_like(values)
        change.view(-1)[place] = step
        up, down = (float(problem.match(**{name: values + s * change}).loss) for s in (1, -1))
        return (up - down) / (2 * step)

    for name, values, gradient in (
        ("images", problem.images, matched.gradients[0]),
        ("labels", problem.labels, matched.gradients[1]),
        ("rate", problem.rate, matched.rate),
    ):
        places = range(0, values.numel(), 7)
        numeric = torch.tensor([difference(name, values, place) for place in places])
        exact = gradient.reshape(-1)[list(places)].float()
        assert float(exact.abs().max()) > 1e-5
        assert torch.allclose(exact, numeric, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("segment", [1, 2, 3, 7])
def test_recomputed_segments_give_the_gradients_of_the_full_graph(segment):
    augment = DiffAug(["color", "crop", "cutout", "scale", "rotate"])
    problem = Problem(convnet(), 7, augment, soft=True)
    raw = torch.randint(256, (40, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(2))
    whitening = fit_whitening(raw.to(torch.uint8))
    spec = ImageSpec(1, SIDE, SIDE, CLASSES, (0.0,), (1.0,), whitening)
    full, parts = (problem.match(normalise=spec.normalise, segment=m) for m in (None, segment))
    assert float(full.loss) == pytest.approx(float(parts.loss), rel=1e-13)
    for a, b in zip([*full.gradients, full.rate], [*parts.gradients, parts.rate], strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-14)
        assert bool(a.any())


def test_the_gradient_of_tesla_neglects_later_steps():
    problem = Problem(mlp(), 4)
    exact, direct = problem.match(), problem.match(direct=True)
    assert float(exact.loss) == float(direct.loss)
    assert not torch.allclose(exact.gradients[0], direct.gradients[0], rtol=1e-2)
    last = problem.batches[-1].rows  # nothing comes after the last step, but others saw its images
    problem.batches = [replace(batch, rows=torch.tensor([0])) for batch in problem.batches[:-1]]
    problem.batches.append(replace(Problem(mlp(), 1).batches[0], rows=torch.tensor([3])))
    exact, direct = problem.match(), problem.match(direct=True)
    assert len(last) > 0
    assert torch.allclose(exact.gradients[0][3], direct.gradients[0][3], rtol=1e-12)
    assert not torch.allclose(exact.gradients[0][0], direct.gradients[0][0], rtol=1e-2)


def test_the_gradient_of_tesla_is_the_sum_of_the_direct_effects_of_all_steps():
    problem = Problem(mlp(), 3)
    names = [name for name, _ in problem.network.named_parameters()]
    leaf = problem.images.clone().requires_grad_()
    loss = student_loss(problem.network, names, {}, leaf, problem.labels, problem.batches, None)
    weights, gradients = [w.requires_grad_() for w in problem.start], []
    for step in range(3):
        gradients.append(torch.autograd.grad(loss(weights, step), weights, create_graph=True))
        weights = [
            (w - problem.rate * g).detach().requires_grad_()
            for w, g in zip(weights, gradients[-1], strict=True)
        ]
    scale = squared_distance(problem.start, problem.target)
    towards = [2 * (w - t) / scale for w, t in zip(weights, problem.target, strict=True)]
    expected = sum(
        torch.autograd.grad(own, leaf, [-problem.rate * t.detach() for t in towards])[0]
        for own in gradients
    )
    found = problem.match(direct=True)
    assert torch.allclose(found.gradients[0], expected, rtol=1e-10, atol=1e-14)


def test_batches_are_drawn_without_replacement_and_a_pass_begins_with_its_short_chunk():
    rng = torch.Generator().manual_seed(0)
    rows = [batch.rows for batch in draw_batches(7, (4, 4), 6, 3, None, rng, rng)]
    assert [len(own) for own in rows] == [1, 3, 3, 1, 3, 3]
    for one_pass in (rows[:3], rows[3:]):
        assert torch.cat(one_pass).sort().values.tolist() == list(range(7))


@pytest.mark.parametrize("segment", [None, 2])
@pytest.mark.parametrize("code", ["mtt", "datm"])
def test_a_step_equals_that_of_the_public_code(code, segment):
    """``golden/trajectories.npz``: the student's loop of distill.py (github
    GeorgeCazenavette/mtt-distillation) and of DATM.py (github NUS-HPC-AI-Lab/DATM), executed as it
    stands on a ConvNet of two blocks of width 8: 5 steps of 3 of 8 images, no augmentation.
    """

    def golden(name):
        return torch.from_numpy(GOLDEN[name])

    images, labels = golden("images").requires_grad_(), golden(f"{code}_labels")
    soft = labels.is_floating_point()
    leaves = [images, *([labels.requires_grad_()] if soft else [])]
    spec = ImageSpec(3, 16, 16, 4, (0.0,) * 3, (1.0,) * 3)
    network = ConvNet(name="ConvNet", depth=2, width=8).build(spec, torch.Generator())
    names = [name for name, _ in network.named_parameters()]
    start, target = (
        [golden(f"{which}_{i}") for i in range(len(names))] for which in ("start", "target")
    )
    chunks = [rows for order in golden(f"{code}_order") for rows in reversed(order.split(3))]
    batches = [Batch(rows, None) for rows in chunks]
    loss = student_loss(network, names, {}, images, labels, batches, None)
    rate = golden(f"{code}_rate")
    matched = match_trajectory(loss, start, target, rate, leaves, 5, segment=segment)
    ours = {"loss": matched.loss, "rate_gradient": matched.rate}
    ours |= dict(zip(("image_gradient", "label_gradient"), matched.gradients, strict=False))
    assert len(ours) == (4 if soft else 3)
    for name, value in ours.items():
        theirs = golden(f"{code}_{name}")
        assert float(theirs.abs().max()) > 1e-4
        assert float((value - theirs).norm() / theirs.norm()) < 1e-4

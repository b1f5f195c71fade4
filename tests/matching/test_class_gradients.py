"""Gradient matching against the matching loss written down as it stands, in float64."""

import itertools
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dcond.errors import DcondError
from dcond.matching import at_once, class_gradients
from dcond.matching.class_gradients import ClassGradients, _added, _mean, value_and_gradient
from dcond.matching.distances import DISTANCES
from dcond.matching.engine import Engine
from dcond.matching.fast_forward import FastForward
from dcond.matching.gradients import class_gradient, frozen_batch_norm
from dcond.models import MLP, ConvNet
from dcond.rng import generator
from dcond.types import ImageSpec
from helpers.small_networks import RECIPES, SPEC, by_recipe, images, network_of

pytestmark = pytest.mark.usefixtures("narrow_vgg")

GOLDEN = Path(__file__).parents[1] / "golden"
LEVELS = {"intra": (True, False), "inter": (False, True), "both": (True, True)}


def bound(network, *, classes=1, chunk=64):
    return ClassGradients(
        network, FastForward(network, bfloat16=False, compiled=False), chunk, classes
    )


class Written:
    """The loss as it stands, with one graph over all classes and PyTorch's own differentiation."""

    def __init__(self, network, real, synthetic):
        self.leaf = synthetic.clone().requires_grad_(True)
        self.ours = [
            class_gradient(network, x, c, create_graph=True) for c, x in enumerate(self.leaf)
        ]
        self.targets = [class_gradient(network, x, c) for c, x in enumerate(real)]

    def loss(self, distance, *, within, across):
        sides = (
            [sum(g) / len(g) for g in zip(*side, strict=True)] for side in (self.ours, self.targets)
        )
        inter = len(self.ours) * distance(*sides)
        intra = sum(distance(s, t) for s, t in zip(self.ours, self.targets, strict=True))
        return within * intra + across * inter

    def gradient(self, loss):
        return torch.autograd.grad(loss, self.leaf, retain_graph=True)[0]


def total(found):
    within = 0 if found.within is None else found.within.sum()
    return within + (0 if found.across is None else len(found.gradient) * found.across)


@by_recipe
def test_loss_and_image_gradient_are_those_of_the_loss_as_written(recipe):
    network = network_of(recipe)
    real, synthetic = images(12, 1), images(2, 2)
    # classes at once, real images per pass
    ways = itertools.cycle([(1, 5), (2, 100), (3, 7), (1, 100)])
    thorough = recipe.name in ("ConvNet", "MLP")  # every distance; the others take seconds each
    fitting = [
        d
        for name, d in DISTANCES.items()
        if not name.startswith("conv_") or recipe.name == "ConvNet"
    ]
    chosen = fitting if thorough else [DISTANCES["rowwise_angle_and_magnitude"]]
    with frozen_batch_norm(network, real):
        written = Written(network, real, synthetic)
        for distance, (within, across) in itertools.product(chosen, LEVELS.values()):
            wanted_loss = written.loss(distance, within=within, across=across)
            wanted = written.gradient(wanted_loss)
            for classes, chunk in itertools.islice(ways, 3 if thorough else 1):
                engine = Engine(precision="float32", compile=False, classes=classes, chunk=chunk)
                gradients = engine.bind(network, SPEC, 1)
                found = gradients.match(real, synthetic, distance, within=within, across=across)
                torch.testing.assert_close(
                    total(found), wanted_loss.detach(), rtol=1e-9, atol=1e-11
                )
                torch.testing.assert_close(
                    found.gradient, wanted, rtol=1e-7, atol=1e-8 * float(wanted.abs().max())
                )


def test_vmap_has_a_wrong_second_derivative_of_layer_norm():
    """If this fails, PyTorch has mended it, and ``matching/plain_norms.py`` can go."""
    norm = torch.nn.LayerNorm(5).double()
    x = torch.randn(3, 4, 5, generator=generator(0, "x"), dtype=torch.float64, requires_grad=True)

    def loss(weight, images):
        return F.layer_norm(images, (5,), weight, norm.bias.detach()).pow(3).sum()

    together = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(norm.weight.detach(), x)
    alone = torch.stack(
        [
            torch.autograd.grad(loss(norm.weight, x[i]), norm.weight, create_graph=True)[0]
            for i in range(3)
        ]
    )
    torch.testing.assert_close(together, alone)
    wrong, right = (torch.autograd.grad(side.square().sum(), x)[0] for side in (together, alone))
    assert float((wrong - right).norm() / right.norm()) > 0.1


class Normed(torch.nn.Module):
    """A network of a user's with a norm of its own kind."""

    def __init__(self, norm):
        super().__init__()
        self.body = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.norm = norm
        self.head = torch.nn.Linear(4 * 64, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.body(x))).flatten(1))


class Opaque(torch.nn.LayerNorm):
    """A layer norm that calls PyTorch's operator directly."""

    def __init__(self):
        super().__init__((4, 8, 8))

    def forward(self, x):
        shape, options = self.normalized_shape, (self.weight, self.bias, self.eps)
        return torch.native_layer_norm(x, shape, *options)[0]


@pytest.mark.parametrize(
    ("norm", "classes"),
    [
        (torch.nn.Identity(), 3),
        (torch.nn.GroupNorm(2, 4), 3),
        (torch.nn.BatchNorm2d(4), 3),
        (torch.nn.InstanceNorm2d(4), 3),
        (torch.nn.InstanceNorm2d(4, affine=True), 3),
        (torch.nn.InstanceNorm2d(4, affine=True, track_running_stats=True), 3),
        (torch.nn.LayerNorm((4, 8, 8)), 3),
        (Opaque(), 1),
    ],
    ids=["none", "group", "batch", "instance", "weighted", "running", "layer", "opaque"],
)
def test_a_network_goes_class_by_class_where_several_at_once_have_another_gradient(norm, classes):
    torch.manual_seed(0)
    network = Normed(norm)
    if norm.state_dict():
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
    assert (
        Engine(classes=3, precision="float32", compile=False).bind(network, SPEC, 1).classes
        == classes
    )


def test_a_network_that_cannot_be_tried_in_float64_goes_class_by_class():
    class Fixed(Normed):
        def forward(self, x):
            return super().forward(x) @ torch.ones(3, 3)  # float32, whatever the weights are

    engine = Engine(classes=3, precision="float32", compile=False)
    assert engine.bind(Fixed(torch.nn.GroupNorm(2, 4)), SPEC, 1).classes == 1


@pytest.mark.parametrize("classes", [1, 3])
def test_equal_sets_are_at_distance_zero_with_a_finite_gradient(classes):
    network = network_of(RECIPES[0])
    both = images(4, 4)
    for name, distance in DISTANCES.items():
        found = bound(network, classes=classes, chunk=2).match(both, both, distance, across=True)
        assert float(found.within.abs().max()) < 1e-3, (
            name
        )  # the DC form leaves 1e-6 / norm² of every row
        assert bool(torch.isfinite(found.gradient).all()), name


@pytest.mark.parametrize("classes", [1, 2])
def test_dead_units_give_zero_rows_and_a_finite_gradient(classes):
    network = MLP(name="MLP", hidden=(8,)).build(SPEC, generator(0, "network")).double()
    with torch.no_grad():
        next(m for m in network.modules() if isinstance(m, torch.nn.Linear)).bias.fill_(
            -1e3
        )  # every unit is dead
    real, synthetic = images(4, 1), images(2, 2)
    first_layer = class_gradient(network, real[0], 0)[0]
    assert not first_layer.any()
    for name in (
        "rowwise",
        "rowwise_cosine",
        "rowwise_angle_and_magnitude",
        "squared",
        "whole_cosine",
    ):
        distance = DISTANCES[name]
        found = bound(network, classes=classes).match(real, synthetic, distance, across=True)
        assert bool(torch.isfinite(found.gradient).all()), name
        assert bool(torch.isfinite(total(found))), name


@pytest.mark.parametrize(("classes", "count"), [(2, 1), (2, 3), (100, 1)])
def test_few_and_many_classes_and_single_images(classes, count):
    spec = ImageSpec(1, 8, 8, classes, (0.5,), (0.25,))
    network = ConvNet(name="c", width=4).build(spec, generator(0, "network")).double()
    real, synthetic = images(count, 1, classes), images(1, 2, classes)
    one = bound(network, classes=1).match(real, synthetic, DISTANCES["rowwise"], across=True)
    many = bound(network, classes=33).match(real, synthetic, DISTANCES["rowwise"], across=True)
    assert one.within.shape == (classes,)
    torch.testing.assert_close(one.within, many.within)
    torch.testing.assert_close(one.gradient, many.gradient)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("baseline", "rowwise_cosine"), ("improved", "rowwise_angle_and_magnitude")],
)
def test_the_multi_level_total_of_the_public_code(theirs, ours):
    golden = np.load(GOLDEN / "degm_distance.npz")
    count = len(golden["names"])

    def lists(side):
        return [
            [torch.tensor(golden[f"ml_{side}_c{c}_{i:02d}"]) for i in range(count)]
            for c in range(3)
        ]

    syn, real = lists("syn"), lists("real")
    distance = DISTANCES[ours]
    groups = [[[t[None] for t in c] for c in side] for side in (syn, real)]
    across, v_mean = value_and_gradient(
        distance, *(_mean(reduce(_added, side, []), 3) for side in groups)
    )
    whole = 3 * float(across)
    for c in range(3):
        within, v_class = value_and_gradient(distance, groups[0][c], groups[1][c])
        whole += float(within)
        for i in range(count):
            wanted = torch.tensor(golden[f"ml_grad_{theirs}_c{c}_{i:02d}"])
            torch.testing.assert_close(
                (v_class[i] + v_mean[i])[0],
                wanted,
                rtol=1e-9,
                atol=1e-9 * max(1e-3, float(wanted.abs().max())),
            )
    assert float(across) == pytest.approx(float(golden[f"ml_inter_{theirs}"]), rel=1e-9)
    assert whole == pytest.approx(float(golden[f"ml_loss_{theirs}"]), rel=1e-9)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize(
    ("within", "kept", "passes"), [(True, 2**29, 1), (True, 0, 2), (False, 2**29, 1)]
)
def test_large_targets_are_computed_twice_and_change_nothing(
    within, kept, passes, classes, monkeypatch
):
    """So that the memory of two levels does not grow with classes times parameters."""
    network, computed = network_of(RECIPES[0]), []
    real, synthetic = images(4, 1), images(2, 2)
    known = bound(network, classes=classes).match(
        real, synthetic, DISTANCES["rowwise"], within=within, across=True
    )
    once = ClassGradients._real

    def counted(self, batch, labels):
        computed.extend(labels.tolist())
        return once(self, batch, labels)

    monkeypatch.setattr(ClassGradients, "_real", counted)
    monkeypatch.setattr(class_gradients, "CACHE_BYTES", kept)
    found = bound(network, classes=classes).match(
        real, synthetic, DISTANCES["rowwise"], within=within, across=True
    )
    assert computed == passes * list(range(len(real)))
    assert torch.equal(found.gradient, known.gradient)


def test_one_class_counts_twice():
    network = network_of(RECIPES[0])
    real, synthetic = images(4, 1)[:1], images(2, 2)[:1]
    found = bound(network).match(real, synthetic, DISTANCES["rowwise"], across=True)
    torch.testing.assert_close(found.within[0], found.across)


def test_the_fastest_way_is_measured_once(monkeypatch):
    measured = []
    monkeypatch.setattr(
        at_once, "fastest", lambda *given, real=at_once.fastest: measured.append(1) or real(*given)
    )
    network = network_of(RECIPES[0])
    gradients = bound(network, classes=None)
    for _ in range(2):
        found = gradients.match(images(4, 1), images(2, 2), DISTANCES["rowwise"])
    assert measured == [1]
    assert gradients.classes in (1, 3)
    wanted = bound(network).match(images(4, 1), images(2, 2), DISTANCES["rowwise"])
    torch.testing.assert_close(found.gradient, wanted.gradient)


def test_one_class_that_does_not_fit_in_memory_is_an_error(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    gradients = bound(network_of(RECIPES[0]), classes=None)
    monkeypatch.setattr(gradients, "_real", full)
    with pytest.raises(
        DcondError, match="one class does not fit in the device's memory; use a smaller"
    ):
        gradients.match(images(4, 1), images(2, 2), DISTANCES["rowwise"])


@pytest.mark.parametrize("classes", [1, 3])
def test_a_weight_that_the_logits_do_not_use_pulls_no_image(classes):
    given = images(4, 1), images(2, 2), DISTANCES["rowwise"]
    network = network_of(RECIPES[0])
    wanted = bound(network).match(*given, across=True)
    network.unused = torch.nn.Parameter(torch.ones(3, 2, dtype=torch.float64))
    found = bound(network, classes=classes).match(*given, across=True)
    torch.testing.assert_close(found.gradient, wanted.gradient)


class Dropping(torch.nn.Sequential):
    """A network that ``vmap`` refuses: its dropout draws."""

    def __init__(self):
        super().__init__(
            torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
        )


@pytest.mark.parametrize("classes", [2, 3, None])
def test_a_network_that_cannot_take_several_classes_at_once_takes_them_in_turn_and_says_so(
    classes, caplog
):
    network = Dropping().double()
    given = images(4, 1), images(2, 2), DISTANCES["rowwise"]
    torch.manual_seed(0)
    wanted = bound(network).match(*given, across=True)
    gradients = bound(network, classes=classes)
    for _ in range(2):
        torch.manual_seed(0)
        found = gradients.match(*given, across=True)
        assert torch.equal(found.gradient, wanted.gradient)  # what was tried has drawn nothing
    assert gradients.classes == 1
    (told,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith(
        "this network cannot take several classes at once; taking them one by one: vmap: "
    )


def test_any_other_fault_of_a_network_stays_its_own(monkeypatch):
    gradients = bound(network_of(RECIPES[0]), classes=3)
    monkeypatch.setattr(gradients, "_real", lambda *_: (_ for _ in ()).throw(RuntimeError("mine")))
    with pytest.raises(RuntimeError, match="mine"):
        gradients.match(images(4, 1), images(2, 2), DISTANCES["rowwise"])

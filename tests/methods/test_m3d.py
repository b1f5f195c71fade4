"""M3D beyond the contract: draws per class, the cap, the life of a network, what it shares with DM."""

import itertools

import pytest
import torch

from dcond.augment import DiffAug
from dcond.errors import ConfigError
from dcond.methods.dm import DM
from dcond.methods.m3d import M3D
from dcond.models import MLP
from dcond.rng import Streams
from dcond.types import Split
from helpers.double import Double, start
from helpers.linear_features import LinearRecipe
from helpers.m3d_runs import CLASSES, PER_CLASS, WHOLE


def test_the_linear_kernel_is_a_step_of_dm(real):
    shared = {
        "network": LinearRecipe(),
        "engine": WHOLE,
        "augment": DiffAug(["color", "crop", "flip"]),
        "steps": 1,
        "lr": 0.1,
        "momentum": 0.0,
        "batch_real": 4,
        "factor": 1,
        "space": "normalised",
    }
    moved, losses = [], []
    per_image = shared | {"lr": 0.1 / 2}  # M3D's rate counts per stored image, and the ipc is 2
    for method in (M3D(kernel="linear", steps_per_network=1, **per_image), DM(**shared)):
        synthetic, rng = start(real), Streams(3)
        state = method.init(real, synthetic, rng)
        if isinstance(method, M3D):
            state.network_steps = 1  # a new network at the first step too, as DM takes one
        losses.append(method.step(real, synthetic, state)["loss"])
        moved.append(synthetic.images.detach())
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-12, atol=1e-12)
    assert not torch.equal(moved[0], start(real).images)


def run(real, synthetic, steps, **settings):
    """Take steps with a linear network; return the state."""
    plain = {"engine": WHOLE, "augment": None, "steps": steps, "lr": 0.01, "factor": 1}
    method = M3D(network=LinearRecipe(), **(plain | settings))
    state = method.init(real, synthetic, Streams(0))
    for _ in range(steps):
        method.step(real, synthetic, state)
    return state


def test_an_image_moves_as_far_at_any_ipc(real):
    """The rate counts per stored image: copies of one image move as it would alone."""
    moved = []
    for ipc in (1, 3):
        synthetic = start(real, ipc)
        with torch.no_grad():
            synthetic.images.copy_(start(real, 1).images.repeat_interleave(ipc, 0))
        run(real, synthetic, 1, kernel="linear", batch_real=PER_CLASS, lr=0.05, pixel_box="free")
        moved.append(synthetic.by_class[:, 0].detach())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-9, atol=1e-9)
    assert (moved[0] - start(real, 1).images).abs().max() > 1e-3


@pytest.mark.parametrize("sweep", ["joint", "sequential"])
def test_every_class_draws_its_own_augmentation_and_shares_it_between_real_and_synthetic(
    real, sweep
):
    black = torch.zeros_like(real.train.images)
    dark = Double(
        "dark", Split(black, real.train.labels), real.test, real.class_names, (0.0,), (1.0,)
    )
    synthetic = start(dark)
    synthetic.images.zero_()
    bright = DiffAug(
        ["color"], contrast=0.0, saturation=0.0
    )  # black images show the added brightness
    seen = run(dark, synthetic, 1, augment=bright, batch_real=3, sweep=sweep).network.seen
    seen_real, seen_syn = seen[0].view(CLASSES, 3, -1), seen[1].view(CLASSES, 2, -1)
    brightness = seen_real[:, 0, 0]
    assert len(brightness.unique()) == CLASSES
    assert torch.equal(seen_real, brightness.view(-1, 1, 1).expand_as(seen_real))
    assert torch.equal(seen_syn, brightness.view(-1, 1, 1).expand_as(seen_syn))


@pytest.mark.parametrize(("cap", "shown"), [(3, 3), (8, 8), (200, 8)])
def test_no_more_decoded_images_than_the_cap_are_shown(real, cap, shown):
    seen = run(
        real, start(real, ipc=2, factor=2), 4, factor=2, batch_real=5, batch_synthetic=cap
    ).network.seen
    assert [len(x) for x in seen] == [CLASSES * 5, CLASSES * shown] * 4


def test_a_capped_subset_is_random_and_of_the_class(real):
    synthetic = start(real, ipc=6)
    with torch.no_grad():
        synthetic.images.copy_(
            (torch.arange(CLASSES * 6) / 24).view(-1, 1, 1, 1).expand_as(synthetic.images)
        )
    first = synthetic.images.clone()
    seen = run(real, synthetic, 3, batch_real=5, batch_synthetic=3, lr=1e-12).network.seen
    shown = [
        real.spec.denormalise(x)[:, 0, 0, 0].mul(24).round().int().view(CLASSES, 3)
        for x in seen[1::2]
    ]
    for choice in shown:
        assert torch.equal(choice // 6, torch.arange(CLASSES).view(-1, 1).expand(-1, 3).int())
        assert all(len(set(row)) == 3 for row in choice.tolist())
    assert not torch.equal(shown[0], shown[1])
    torch.testing.assert_close(synthetic.images.detach(), first)


def test_a_network_serves_for_steps_per_network_steps(real):
    method = M3D(
        network=LinearRecipe(),
        engine=WHOLE,
        augment=None,
        steps=7,
        lr=0.01,
        factor=1,
        steps_per_network=3,
    )
    synthetic = start(real)
    state = method.init(real, synthetic, Streams(0))
    weights = []
    for _ in range(7):
        method.step(real, synthetic, state)
        weights.append(state.network.weight.detach().clone())
        assert not state.network.weight.requires_grad
        assert state.network.training
    same = [torch.equal(a, b) for a, b in itertools.pairwise(weights)]
    assert same == [True, True, False, True, True, False]


def test_the_saved_state_holds_the_network_its_age_and_the_momentum(real):
    settings = {
        "augment": None,
        "steps": 9,
        "lr": 0.01,
        "factor": 1,
        "steps_per_network": 5,
        "sweep": "sequential",
    }
    method = M3D(network=LinearRecipe(), engine=WHOLE, **settings)
    synthetic = start(real)
    state = method.init(real, synthetic, Streams(0))
    for _ in range(3):
        method.step(real, synthetic, state)
    saved = state.state_dict()
    other = method.init(real, start(real), Streams(99))
    assert not torch.equal(other.network.weight, state.network.weight)
    other.load_state_dict(saved)
    assert torch.equal(other.network.weight, state.network.weight)
    assert other.network_steps == 3
    assert torch.equal(other.pixels.state_dict()["momentum"], state.pixels.state_dict()["momentum"])


def test_one_image_per_class_is_not_pulled_by_its_own_kernel(real):
    """At ipc 1, factor 1, K_XX is the constant 5: equal real and synthetic sets leave the image
    where it is.
    """
    one = Double(
        "one",
        Split(real.train.images[:4], real.train.labels[:4]),
        real.test,
        real.class_names,
        (0.5,),
        (0.3,),
    )
    synthetic = start(one, ipc=1)
    with torch.no_grad():
        synthetic.images.copy_(one.pixels(torch.arange(4)))
    before = synthetic.images.clone()
    run(one, synthetic, 2, batch_real=1, lr=10.0)
    torch.testing.assert_close(synthetic.images.detach(), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kernel": "gausian"},
            "M3D.kernel='gausian' is unknown; allowed: gaussian, linear, poly2, gauss_fixed. Did",
        ),
        ({"sweep": "both"}, "M3D.sweep='both' is unknown; allowed: joint, sequential."),
        ({"steps": 0}, "M3D.steps=0 is out of range; allowed: whole numbers from 1."),
        ({"batch_real": 0}, "M3D.batch_real=0 is out of range"),
        ({"batch_synthetic": 0}, "M3D.batch_synthetic=0 is out of range"),
        ({"steps_per_network": 2.5}, "M3D.steps_per_network=2.5 must be a whole number"),
        ({"factor": 0}, "M3D.factor=0 is out of range"),
        ({"lr": 0.0}, "M3D.lr=0.0 is out of range; allowed: numbers above 0."),
        ({"momentum": 1.0}, "M3D.momentum=1.0 is out of range; allowed: numbers from 0, below 1."),
        (
            {"space": "pixels"},
            "M3D.space='pixels' is unknown; allowed: pixel, normalised. Did you mean 'pixel'?",
        ),
        ({"pixel_box": "open"}, "M3D.pixel_box='open' is unknown; allowed: project, free."),
    ],
)
def test_settings_that_cannot_be_are_refused_when_the_method_is_made(settings, message):
    good = {"network": MLP(name="MLP"), "engine": WHOLE, "augment": None, "steps": 1, "lr": 0.1}
    with pytest.raises(ConfigError) as caught:
        M3D(**(good | settings))
    assert message in str(caught.value)

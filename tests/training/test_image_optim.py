"""The optimiser of the pixels against PyTorch's SGD on normalised images, and the sweep against its
loop.
"""

from types import SimpleNamespace

import pytest
import torch

from dcond.training.image_optim import PixelAdam, PixelSGD, PixelSweep
from dcond.types import SyntheticSet

MEAN = torch.tensor([0.4, 0.5, 0.6], dtype=torch.float64).view(-1, 1, 1)
STD = (0.2, 0.25, 0.3)
SCALE = torch.tensor(STD, dtype=torch.float64).view(-1, 1, 1)


def start(seed=0) -> torch.Tensor:
    return torch.rand(
        4, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def loss(normalised: torch.Tensor, step: int) -> torch.Tensor:
    """Some loss of normalised images that is another one in every step."""
    weight = torch.randn(
        normalised.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step)
    )
    return (weight * normalised.tanh()).sum() + normalised.square().mean()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_normalised_space_walks_the_path_of_sgd_on_normalised_images(momentum):
    normalised = ((start() - MEAN) / SCALE).requires_grad_()
    reference = torch.optim.SGD([normalised], lr=0.3, momentum=momentum)
    images = start()
    ours = PixelSGD(
        images, lr=0.3, momentum=momentum, space="normalised", std=STD, pixel_box="free"
    )
    for step in range(10):
        reference.zero_grad()
        loss(normalised, step).backward()
        reference.step()
        (gradient,) = torch.autograd.grad(loss((images - MEAN) / SCALE, step), images)
        ours.step(gradient)
        ours.project()
        torch.testing.assert_close(
            images.detach(), (normalised * SCALE + MEAN).detach(), rtol=1e-12, atol=1e-12
        )
    assert images.min() < 0  # the box was free indeed


def test_pixel_space_is_plain_sgd_with_momentum():
    images, plain, velocity = start(), start(), torch.zeros(4, 3, 5, 5, dtype=torch.float64)
    ours = PixelSGD(images, lr=0.1, momentum=0.5, space="pixel", std=STD, pixel_box="free")
    for step in range(5):
        gradient = start(step + 1) - 0.5
        ours.step(gradient)
        velocity = 0.5 * velocity + gradient
        plain = plain - 0.1 * velocity
        torch.testing.assert_close(images.detach(), plain)


def test_the_box_is_projected_onto_in_place_and_nothing_inside_moves():
    images = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5]).view(1, 1, 1, 5)
    ours = PixelSGD(images, lr=1.0, momentum=0.0, space="pixel", std=(0.5,))
    ours.project()
    assert images.flatten().tolist() == [0.0, 0.0, 0.25, 1.0, 1.0]
    assert images.requires_grad
    assert ours.images is images


def test_a_step_alone_does_not_project():
    images = torch.full((1, 1, 2, 2), 0.5)
    ours = PixelSGD(images, lr=1.0, momentum=0.0, space="pixel", std=(0.5,))
    ours.step(torch.full_like(images, 3.0))
    assert images.flatten().tolist() == [-2.5] * 4
    assert images.grad is None


def test_a_saved_momentum_is_restored():
    def steps(optimiser, numbers):
        for number in numbers:
            optimiser.step(start(number) - 0.5)

    settings = {"lr": 0.1, "momentum": 0.9, "space": "normalised", "std": STD}
    unbroken, first = start(), start()
    steps(PixelSGD(unbroken, **settings), range(6))
    one = PixelSGD(first, **settings)
    steps(one, range(3))
    saved = {name: value.clone() for name, value in one.state_dict().items()}
    second = first.detach().clone()
    other = PixelSGD(second, **settings)
    other.load_state_dict(saved)
    steps(other, range(3, 6))
    assert torch.equal(second, unbroken)
    assert saved.keys() == {"momentum"}


@pytest.mark.parametrize(("momentum", "taken"), [(0.5, 0), (0.0, 2)])
def test_without_a_buffer_there_is_nothing_to_save(momentum, taken):
    ours = PixelSGD(start(), lr=0.1, momentum=momentum, space="pixel", std=STD)
    for _ in range(taken):
        ours.step(start(1))
    assert ours.state_dict() == {}
    ours.load_state_dict({})


CLASSES, IPC, RATE = 3, 2, 0.05


def one_by_one(settings, momentum, sweeps, target) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The literal loop on Σ_c ‖x_c - target_c‖⁴: one step per class on one tensor, zero gradients
    for the others.
    """
    images = start_of_classes()
    optimiser = PixelSGD(images, lr=RATE * IPC, momentum=momentum, std=STD, **settings)
    turns = []
    for _ in range(sweeps):
        for c in range(CLASSES):
            own = slice(c * IPC, (c + 1) * IPC)
            turns.append(images[own].detach().clone())
            (gradient,) = torch.autograd.grad((images[own] - target[own]).pow(4).sum(), images)
            optimiser.step(gradient)
        optimiser.project()
    return images.detach(), turns


def start_of_classes() -> torch.Tensor:
    return torch.rand(
        CLASSES * IPC, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(9)
    )


def swept(sweep, settings, momentum, sweeps, target) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The same by :class:`PixelSweep`."""
    labels, names = torch.arange(CLASSES).repeat_interleave(IPC), tuple("abc")
    synthetic = SyntheticSet(start_of_classes(), labels, names, IPC, (0.5,) * 3, STD)
    ours = PixelSweep(
        SimpleNamespace(lr=RATE, momentum=momentum, sweep=sweep, **settings), synthetic
    )
    turns = []
    for _ in range(sweeps):
        ours.advance()
        turns += synthetic.by_class.detach().clone().unbind()
        (gradient,) = torch.autograd.grad(
            (synthetic.images - target).pow(4).sum(), synthetic.images
        )
        ours.step(gradient)
        ours.project()
    return synthetic.images.detach(), turns


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(
    ("space", "box"), [("pixel", "free"), ("pixel", "project"), ("normalised", "free")]
)
def test_a_sequential_sweep_is_the_loop_over_the_classes(space, box, momentum):
    settings = {"space": space, "pixel_box": box}
    target = 3 * start_of_classes() - 1  # outside the box here and there
    wanted, at_turns = one_by_one(settings, momentum, 6, target)
    got, ours_at_turns = swept("sequential", settings, momentum, 6, target)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours_at_turns, at_turns, rtol=1e-12, atol=1e-12)
    assert (got - start_of_classes()).abs().max() > 0.1


def test_a_joint_sweep_moves_as_far_as_the_loop_up_to_m_to_the_k():
    settings, target, momentum = (
        {"space": "pixel", "pixel_box": "free"},
        3 * start_of_classes() - 1,
        0.25,
    )
    turns = torch.stack(one_by_one(settings, momentum, 6, target)[1])
    joint = torch.stack(swept("joint", settings, momentum, 6, target)[1])
    torch.testing.assert_close(turns[: 2 * CLASSES], joint[: 2 * CLASSES], rtol=1e-12, atol=1e-12)
    assert 0 < (turns - joint).abs().max() < momentum**CLASSES


@pytest.mark.parametrize(("sweep", "kept"), [("joint", set()), ("sequential", {"momentum"})])
def test_a_sweep_keeps_its_momentum_where_it_has_one(sweep, kept):
    method = SimpleNamespace(lr=0.1, momentum=0.5, sweep=sweep, space="pixel", pixel_box="free")
    sets = []
    for _ in range(2):
        labels = torch.arange(CLASSES).repeat_interleave(IPC)
        sets.append(SyntheticSet(start_of_classes(), labels, tuple("abc"), IPC, (0.5,) * 3, STD))
    one, other = (PixelSweep(method, synthetic) for synthetic in sets)
    one.step(torch.ones_like(sets[0].images))
    with torch.no_grad():
        sets[1].images.copy_(sets[0].images)
    assert one.state_dict().keys() == kept
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    one.advance()
    other.advance()
    assert torch.equal(sets[0].images, sets[1].images)
    assert not torch.equal(sets[0].images, start_of_classes())


def test_adam_is_that_of_pytorch_with_a_projection_and_resumes():
    synthetic = SimpleNamespace(images=start(), std=STD)
    ours, plain = PixelAdam(synthetic, lr=0.1), start().requires_grad_()
    reference = torch.optim.Adam([plain], lr=0.1)
    for step in range(6):
        if step == 3:  # another optimiser goes on with the saved state
            state = ours.state_dict()
            assert set(state) == {"step", "exp_avg", "exp_avg_sq"}
            ours = PixelAdam(synthetic, lr=0.5)
            ours.load_state_dict(state)
        plain.grad = start(step + 1) - 0.5
        ours.step(plain.grad, 0.1)
        reference.step()
        ours.project()
        with torch.no_grad():
            plain.clamp_(0, 1)
        torch.testing.assert_close(synthetic.images.detach(), plain.detach())
    assert PixelAdam(SimpleNamespace(images=start(), std=STD), lr=0.1).state_dict() == {}


def test_the_rate_is_halved_on_a_plateau_only():
    pixels = PixelSGD(start(), lr=0.4, momentum=0.0, space="pixel", std=STD)
    schedule, rates = pixels.halved_on_plateau(2), []
    for value in (3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0):
        schedule.step(value)
        rates.append(schedule.get_last_lr()[0])
    assert rates == [0.4] * 4 + [0.2] * 4 + [0.1]

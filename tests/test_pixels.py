"""The optimiser of the pixels against PyTorch's SGD on normalised images."""

import pytest
import torch

from dcond.errors import ConfigError
from dcond.pixels import PixelSGD

MEAN = torch.tensor([0.4, 0.5, 0.6], dtype=torch.float64).view(-1, 1, 1)
STD = (0.2, 0.25, 0.3)
SCALE = torch.tensor(STD, dtype=torch.float64).view(-1, 1, 1)


def start(seed=0) -> torch.Tensor:
    return torch.rand(4, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loss(normalised: torch.Tensor, step: int) -> torch.Tensor:
    """Some loss of normalised images that is another one in every step."""
    weight = torch.randn(normalised.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
    return (weight * normalised.tanh()).sum() + normalised.square().mean()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_normalised_space_walks_the_path_of_sgd_on_normalised_images(momentum):
    normalised = ((start() - MEAN) / SCALE).requires_grad_()
    reference = torch.optim.SGD([normalised], lr=0.3, momentum=momentum)
    images = start()
    ours = PixelSGD(images, lr=0.3, momentum=momentum, space="normalised", std=STD, pixel_box="free")
    for step in range(10):
        reference.zero_grad()
        loss(normalised, step).backward()
        reference.step()
        (gradient,) = torch.autograd.grad(loss((images - MEAN) / SCALE, step), images)
        ours.step(gradient)
        ours.project()
        torch.testing.assert_close(images.detach(), (normalised * SCALE + MEAN).detach(), rtol=1e-12, atol=1e-12)
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


def test_the_momentum_goes_on_where_it_was_saved():
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


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr": 0}, "method.lr=0 must be greater than 0 (step size of the images, in units of space='pixel')."),
        ({"lr": -1.0}, "method.lr=-1.0 must be greater than 0 (step size of the images, in units of space='pixel')."),
        (
            {"lr": float("nan")},
            "method.lr=nan must be greater than 0 (step size of the images, in units of space='pixel').",
        ),
        ({"momentum": 1}, "method.momentum=1 is out of range; allowed: 0 <= momentum < 1."),
        ({"momentum": -0.1}, "method.momentum=-0.1 is out of range; allowed: 0 <= momentum < 1."),
        ({"space": "norm"}, "method.space='norm' is unknown; allowed: pixel, normalised. Did you mean 'normalised'?"),
        ({"pixel_box": "clip"}, "method.pixel_box='clip' is unknown; allowed: project, free."),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ConfigError) as error:
        PixelSGD(start(), **({"lr": 0.1, "momentum": 0.5, "space": "pixel", "std": STD} | settings))
    assert str(error.value) == words

"""M3D's sweep over the classes and its vectorised form, in float64."""

import pytest
import torch
from torch import Tensor

from dcond.methods.m3d import M3D
from dcond.rng import Streams
from helpers.double import start
from helpers.linear_features import LinearRecipe
from helpers.m3d_runs import CLASSES, PER_CLASS, WHOLE


def sweeps(real, sweep, steps=6, momentum=0.5, kernel="gaussian", lr=0.02) -> Tensor:
    """Run without augmentation on whole classes and one network.

    Returns the images when the loss of their class is computed: (steps, classes, ipc, c, h, w).
    """
    method = M3D(
        network=LinearRecipe(),
        engine=WHOLE,
        augment=None,
        steps=steps,
        lr=lr,
        momentum=momentum,
        kernel=kernel,
        batch_real=PER_CLASS,
        factor=1,
        steps_per_network=steps,
        sweep=sweep,
        pixel_box="free",
    )
    synthetic, rng = start(real), Streams(0)
    state = method.init(real, synthetic, rng)
    match, seen = state.features.match, []

    def recorded(*args, **settings):
        seen.append(synthetic.by_class.detach().clone())
        return match(*args, **settings)

    object.__setattr__(state.features, "match", recorded)
    for _ in range(steps):
        method.step(real, synthetic, state)
    return torch.stack(seen)


def joint_with_momentum(real, steps, momentum, lr) -> Tensor:
    """Plain joint descent on the linear-kernel loss: v ← m·v + g, x ← x - lr·v, from the same start
    and network.
    """
    network = LinearRecipe().build(real.spec, Streams(0).networks)
    target = torch.stack(
        [network.embed(real.normalised(rows)).mean(0) for rows in real.class_rows]
    ).detach()
    x = start(real).images.requires_grad_()
    velocity, history = torch.zeros_like(x), []
    for _ in range(steps):
        history.append(x.detach().clone().view(CLASSES, 2, 1, 4, 4))
        means = network.embed(real.spec.normalise(x)).view(CLASSES, 2, -1).mean(1)
        (gradient,) = torch.autograd.grad((means - target).square().sum(), x)
        velocity = momentum * velocity + gradient
        x = (x - lr * velocity).detach().requires_grad_()
    return torch.stack(history)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_literal_sweep_is_joint_descent_with_momentum_m_to_the_k(real, momentum):
    """Between two of its turns a class coasts k steps: v ← m^k·v + g at a rate of lr·(1 - m^k) / (1
    - m), exactly.
    """
    lr = 0.05
    got = sweeps(real, "sequential", momentum=momentum, kernel="linear", lr=lr)
    decay = momentum**CLASSES
    effective = (
        lr * 2 * (1 - decay) / (1 - momentum)
    )  # the rate counts per stored image, and the ipc is 2
    torch.testing.assert_close(
        got, joint_with_momentum(real, 6, decay, effective), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("kernel", ["linear", "gaussian"])
def test_the_joint_step_is_the_sweep_up_to_m_to_the_k(real, kernel):
    momentum = 0.25
    literal = sweeps(real, "sequential", kernel=kernel, momentum=momentum)
    joint = sweeps(real, "joint", kernel=kernel, momentum=momentum)
    assert torch.equal(literal[0], joint[0])
    torch.testing.assert_close(
        literal[1], joint[1], rtol=1e-9, atol=1e-9
    )  # no earlier sweep coasts on yet
    travelled = (literal[-1] - literal[0]).abs().max()
    gap = (literal - joint).abs().max()
    assert 0 < gap < 5 * momentum**CLASSES * travelled
    without = sweeps(real, "sequential", kernel=kernel, momentum=0.0)
    assert (without - joint).abs().max() > 5 * gap  # the longer rate is what makes the two agree

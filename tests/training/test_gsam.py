"""GSAM: its gradient on a quadratic in closed form, and its steps by an optimiser."""

import pytest
import torch

from dcond.training.gsam import GSAM, perturbation, surrogate_gradient


@pytest.fixture
def quadratic():
    """A and b of the loss wᵀAw/2 - bᵀw, and w."""
    rng = torch.Generator().manual_seed(0)
    root, b, w = (torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((5, 5), (5,), (5,)))
    return root @ root.T, b, w


def expected(quadratic, rho, alpha, *, adaptive):
    """Return the gradient number by number."""
    a, b, w = quadratic

    def gradient(at):
        return [sum(float(a[i, j]) * at[j] for j in range(5)) - float(b[i]) for i in range(5)]

    at = w.tolist()
    g = gradient(at)
    scale = [abs(x) if adaptive else 1.0 for x in at]
    norm = sum((s * x) ** 2 for s, x in zip(scale, g, strict=True)) ** 0.5
    p = gradient([w + rho * s**2 * x / norm for w, s, x in zip(at, scale, g, strict=True)])
    length = sum(x**2 for x in p) ** 0.5
    along = sum(x * y / length for x, y in zip(g, p, strict=True))
    orthogonal = [x - along * y / length for x, y in zip(g, p, strict=True)]
    assert sum(x * y for x, y in zip(orthogonal, p, strict=True)) == pytest.approx(0, abs=1e-9)
    found = [x - alpha * y for x, y in zip(p, orthogonal, strict=True)]
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("rho", "alpha"), [(0.01, 0.3), (0.5, 0.0), (0.5, 2.0)])
def test_the_gradient_on_a_quadratic(quadratic, rho, alpha, adaptive):
    a, b, w = quadratic
    parts = slice(0, 2), slice(2, 5)  # two parameters: norms are over both
    g = a @ w - b
    e = perturbation(
        [w[part] for part in parts], [g[part] for part in parts], rho, adaptive=adaptive
    )
    p = a @ (w + torch.cat(e)) - b
    found = surrogate_gradient([g[part] for part in parts], [p[part] for part in parts], alpha)
    torch.testing.assert_close(
        torch.cat(found), expected(quadratic, rho, alpha, adaptive=adaptive), rtol=1e-9, atol=1e-9
    )


def test_a_step_is_one_of_sgd_on_that_gradient(quadratic):
    a, b, start = quadratic
    w, unused = torch.nn.Parameter(start.clone()), torch.nn.Parameter(torch.ones(2))
    how = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    optimiser = GSAM([w, unused], rho=0.5, alpha=0.3, adaptive=False, **how)
    plain = torch.nn.Parameter(start.clone())
    sgd = torch.optim.SGD([plain], **how)

    def loss():
        optimiser.zero_grad()
        value = w @ a @ w / 2 - b @ w
        value.backward()
        return value

    for _ in range(3):
        before = w.detach().clone()
        assert float(optimiser.step(loss).detach()) == pytest.approx(
            float(before @ a @ before / 2 - b @ before)
        )
        plain.grad = expected((a, b, before), 0.5, 0.3, adaptive=False)
        sgd.step()
        torch.testing.assert_close(w, plain)
    assert unused.tolist() == [1, 1]


def test_a_gradient_of_zero_is_none(quadratic):
    zero = [torch.zeros(3)]
    assert perturbation([torch.ones(3)], zero, 0.1, adaptive=True)[0].tolist() == [0, 0, 0]
    assert surrogate_gradient(zero, zero, 0.3)[0].tolist() == [0, 0, 0]

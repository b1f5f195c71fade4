"""The closed form of a linear head's gradient, and LGM's distance, against autograd twice."""

import torch
import torch.nn.functional as F

from dcond.matching.distances import whole_cosine
from dcond.matching.head_gradients import head_gradient


def drawn(n, seed):
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 5, generator=rng, dtype=torch.float64)
    return z, torch.randint(3, (n,), generator=rng)


def by_autograd(z, labels, weight, bias, *, graph=False):
    weight, bias = (each.clone().requires_grad_() for each in (weight, bias))
    loss = F.cross_entropy(F.linear(z, weight, bias), labels)
    gradients = torch.autograd.grad(loss, [weight, bias], create_graph=graph)
    return torch.cat([each.flatten() for each in gradients])


def test_the_gradient_and_the_distance_are_those_of_autograd():
    (z, labels), (real, real_labels) = drawn(7, 0), drawn(11, 1)
    rng = torch.Generator().manual_seed(2)
    weight = torch.randn(3, 5, generator=rng, dtype=torch.float64)
    bias = torch.randn(3, generator=rng, dtype=torch.float64)
    ours = head_gradient(z.requires_grad_(), labels, weight, bias)
    slow = by_autograd(z, labels, weight, bias, graph=True)
    flat = torch.cat([ours[:, :-1].flatten(), ours[:, -1]])
    torch.testing.assert_close(flat, slow)

    target = head_gradient(real, real_labels, weight, bias)
    loss = whole_cosine([ours], [target])
    theirs = by_autograd(real, real_labels, weight, bias)
    slow_loss = 1 - F.cosine_similarity(slow, theirs, dim=0)
    torch.testing.assert_close(loss, slow_loss, rtol=1e-5, atol=1e-5)
    (fast,) = torch.autograd.grad(loss, z)
    (expected,) = torch.autograd.grad(slow_loss, z)
    torch.testing.assert_close(fast, expected, rtol=1e-5, atol=1e-6)


def test_the_distance_is_zero_for_the_same_batch_and_two_for_the_opposite_labels():
    z, _ = drawn(4, 0)
    weight, bias = torch.zeros(2, 5, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 1])
    ours = head_gradient(z, labels, weight, bias)
    assert abs(float(whole_cosine([ours], [ours]))) < 1e-5
    opposite = head_gradient(z, 1 - labels, weight, bias)  # at W = 0 the residuals change sign
    torch.testing.assert_close(opposite, -ours)
    assert abs(float(whole_cosine([opposite], [ours])) - 2) < 1e-5

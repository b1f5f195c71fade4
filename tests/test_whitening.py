"""ZCA whitening against its closed forms."""

import torch

from dcond.types import ImageSpec
from dcond.whitening import EPS, fit_whitening


def pixels(n: int = 50, seed: int = 0) -> torch.Tensor:
    """Correlated images: the second pixel is half the first plus noise."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, 1, 2, 3), generator=rng)
    images[:, 0, 0, 1] = images[:, 0, 0, 0] // 2 + images[:, 0, 0, 1] // 4
    return images.to(torch.uint8)


def test_the_covariance_after_whitening_is_that_of_the_formula():
    """With C the covariance: W C W = C (C + eps)^-1, the identity for eps = 0; the mean becomes 0."""
    images = pixels()
    for eps in (0.1, 1e-6):
        white = fit_whitening(images, eps).apply(images.double() / 255).flatten(1)
        flat = images.double().flatten(1) / 255
        covariance = torch.cov(flat.T)
        wanted = covariance @ torch.linalg.inv(covariance + eps * torch.eye(6))
        assert torch.allclose(white.mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-5)
        assert torch.allclose(torch.cov(white.T), wanted, atol=1e-4)
    assert torch.allclose(torch.cov(white.T), torch.eye(6, dtype=torch.float64), atol=1e-2)


def test_two_pixels_by_hand():
    """Values (0, 0) and (1, 1): covariance of halves, eigenvalues 1 along (1, 1) and 0 across."""
    images = torch.tensor([[[[0, 0]]], [[[255, 255]]]], dtype=torch.uint8)
    got = fit_whitening(images)
    along, across = (1 + EPS) ** -0.5, EPS**-0.5
    wanted = torch.tensor([[along + across, along - across], [along - across, along + across]]) / 2
    assert torch.allclose(got.mean, torch.tensor([0.5, 0.5]))
    assert torch.allclose(got.matrix, wanted, atol=1e-5)


def test_symmetric_invertible_and_near_the_image():
    got = fit_whitening(pixels())
    assert torch.allclose(got.matrix, got.matrix.T, atol=1e-6)
    assert torch.allclose(got.matrix @ got.inverse, torch.eye(6), atol=1e-5)
    images = pixels(7, seed=1).float() / 255
    assert torch.allclose(got.undo(got.apply(images)), images, atol=1e-5)


def test_in_chunks_as_at_once(monkeypatch):
    images = pixels()
    whole = fit_whitening(images)
    monkeypatch.setattr("dcond.whitening.CHUNK", 7)
    assert torch.allclose(fit_whitening(images).matrix, whole.matrix)


def test_one_image_can_be_whitened():
    assert torch.isfinite(fit_whitening(pixels(1)).matrix).all()


def test_a_spec_whitens_first_and_normalises_then():
    whitening = fit_whitening(pixels())
    spec = ImageSpec(1, 2, 3, 2, (0.5,), (2.0,), whitening)
    images = pixels(4, seed=2).float() / 255
    assert torch.allclose(spec.normalise(images), (whitening.apply(images) - 0.5) / 2)
    assert torch.allclose(spec.denormalise(spec.normalise(images)), images, atol=1e-5)


def test_images_by_class_are_whitened_as_in_one_row():
    images = pixels()
    whitening = fit_whitening((images * 255).to(torch.uint8))
    by_class = images.view(5, 10, *images.shape[1:])
    for change in (whitening.apply, whitening.undo, whitening.pixel_step):
        torch.testing.assert_close(change(by_class).flatten(0, 1), change(images))

"""Resized crops against torchvision's, one by one, and the boxes that are drawn."""

import pytest
import torch
from torchvision.transforms import functional as reference

from dcond.augment import DiffAug
from dcond.augment.resized_crop import draw_boxes, resize_boxes


def images(n=12, h=11, w=17, seed=0):
    return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(seed))


def boxes(n=200, size=(11, 17), seed=0, **settings):
    return draw_boxes(n, size, torch.Generator().manual_seed(seed), **settings)


@pytest.mark.parametrize("size", [(5, 4), (11, 17), (23, 8)])
def test_a_batch_is_the_crops_of_torchvision(size):
    given, drawn = images(), boxes(12, area=0.02)
    ours = resize_boxes(given, drawn, size)
    theirs = [
        reference.resized_crop(image, *map(int, box), list(size), antialias=True)
        for image, box in zip(given, drawn, strict=True)
    ]
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=0, atol=1e-5)


def test_the_gradient_is_that_of_the_crops_alone():
    given, drawn = images().double().requires_grad_(), boxes(12, area=0.1)
    resize_boxes(given, drawn, (6, 6)).square().sum().backward()
    for image, box, gradient in zip(given.detach(), drawn, given.grad, strict=True):
        one = image.clone().requires_grad_()
        reference.resized_crop(
            one, *map(int, box), [6, 6], antialias=True
        ).square().sum().backward()
        torch.testing.assert_close(gradient, one.grad, rtol=1e-6, atol=1e-6)


def test_boxes_lie_inside_and_have_the_area_and_ratio_asked_for():
    top, left, height, width = boxes(2000, (32, 48), area=0.1).T
    assert min(top.min(), left.min()) == 0
    assert (top + height).max() == 32
    assert (left + width).max() == 48
    part = height * width / (32 * 48)
    assert 0.08 < part.min() < 0.12
    assert 0.85 < part.max() < 0.9  # of the ratio 4 : 3
    ratio = width / height
    assert 0.65 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.55
    square = boxes(500, (32, 32), area=0.08, ratio=(1, 1))
    assert torch.equal(square[:, 2], square[:, 3])


def test_where_no_box_fits_the_image_stays_whole():
    whole = boxes(3, (8, 8), area=1.0, ratio=(3, 4))
    assert whole.tolist() == [[0, 0, 8, 8]] * 3
    given = images(3, 8, 8)
    torch.testing.assert_close(resize_boxes(given, whole, (8, 8)), given)


def test_as_a_family_every_image_has_its_own_box():
    augment = DiffAug(["resized_crop", "flip"], "idc", area=0.3)
    given = images(6, 8, 8)
    one = augment.per_image(given, torch.Generator().manual_seed(3))
    assert one.shape == given.shape
    assert (one - given).abs().amax((1, 2, 3)).min() > 0.01
    rng = torch.Generator().manual_seed(3)
    flipped = torch.rand(6, generator=rng) < 0.5
    drawn = draw_boxes(6, (8, 8), rng, area=0.3)
    mirrored = torch.where(flipped.view(-1, 1, 1, 1), given.flip(-1), given)
    torch.testing.assert_close(one, resize_boxes(mirrored, drawn, (8, 8)))

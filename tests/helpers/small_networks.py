"""A small network of each kind in float64, and images for it."""

import pytest
import torch

from dcond.models import MLP, VGG11, AlexNet, ConvNet, LeNet, ResNet, ViT
from dcond.rng import generator
from dcond.types import ImageSpec

SPEC = ImageSpec(1, 8, 8, 3, (0.5,), (0.25,))
RECIPES = [
    ConvNet(name="ConvNet", width=4),
    ConvNet(name="ConvNetBN", width=4, norm="batch"),
    MLP(name="MLP", hidden=(8,)),
    LeNet(name="LeNet"),
    AlexNet(name="AlexNet"),
    VGG11(name="VGG11"),
    ResNet(name="ResNetAP", blocks=(1, 1), width=4, downsample="avg_pool"),
    ViT(name="ViT", depth=1, width=8, heads=2),
]
by_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def images(count, seed, classes=3):
    return torch.randn(
        classes, count, 1, 8, 8, generator=generator(seed, "images"), dtype=torch.float64
    )


def network_of(recipe):
    return recipe.build(SPEC, generator(0, "network")).double()

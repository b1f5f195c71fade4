"""Networks: recipes (hyper-parameters) that build classifiers with two taps, and pools of them."""

from dcond.models.base import Network, Pool, Recipe
from dcond.models.classic import MLP, VGG11, AlexNet, LeNet
from dcond.models.convnet import ConvNet
from dcond.models.resnet import ResNet
from dcond.models.timm_network import Timm
from dcond.models.vit import ViT

__all__ = [
    "MLP",
    "VGG11",
    "AlexNet",
    "ConvNet",
    "LeNet",
    "Network",
    "Pool",
    "Recipe",
    "ResNet",
    "Timm",
    "ViT",
]

"""Networks: recipes (hyper-parameters) that build classifiers with two taps, and pools of them."""

from dcond.models.alexnet import AlexNet
from dcond.models.base import Network, Pool, Recipe
from dcond.models.convnet import ConvNet
from dcond.models.lenet import LeNet
from dcond.models.mlp import MLP
from dcond.models.resnet import ResNet
from dcond.models.timm_network import Timm
from dcond.models.vgg import VGG11
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

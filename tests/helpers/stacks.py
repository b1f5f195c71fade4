"""Networks trained together or one by one, stored so that their weights can be compared."""

from dataclasses import dataclass, field

import torch
from torch import nn

from dcond.evaluation import EvaluationProtocol
from dcond.models import MLP, ConvNet, Pool, Recipe, ResNet, ViT

NETWORKS = [
    ConvNet(name="ConvNet", width=8, depth=2),
    MLP(name="MLP", hidden=(12,)),
    ResNet(name="ResNet", blocks=(1, 1), width=4),
    ViT(name="ViT", depth=2, width=12),
    ConvNet(name="ConvNet-BN", width=8, depth=2, norm="batch"),
]


class Cast(nn.Module):
    """Computes in the precision of its weights whatever the dtype of the images."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.to(next(self.parameters()).dtype))


@dataclass(frozen=True, kw_only=True)
class Kept(Recipe):
    """The networks of another recipe in float64 or float32, stored for comparison."""

    inner: Recipe
    dtype: torch.dtype = torch.float64
    built: list = field(default_factory=list, compare=False, repr=False)

    def module(self, spec):
        return Cast(self.inner.module(spec))

    def build(self, spec, rng, device="cpu"):
        self.built.append(super().build(spec, rng, device).to(self.dtype))
        return self.built[-1]


def settings(**given) -> EvaluationProtocol:
    return EvaluationProtocol(
        **(
            {"name": "x", "epochs": 25, "batch": 4, "repeats": 3, "lr_milestones": (), "lr": 0.02}
            | given
        )
    )


def train(
    how: EvaluationProtocol,
    inner: Recipe,
    sets,
    toy,
    dtype=torch.float64,
    held_out=None,
    teacher=None,
):
    """Return the result and the networks that were built."""
    recipe = Kept(name=inner.name, inner=inner, dtype=dtype)
    found = how.evaluate(
        sets, Pool(networks={inner.name: recipe}), toy.test, 0, held_out=held_out, teacher=teacher
    )
    return found.networks[inner.name], recipe.built

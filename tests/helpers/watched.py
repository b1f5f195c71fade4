"""Short evaluations of small networks, stored so that their weights can be compared."""

from dataclasses import dataclass, field

import torch

from dcond.evaluation import EvaluationProtocol
from dcond.models import MLP, Pool


@dataclass(frozen=True, kw_only=True)
class WatchedMLP(MLP):
    """Stores every network it builds and its initial weights."""

    built: list = field(default_factory=list, compare=False)

    def build(self, spec, rng, device="cpu"):
        network = super().build(spec, rng, device)
        self.built.append(
            (network, {name: value.clone() for name, value in network.state_dict().items()})
        )
        return network


def watched(name="MLP", lr=0.05) -> WatchedMLP:
    return WatchedMLP(name=name, hidden=(12,), lr=lr)


def quick(**settings) -> EvaluationProtocol:
    return EvaluationProtocol(
        **({"name": "quick", "epochs": 5, "repeats": 2, "lr_milestones": ()} | settings)
    )


def evaluate(protocol, synthetic, toy, *recipes, seed=0, test=None):
    pool = Pool(networks={recipe.name: recipe for recipe in recipes})
    return protocol.evaluate(lambda repeat: synthetic, pool, test or toy.test, seed)


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)

"""The evaluation protocol: train every network of a pool from scratch on a set, test once, after the last epoch."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcond.augment import DiffAug
from dcond.errors import DataError, at_least_one, one_of, require
from dcond.evaluate.results import EvalResult, NetworkResult
from dcond.models import Pool, Recipe
from dcond.rng import generator
from dcond.training import training_step
from dcond.types import ImageSpec, RealData, Split, SyntheticSet

Sets = Callable[[int], SyntheticSet]  # the set that repeat r trains on


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a network is trained on a synthetic set. Nothing in it looks at the test set before the end.

    Args:
        name: how results call the protocol.
        epochs: passes over the decoded set.
        batch: images per step; the last batch of an epoch may be smaller.
        repeats: networks trained per architecture, each from its own seed.
        optimiser: "sgd" or "adamw".
        momentum: of SGD.
        weight_decay: of the optimiser.
        lr: learning rate of every network; None takes each one's own from the pool.
        drops: fractions of the epochs after which the rate is multiplied by ``drop``.
        drop: that factor.
        forget_at_drop: start a new optimiser at each drop, momentum lost, as the DC family's code does.
        augment: augmentation of the training images; None for none.
        cutmix_p: chance of CutMix per batch.
        test_batch: test images per forward pass.
    """

    name: str
    epochs: int
    batch: int = 256
    repeats: int = 5
    optimiser: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr: float | None = None
    drops: tuple[float, ...] = (0.5,)
    drop: float = 0.1
    forget_at_drop: bool = False
    augment: DiffAug | None = None
    cutmix_p: float = 0.0
    test_batch: int = 1000

    def __post_init__(self) -> None:
        for field in ("epochs", "batch", "repeats", "test_batch"):
            at_least_one(f"evaluation.{field}", getattr(self, field))
        one_of("evaluation.optimiser", self.optimiser, ("sgd", "adamw"))
        require(0 <= self.cutmix_p <= 1, f"evaluation.cutmix_p={self.cutmix_p} is out of range; allowed: 0 to 1.")
        require(self.lr is None or self.lr > 0, f"evaluation.lr={self.lr} must be greater than 0, or null.")
        inside = all(0 < fraction < 1 for fraction in self.drops)
        require(inside, f"evaluation.drops={list(self.drops)}: fractions of the epochs lie between 0 and 1.")

    def evaluate(
        self,
        sets: Sets,
        pool: Pool,
        test: Split,
        seed: int,
        *,
        progress: Callable[[str], None] = lambda note: None,
    ) -> EvalResult:
        """Train ``repeats`` networks of every recipe and test each once.

        Args:
            sets: ``sets(r)`` is what repeat r trains on: the same set each time, or a fresh random subset.
            pool: the architectures.
            test: uint8 test images and labels.
            seed: of the run; the networks of repeat r start alike whatever set they train on, so sets are compared
                in pairs.
            progress: told the network and repeat that just ended.
        """
        results = {}
        for name, recipe in pool.networks.items():
            start, accuracies = time.perf_counter(), []
            for repeat in range(self.repeats):
                rng = generator(seed, f"evaluation/{name}/{repeat}")
                accuracies.append(self._train_and_test(recipe, sets(repeat), test, rng))
                progress(f"{name} {repeat + 1}/{self.repeats}")
            wall_s = time.perf_counter() - start
            results[name] = NetworkResult(tuple(accuracies), self.lr or recipe.lr, self.epochs, wall_s)
        return EvalResult(self.name, results)

    def _train_and_test(self, recipe: Recipe, synthetic: SyntheticSet, test: Split, rng: torch.Generator) -> float:
        network = recipe.build(synthetic.spec, rng, test.images.device)
        with torch.no_grad():  # the set may still be what a method optimises
            images, labels = synthetic.to(test.images.device).decoded()
            images = synthetic.spec.normalise(images)
        lr = self.lr or recipe.lr
        optimiser = self._optimiser(network, lr)
        drops = {max(1, round(fraction * self.epochs)) for fraction in self.drops}
        for epoch in range(self.epochs):
            if epoch in drops:
                lr *= self.drop
                if self.forget_at_drop:
                    optimiser = self._optimiser(network, lr)
                for group in optimiser.param_groups:
                    group["lr"] = lr
            self._epoch(network, optimiser, images, labels, rng)
        return accuracy(network, synthetic.spec, test, self.test_batch)

    def _epoch(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor, rng: torch.Generator
    ) -> None:
        for rows in torch.randperm(len(images), generator=rng).to(images.device).split(self.batch):
            training_step(
                network, optimiser, images[rows], labels[rows], augment=self.augment, cutmix_p=self.cutmix_p, rng=rng
            )

    def _optimiser(self, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        if self.optimiser == "adamw":
            return torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(network.parameters(), lr=lr, momentum=self.momentum, weight_decay=self.weight_decay)


@torch.no_grad()
def accuracy(network: nn.Module, spec: ImageSpec, test: Split, batch: int = 1000) -> float:
    """Return the fraction of test images (uint8) that the network, in evaluation mode, labels correctly."""
    network.eval()
    correct = torch.zeros((), dtype=torch.long, device=test.images.device)
    for images, labels in zip(test.images.split(batch), test.labels.split(batch), strict=True):
        logits = network(spec.normalise(images.float() / 255))
        correct += (logits.argmax(1) == labels).sum()
    return int(correct) / len(test)


def check_fits(synthetic: SyntheticSet, real: RealData) -> None:
    """Raise :class:`DataError` unless the set can be tested on this data: same image size, channels and classes."""
    ours, theirs = synthetic.spec, real.spec
    for what in ("channels", "height", "width", "classes"):
        if getattr(ours, what) != getattr(theirs, what):
            raise DataError(
                f"the synthetic set has {what}={getattr(ours, what)}, data set {real.name!r} has "
                f"{getattr(theirs, what)}; evaluate it on the data set it was made from (dataset=NAME)."
            )

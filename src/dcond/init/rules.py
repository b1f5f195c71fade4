"""Rules that choose real images of every class: at random, by herding, k-center or k-means."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dcond.errors import one_of, require
from dcond.matching.batches import ClassFeatures, class_features
from dcond.matching.kmeans import k_means, padded_by_class
from dcond.memory import to_device
from dcond.models import Recipe
from dcond.rng import Streams, seeded_layers
from dcond.training.steps import training_step
from dcond.types import RealData, draw_rows


class Rule(Protocol):
    """Chooses rows of the training split."""

    def __call__(self, real: RealData, count: int, rng: Streams) -> list[Tensor]:
        """Return for each class ``count`` rows (int64), all different where the class has enough images."""
        ...


@dataclass(frozen=True, kw_only=True)
class Random:
    """A random draw; ``order="first"`` takes the first images of each class instead (what the IDC family does)."""

    order: str = "random"

    def __post_init__(self) -> None:
        one_of("order", self.order, ("random", "first"))

    def __call__(self, real: RealData, count: int, rng: Streams) -> list[Tensor]:
        """Choose at random, or the first."""
        if self.order == "first":
            return [_in_turn(rows, count) for rows in real.class_rows]
        return [draw_rows(rows, count, rng.initialisation) for rows in real.class_rows]


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Features of the real images under one network, for rules that need distances.

    Args:
        network: the recipe of the network.
        train_steps: SGD steps on the real training images before embedding; 0 embeds with random
            weights.
        batch: images per training step, and the unit of the embedding passes.
    """

    network: Recipe
    train_steps: int = 300
    batch: int = 256

    def __post_init__(self) -> None:
        require(
            self.train_steps >= 0,
            f"train_steps={self.train_steps} is out of range; allowed: 0 or more.",
        )
        require(self.batch >= 1, f"batch={self.batch} is out of range; allowed: 1 or more.")

    def __call__(self, real: RealData, rng: Streams) -> Iterator[ClassFeatures]:
        """Yield the features of all training images, some classes at a time, float32 on the data's device."""
        network = self.network.build(real.spec, rng.networks, real.device)
        optimiser = torch.optim.SGD(
            network.parameters(), lr=self.network.lr, momentum=0.9, weight_decay=5e-4
        )
        with seeded_layers(rng.seed, "embedding", real.device):
            for _ in range(self.train_steps):
                rows = torch.randint(len(real.train), (self.batch,), generator=rng.real)
                labels = real.train.labels[to_device(rows, real.device)]
                training_step(
                    network, optimiser, real.normalised(rows), labels, rng=rng.augmentation
                )
        return class_features(network, real, 4 * self.batch)


@dataclass(frozen=True, kw_only=True)
class Herding:
    """Greedy herding: the next image brings the mean of the chosen features closest to the class mean.

    i_t = argmin_i ‖ μ - (z_i + Σ_chosen z) / t ‖.   Paper: Welling, Herding dynamical weights (ICML 2009).
    """

    embedding: Embedding

    def __call__(self, real: RealData, count: int, rng: Streams) -> list[Tensor]:
        """Choose greedily, the class mean in view."""
        return _per_class(self.embedding(real, rng), count, herd)


@dataclass(frozen=True, kw_only=True)
class KCenter:
    """Greedy k-center: start nearest the class mean, then always the image farthest from those chosen.

    Paper: Sener and Savarese, Active learning for CNNs: a core-set approach, arXiv 1708.00489.
    """

    embedding: Embedding

    def __call__(self, real: RealData, count: int, rng: Streams) -> list[Tensor]:
        """Choose greedily, the farthest next."""
        return _per_class(self.embedding(real, rng), count, k_center)


@dataclass(frozen=True, kw_only=True)
class KMeans:
    """K-means with as many clusters as images wanted; each centroid takes the nearest image not yet taken."""

    embedding: Embedding
    iterations: int = 100

    def __call__(self, real: RealData, count: int, rng: Streams) -> list[Tensor]:
        """Choose the image nearest each centroid."""
        chosen = []
        for found in self.embedding(real, rng):
            points, mask, _ = padded_by_class(found.features, found.places)
            centroids = k_means(points, mask, count, rng.initialisation, self.iterations)
            for places, z, centres in zip(found.places, points, centroids, strict=True):
                picks = nearest_unused(torch.cdist(centres, z[: len(places)])[: len(places)]).cpu()
                chosen.append(_in_turn(found.rows[places[picks]], count))
        return chosen


def _per_class(embedded: Iterable[ClassFeatures], count: int, choose: "_Chooser") -> list[Tensor]:
    """Apply ``choose`` to each class's features; a class with fewer images repeats its own in turn."""
    chosen = []
    for found in embedded:
        for places in found.places:
            picks = choose(
                found.features[places.to(found.features.device)], min(count, len(places))
            ).cpu()
            chosen.append(_in_turn(found.rows[places[picks]], count))
    return chosen


def _in_turn(rows: Tensor, count: int) -> Tensor:
    """Return ``count`` rows: the given ones, again and again."""
    return rows[torch.arange(count) % len(rows)]


class _Chooser(Protocol):
    def __call__(self, z: Tensor, n: int, /) -> Tensor: ...


def herd(z: Tensor, count: int) -> Tensor:
    """Return ``count`` different rows of z (n, d) by greedy herding, in the order chosen."""
    mean, total = z.mean(0), torch.zeros_like(z[0])
    free = torch.ones(len(z), dtype=torch.bool, device=z.device)
    picks = []
    for t in range(1, count + 1):
        distance = (mean - (z + total) / t).norm(dim=1)
        pick = torch.where(free, distance, torch.inf).argmin()
        picks.append(pick)
        free[pick] = False
        total = total + z[pick]
    return torch.stack(picks)


def k_center(z: Tensor, count: int) -> Tensor:
    """Return ``count`` different rows of z (n, d) by greedy farthest-first traversal from the row nearest the mean."""
    picks = [(z - z.mean(0)).norm(dim=1).argmin()]
    distance = torch.full((len(z),), torch.inf, device=z.device)
    while len(picks) < count:
        distance = torch.minimum(distance, (z - z[picks[-1]]).norm(dim=1))
        distance[picks[-1]] = -1  # never chosen twice, also among duplicates
        picks.append(distance.argmax())
    return torch.stack(picks)


def nearest_unused(distance: Tensor) -> Tensor:
    """For each row of (centres, n) in turn, the nearest column not yet taken."""
    distance = distance.clone()
    picks = []
    for row in range(len(distance)):
        pick = distance[row].argmin()
        picks.append(pick)
        distance[:, pick] = torch.inf
    return torch.stack(picks)

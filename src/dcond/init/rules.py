"""Rules that select real images of every class: at random, by herding, k-center or k-means."""

import math
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import torch
from torch import Tensor

from dcond.log import counted
from dcond.matching.batches import ClassFeatures, class_features
from dcond.matching.kmeans import k_means, padded_by_class
from dcond.models import Recipe
from dcond.rng import Streams, seeded_layers
from dcond.settings import NonNegativeInt, PositiveInt, settings
from dcond.training.steps import training_step
from dcond.types import RealData, draw_rows

MAX_EPOCHS = 100  # of the embedding's training, on a small data set


class Rule(Protocol):
    """Selects rows of the training split."""

    def __call__(self, real: RealData, count: int, rng: Streams) -> list[Tensor]:
        """Return ``count`` rows (int64) of each class, distinct if the class has enough images."""
        ...


@settings
class Random:
    """A random draw.

    Args:
        order: "random"; or "first", those that come first in each class, as the IDC family does.
    """

    order: Literal["random", "first"] = "random"

    def __call__(self, real: RealData, count: int, rng: Streams) -> list[Tensor]:
        """Return rows of each class, see :class:`Rule`."""
        if self.order == "first":
            return [_cycle(rows, count) for rows in real.class_rows]
        return [draw_rows(rows, count, rng.initialisation) for rows in real.class_rows]


@settings
class Embedding:
    """Features of the real images under one network, for rules that need distances.

    Args:
        network: the recipe of the network.
        train_steps: SGD steps on the real training images before embedding, on a small data set
            as many as ``MAX_EPOCHS`` passes take; 0 embeds with random weights.
        batch: images per training step, at most all; embedding takes four times as many at once.
    """

    network: Recipe
    train_steps: NonNegativeInt = 300
    batch: PositiveInt = 256

    def __call__(self, real: RealData, rng: Streams) -> Iterator[ClassFeatures]:
        """Yield float32 features of all training images on the device, some classes at a time."""
        count = len(real.train)
        batch = min(self.batch, count)
        steps = min(self.train_steps, math.ceil(MAX_EPOCHS * count / batch))
        network = self.network.build(real.spec, rng.networks, real.device)
        optimiser = torch.optim.SGD(
            network.parameters(), lr=self.network.lr, momentum=0.9, weight_decay=5e-4
        )
        with seeded_layers(rng.seed, "embedding", real.device):
            for _ in counted(steps, "training the embedding"):
                rows = torch.randint(count, (batch,), generator=rng.real)
                training_step(network, optimiser, *real.batch(rows), rng=rng.augmentation)
        return class_features(network, real, 4 * self.batch)

    def select(
        self, real: RealData, count: int, rng: Streams, select: Callable[[Tensor, int], Tensor]
    ) -> list[Tensor]:
        """Return the rows of each class that ``select(features, n)`` picks.

        A class with fewer than ``count`` images repeats its own in turn.
        """
        selected = []
        for batch in self(real, rng):
            for places in batch.places:
                features = batch.features[places.to(batch.features.device)]
                picks = select(features, min(count, len(places))).cpu()
                selected.append(_cycle(batch.rows[places[picks]], count))
        return selected


@settings
class Herding:
    """Greedy herding: the next image brings the mean of the selected features closest to the mean.

    i_t = argmin_i ‖ μ - (z_i + Σ_selected z) / t ‖ with μ the mean of the class's features.

    Paper: Welling, Herding dynamical weights (ICML 2009).
    """

    embedding: Embedding

    def __call__(self, real: RealData, count: int, rng: Streams) -> list[Tensor]:
        """Return rows of each class, see :class:`Rule`."""
        return self.embedding.select(real, count, rng, herd)


@settings
class KCenter:
    """Greedy k-center: start nearest the class mean, then add the image farthest from the selected.

    Paper: Sener and Savarese, Active learning for CNNs: a core-set approach, arXiv 1708.00489.
    """

    embedding: Embedding

    def __call__(self, real: RealData, count: int, rng: Streams) -> list[Tensor]:
        """Return rows of each class, see :class:`Rule`."""
        return self.embedding.select(real, count, rng, k_center)


@settings
class KMeans:
    """K-means with ``count`` clusters; each centroid takes the nearest image that is still free.

    Args:
        embedding: gives the features.
        iterations: of k-means.
    """

    embedding: Embedding
    iterations: PositiveInt = 100

    def __call__(self, real: RealData, count: int, rng: Streams) -> list[Tensor]:
        """Return rows of each class, see :class:`Rule`."""
        selected = []
        for batch in self.embedding(real, rng):
            points, mask, _ = padded_by_class(batch.features, batch.places)
            centroids = k_means(points, mask, count, rng.initialisation, self.iterations)
            for places, z, centres in zip(batch.places, points, centroids, strict=True):
                distance = torch.cdist(centres, z[: len(places)])
                picks = nearest_unused(distance[: len(places)]).cpu()
                selected.append(_cycle(batch.rows[places[picks]], count))
        return selected


def _cycle(rows: Tensor, count: int) -> Tensor:
    """Return ``count`` rows: the given ones, again and again."""
    return rows[torch.arange(count) % len(rows)]


def herd(z: Tensor, count: int) -> Tensor:
    """Return ``count`` distinct rows of z (n, d) by greedy herding, in order of selection."""
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
    """Return ``count`` distinct rows of z (n, d), farthest first, from the row nearest the mean."""
    picks = [(z - z.mean(0)).norm(dim=1).argmin()]
    distance = torch.full((len(z),), torch.inf, device=z.device)
    while len(picks) < count:
        distance = torch.minimum(distance, (z - z[picks[-1]]).norm(dim=1))
        distance[picks[-1]] = -1  # never selected twice, even among duplicates
        picks.append(distance.argmax())
    return torch.stack(picks)


def nearest_unused(distance: Tensor) -> Tensor:
    """Return for each row of (centres, n), in order, the nearest column that is still free."""
    distance = distance.clone()
    picks = []
    for row in range(len(distance)):
        pick = distance[row].argmin()
        picks.append(pick)
        distance[:, pick] = torch.inf
    return torch.stack(picks)

"""K-means of all classes at once, on the device of the features.

Letters: k classes, n points of the largest class, d features, m clusters. Smaller classes are
padded to n; a mask (k, n) is true for points and false for padding.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from dcond.device import to_device
from dcond.matching.batches import class_features
from dcond.models import Network
from dcond.types import RealData

EMBEDDED = 512  # real images per pass without a graph


def select_rows(
    network: Network,
    real: RealData,
    count: int,
    rng: torch.Generator,
    fast: AbstractContextManager[object],
) -> Tensor:
    """Return the rows (k, count) of real images nearest to the centroids of every class.

    Args:
        network: its embedding of all training images is clustered.
        real: the data set.
        count: centroids per class.
        rng: as in :func:`k_means`.
        fast: precision of the embedding, a reusable context.
    """
    selected = []
    for part in class_features(network, real, EMBEDDED, fast):
        nearest = representatives(part.features, part.places, count, rng)
        selected.append(to_device(part.rows, nearest.device)[nearest])
    return torch.cat(selected)


def representatives(
    features: Tensor, class_rows: Sequence[Tensor], count: int, rng: torch.Generator
) -> Tensor:
    """Return the rows of the points nearest to every class's ``count`` centroids: (k, count).

    The arguments are those of :func:`padded_by_class` and :func:`k_means`. A point that is nearest
    to two centroids is returned twice.
    """
    points, mask, rows = padded_by_class(features, class_rows)
    return rows.gather(1, nearest_points(points, mask, k_means(points, mask, count, rng)))


def padded_by_class(
    features: Tensor, class_rows: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gather features (N, d) by class.

    Args:
        features: features of all images.
        class_rows: for each class its rows, at least one.

    Returns:
        Points (k, n, d), mask (k, n), and the row of each point (k, n). Padding repeats the first
        row of the class.
    """
    longest = max(len(rows) for rows in class_rows)
    rows = torch.stack([torch.cat([own, own[:1].expand(longest - len(own))]) for own in class_rows])
    sizes = torch.tensor([len(own) for own in class_rows])
    mask = torch.arange(longest) < sizes[:, None]
    rows, mask = rows.to(features.device), mask.to(features.device)
    return features[rows], mask, rows


def k_means(
    points: Tensor, mask: Tensor, count: int, rng: torch.Generator, iterations: int = 100
) -> Tensor:
    """Return centroids (k, count, d): k-means++ start, then Lloyd steps until no cluster changes.

    An empty cluster moves to one of the points of its class that are farthest from their centroids.
    If all points are centroids (fewer distinct points than clusters), it stays.

    Paper: Arthur and Vassilvitskii, k-means++ (SODA 2007): the expected inertia is at most 8 (ln m
    + 2) times the best.

    Args:
        points: (k, n, d), at least float32.
        mask: (k, n), true for points; every class has at least one.
        count: m.
        rng: CPU generator; draws ``count`` numbers per class.
        iterations: maximum of Lloyd steps.
    """
    origin = (points * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    points = points - origin  # for smaller rounding errors of the distances
    norms = points.square().sum(2)
    centroids = _start(points, norms, mask, count, rng)
    owner = torch.full_like(mask, -1, dtype=torch.long)
    stops = points.device.type == "cpu"  # where looking at a value costs nothing
    for _ in range(iterations):
        distances = _distances(points, norms, centroids)
        nearest, before = distances.amin(2), owner
        owner = distances.argmin(2).masked_fill(~mask, -1)
        if stops and torch.equal(owner, before):
            break
        means = _means(points, nearest.masked_fill(~mask, 0), owner, centroids)
        # Where waiting costs time, all iterations are launched; no centroid moves after the last
        # change of a cluster.
        centroids = means if stops else torch.where((owner == before).all(), centroids, means)
    return centroids + origin


def nearest_points(points: Tensor, mask: Tensor, centroids: Tensor) -> Tensor:
    """Return the index (k, m) of the point nearest to every centroid (k, m, d)."""
    return torch.cdist(centroids, points).masked_fill(~mask[:, None], torch.inf).argmin(2)


def _distances(points: Tensor, norms: Tensor, centroids: Tensor) -> Tensor:
    """Return squared distances (k, n, m); ``norms`` are the squared norms of the points."""
    products = torch.baddbmm(centroids.square().sum(2)[:, None], points, centroids.mT, alpha=-2)
    return (products + norms[..., None]).clamp_min(0)


def _start(points: Tensor, norms: Tensor, mask: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Draw centres by k-means++, each with probability proportional to its squared distance."""
    k = len(points)
    wide = _widest(points.device)
    draws = torch.rand(count, k, 1, generator=rng, dtype=torch.float64).to(wide).to(points.device)
    classes = torch.arange(k, device=points.device)
    weights, centres = mask.to(wide), []
    nearest = torch.full_like(norms, torch.inf)
    for draw in draws:
        total = weights.cumsum(1)
        # The first point whose cumulated weight exceeds the draw; clamped in case the draw
        # rounds up to the total.
        pick = torch.searchsorted(total, draw * total[:, -1:], right=True)[:, 0]
        pick = pick.clamp(max=mask.shape[1] - 1)
        centre = points[classes, pick]
        centres.append(centre)
        nearest = torch.minimum(nearest, _distances(points, norms, centre[:, None])[..., 0])
        nearest[classes, pick] = 0  # rounding may have left it above 0
        weights = nearest.to(wide) * mask
        spent = weights.sum(1, keepdim=True) == 0  # fewer distinct points than centres
        weights = torch.where(spent, mask.to(wide), weights)
    return torch.stack(centres, 1)


def _widest(device: torch.device) -> torch.dtype:
    """Return the dtype of cumulated probabilities: MPS has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _means(points: Tensor, nearest: Tensor, owner: Tensor, centroids: Tensor) -> Tensor:
    """Return the mean of every cluster; empty ones move to the farthest points of their class."""
    clusters = torch.arange(centroids.shape[1], device=points.device)
    members = (owner[..., None] == clusters).to(points.dtype)  # (k, n, m)
    sizes = members.sum(1)[..., None]
    means = members.mT @ points / sizes.clamp_min(1)
    empty = sizes[..., 0] == 0
    far, order = nearest.sort(1, descending=True)
    # The r-th empty cluster takes the r-th farthest point.
    rank = (empty.cumsum(1) - 1).clamp(0, points.shape[1] - 1)
    moved = empty & (far.gather(1, rank) > 0)
    taken = points.gather(1, order.gather(1, rank)[..., None].expand_as(centroids))
    return torch.where(moved[..., None], taken, torch.where(empty[..., None], centroids, means))

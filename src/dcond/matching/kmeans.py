"""K-means of every class at once, on the device the features are on.

Letters: k classes, n points of the largest class, d features, m clusters. Classes of unlike size
are padded to n; a mask (k, n) tells the points from the padding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def representatives(
    features: Tensor, class_rows: Sequence[Tensor], count: int, rng: torch.Generator
) -> Tensor:
    """Return for every class the rows of the points nearest to its ``count`` centroids: (k, count).

    Arguments as :func:`padded_by_class` and :func:`k_means`. A point that is nearest to two
    centroids comes twice.
    """
    points, mask, rows = padded_by_class(features, class_rows)
    return rows.gather(1, nearest_points(points, mask, k_means(points, mask, count, rng)))


def padded_by_class(
    features: Tensor, class_rows: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gather features (N, d) by class.

    Args:
        features: of all images.
        class_rows: for each class the rows that belong to it, at least one.

    Returns:
        Points (k, n, d), their mask (k, n), and the row of each (k, n); padding repeats a class's
        first row.
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
    """Return centroids (k, count, d): k-means++ start, then Lloyd steps until no point of any class changes cluster.

    A cluster that is empty takes one of its class's points farthest from their centroids; where all
    points lie on centroids (fewer distinct ones than clusters) it stays where it is.

    Paper: Arthur and Vassilvitskii, k-means++ (SODA 2007): the expected inertia is at most 8 (ln m
    + 2) times the best.

    Args:
        points: (k, n, d), at least float32.
        mask: (k, n), true where there is a point; every class has one.
        count: m.
        rng: on the CPU, the only source of randomness: count numbers per class.
        iterations: Lloyd steps at most.
    """
    origin = (points * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    points = (
        points - origin
    )  # distances do not change, but the rounding of their matrix-product form does
    norms = points.square().sum(2)
    centroids = _start(points, norms, mask, count, rng)
    owner = torch.full_like(mask, -1, dtype=torch.long)
    for _ in range(iterations):
        distances = _distances(points, norms, centroids)
        nearest, before = distances.amin(2), owner
        owner = distances.argmin(2).masked_fill(~mask, -1)
        if torch.equal(owner, before):
            break
        centroids = _means(points, nearest.masked_fill(~mask, 0), owner, centroids)
    return centroids + origin


def nearest_points(points: Tensor, mask: Tensor, centroids: Tensor) -> Tensor:
    """Return for every centroid (k, m, d) the index (k, m) of the point nearest to it."""
    return torch.cdist(centroids, points).masked_fill(~mask[:, None], torch.inf).argmin(2)


def _distances(points: Tensor, norms: Tensor, centroids: Tensor) -> Tensor:
    """Return squared distances (k, n, m); ``norms`` are those of the points, squared."""
    products = torch.baddbmm(centroids.square().sum(2)[:, None], points, centroids.mT, alpha=-2)
    return (products + norms[..., None]).clamp_min(0)


def _start(points: Tensor, norms: Tensor, mask: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """k-means++: each further centre is a point drawn with a chance proportional to its squared distance."""
    k = len(points)
    wide = _widest(points.device)
    draws = torch.rand(count, k, 1, generator=rng, dtype=torch.float64).to(wide).to(points.device)
    classes = torch.arange(k, device=points.device)
    weights, centres = mask.to(wide), []
    nearest = torch.full_like(norms, torch.inf)
    for draw in draws:
        total = weights.cumsum(1)
        # The first point whose cumulated weight exceeds the draw; the clamp is for a draw that
        # rounds up to the total.
        pick = torch.searchsorted(total, draw * total[:, -1:], right=True).clamp(
            max=mask.shape[1] - 1
        )[:, 0]
        centre = points[classes, pick]
        centres.append(centre)
        nearest = torch.minimum(nearest, _distances(points, norms, centre[:, None])[..., 0])
        nearest[classes, pick] = 0  # which rounding may have left above it
        weights = nearest.to(wide) * mask
        spent = weights.sum(1, keepdim=True) == 0  # fewer distinct points than centres
        weights = torch.where(spent, mask.to(wide), weights)
    return torch.stack(centres, 1)


def _widest(device: torch.device) -> torch.dtype:
    """Return what chances are cumulated in: Apple's devices have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _means(points: Tensor, nearest: Tensor, owner: Tensor, centroids: Tensor) -> Tensor:
    """Return the mean of every cluster; the empty ones of a class move to its farthest points, one each."""
    clusters = torch.arange(centroids.shape[1], device=points.device)
    members = (owner[..., None] == clusters).to(points.dtype)  # (k, n, m)
    sizes = members.sum(1)[..., None]
    means = members.mT @ points / sizes.clamp_min(1)
    empty = sizes[..., 0] == 0
    far, order = nearest.sort(1, descending=True)
    rank = (empty.cumsum(1) - 1).clamp(
        0, points.shape[1] - 1
    )  # the r-th empty cluster takes the r-th farthest point
    moved = empty & (far.gather(1, rank) > 0)
    taken = points.gather(1, order.gather(1, rank)[..., None].expand_as(centroids))
    return torch.where(moved[..., None], taken, torch.where(empty[..., None], centroids, means))

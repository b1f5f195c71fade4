"""K-means of all classes at once against scikit-learn's and by what must hold."""

import math

import pytest
import torch
from sklearn.cluster import KMeans as Reference

from dcond.matching import kmeans as clusters
from dcond.matching.kmeans import k_means, nearest_points, padded_by_class, representatives
from dcond.rng import generator

SIZES = (240, 60, 150)


def classes(d=5, sizes=SIZES, centres=6):
    """Points of classes of unlike size, each around its own centres, with the classes' rows
    interleaved.
    """
    rng = generator(3, "points")
    parts = []
    for c, size in enumerate(sizes):
        middles = 10 * c + 4 * torch.randn(centres, d, generator=rng)
        parts.append(middles[torch.arange(size) % centres] + torch.randn(size, d, generator=rng))
    order = torch.randperm(sum(sizes), generator=rng)
    owners = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[order]
    return torch.cat(parts)[order], [(owners == c).nonzero()[:, 0] for c in range(len(sizes))]


def inertia(z, centroids):
    return float(torch.cdist(z, centroids).amin(1).square().sum())


def test_a_device_without_float64_chooses_in_float32(monkeypatch):
    """Apple's: the draws come from the same generator, and the choice is of the same quality."""
    features, rows = classes()
    points, mask, _ = padded_by_class(features, rows)
    exact = k_means(points, mask, 6, generator(0, "k"))
    monkeypatch.setattr(clusters, "_widest", lambda device: torch.float32)
    monkeypatch.setattr(torch.Tensor, "double", None)
    single = k_means(points, mask, 6, generator(0, "k"))
    for c, own in enumerate(rows):
        assert inertia(features[own], single[c]) == pytest.approx(
            inertia(features[own], exact[c]), rel=0.2
        )


def test_padding_keeps_every_point_and_says_which_are_real():
    features, rows = classes()
    points, mask, back = padded_by_class(features, rows)
    assert points.shape == (3, 240, 5)
    assert mask.sum(1).tolist() == list(SIZES)
    for c, own in enumerate(rows):
        assert torch.equal(points[c][mask[c]], features[own])
        assert torch.equal(back[c][mask[c]], own)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_every_class_is_as_tight_as_scikit_learns(count):
    features, rows = classes()
    points, mask, _ = padded_by_class(features, rows)
    found = [k_means(points, mask, count, generator(seed, "k-means")) for seed in range(15)]
    for c, own in enumerate(rows):
        z = features[own]
        best = Reference(count, n_init=10, random_state=0).fit(z.numpy()).inertia_
        tightness = sorted(inertia(z, centroids[c]) for centroids in found)
        assert tightness[0] <= 1.03 * best
        assert tightness[7] <= 1.25 * best  # the middle one
        assert tightness[-1] <= 8 * (math.log(count) + 2) * best  # k-means++'s bound


def test_many_clusters_of_high_dimensional_points_are_as_tight_as_one_run_of_scikit_learns():
    features, rows = classes(d=64, sizes=(400, 400), centres=30)
    points, mask, _ = padded_by_class(features, rows)
    centroids = k_means(points, mask, 64, generator(0, "k-means"))
    for c, own in enumerate(rows):
        z = features[own]
        reference = Reference(64, n_init=1, random_state=0).fit(z.numpy()).inertia_
        assert inertia(z, centroids[c]) <= 1.03 * reference


def test_a_class_alone_and_among_padding_has_the_same_fixed_point():
    """Every centroid is the mean of the points nearest to it."""
    features, rows = classes()
    points, mask, _ = padded_by_class(features, rows)
    centroids = k_means(points, mask, 4, generator(0, "k-means"))
    for c, own in enumerate(rows):
        z = features[own]
        owner = torch.cdist(z, centroids[c]).argmin(1)
        means = torch.stack([z[owner == j].mean(0) for j in range(4)])
        torch.testing.assert_close(centroids[c], means, rtol=1e-4, atol=1e-4)


def test_one_step_from_the_start_gives_the_means_of_the_starting_clusters():
    features, rows = classes()
    points, mask, _ = padded_by_class(features, rows)
    start, one = (
        k_means(points, mask, 4, generator(0, "k-means"), iterations) for iterations in (0, 1)
    )
    for c, own in enumerate(rows):
        z = features[own]
        assert all(
            float((z - centre).norm(dim=1).min()) < 1e-4 for centre in start[c]
        )  # centres are points
        owner = torch.cdist(z, start[c]).argmin(1)
        means = torch.stack([z[owner == j].mean(0) for j in range(4)])
        torch.testing.assert_close(one[c], means, rtol=1e-4, atol=1e-4)


def test_the_start_prefers_far_points():
    """Two tight heaps: the second centre is in the other heap, whatever the draw."""
    z = torch.cat([torch.zeros(50, 2), torch.full((50, 2), 100.0)]) + 0.01 * torch.rand(
        100, 2, generator=generator(0, "z")
    )
    for seed in range(10):
        start = k_means(
            z[None], torch.ones(1, 100, dtype=torch.bool), 2, generator(seed, "k-means"), 0
        )[0]
        assert float((start[0] - start[1]).norm()) > 100


def test_an_empty_cluster_takes_the_farthest_points():
    """Three heaps, one of them a single point; starts that waste a centre end with one on each."""
    z = torch.cat([torch.zeros(20, 1), torch.ones(20, 1), torch.full((1, 1), 50.0)])[None]
    mask = torch.ones(1, 41, dtype=torch.bool)
    for seed in range(10):
        centroids = k_means(z, mask, 3, generator(seed, "k-means"))[0]
        torch.testing.assert_close(
            centroids.flatten().sort().values, torch.tensor([0.0, 1.0, 50.0])
        )


def test_fewer_distinct_points_than_clusters():
    z = torch.tensor([[[0.0], [0.0], [0.0], [1.0]], [[5.0], [7.0], [5.0], [5.0]]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    centroids = k_means(z, mask, 4, generator(0, "k-means"), 10)
    assert set(centroids[0].flatten().tolist()) == {0.0, 1.0}
    assert set(centroids[1].flatten().tolist()) == {5.0, 7.0}


def test_the_nearest_point_is_never_padding():
    z = torch.tensor([[[0.0], [10.0], [0.0]]])
    mask = torch.tensor([[False, True, True]])
    assert nearest_points(z, mask, torch.tensor([[[0.1], [9.0]]])).tolist() == [[2, 1]]


def test_representatives_are_the_images_nearest_to_the_centroids_of_their_own_class():
    features, rows = classes()
    found = representatives(features, rows, 6, generator(0, "k-means"))
    points, mask, _ = padded_by_class(features, rows)
    centroids = k_means(points, mask, 6, generator(0, "k-means"))
    for c, own in enumerate(rows):
        assert found[c].tolist() == [
            int(own[(features[own] - centre).norm(dim=1).argmin()]) for centre in centroids[c]
        ]


def test_classes_smaller_than_the_count_give_every_image():
    features, rows = classes(sizes=(3, 9, 20))
    found = representatives(features, rows, 9, generator(0, "k-means"))
    assert set(found[0].tolist()) == set(rows[0].tolist())
    assert set(found[1].tolist()) == set(rows[1].tolist())


def test_the_generator_decides():
    features, rows = classes()
    points, mask, _ = padded_by_class(features, rows)
    one, again, other = (
        k_means(points, mask, 8, generator(seed, "k-means"), 2) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)

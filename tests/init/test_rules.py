"""Selection rules against plain re-derivations."""

import itertools

import numpy as np
import pytest
import torch

from dcond.errors import ConfigError
from dcond.init import Embedding, Herding, KCenter, KMeans, Random, rules
from dcond.init.rules import herd, k_center, nearest_unused
from dcond.models import MLP, ConvNet
from dcond.rng import Streams
from dcond.types import RealData, Split

EMBEDDING = Embedding(network=MLP(name="MLP", hidden=(16,)), train_steps=5, batch=16)
RULES = [
    Random(),
    Random(order="first"),
    *(rule(embedding=EMBEDDING) for rule in (Herding, KCenter, KMeans)),
]
NAMES = ["random", "first", "herding", "k-center", "k-means"]
every_rule = pytest.mark.parametrize("rule", RULES, ids=NAMES)


def points(n=40, d=6, seed=0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
def test_herding_always_takes_the_image_that_brings_the_mean_closest(seed):
    z = points(seed=seed)
    plain: list[int] = []
    rows = z.double().numpy()
    for _ in range(8):
        free = [i for i in range(len(rows)) if i not in plain]
        distance = [np.linalg.norm(rows.mean(0) - rows[[*plain, i]].mean(0)) for i in free]
        plain.append(free[int(np.argmin(distance))])
    assert herd(z, 8).tolist() == plain


@pytest.mark.parametrize("seed", range(4))
def test_k_center_starts_in_the_middle_and_always_takes_the_farthest(seed):
    z = points(seed=seed)
    rows = z.double().numpy()
    plain = [int(np.argmin(np.linalg.norm(rows - rows.mean(0), axis=1)))]
    for _ in range(7):
        cover = [min(np.linalg.norm(rows[i] - rows[j]) for j in plain) for i in range(len(rows))]
        plain.append(int(np.argmax(cover)))
    assert k_center(z, 8).tolist() == plain


def test_each_centroid_takes_the_nearest_image_not_yet_taken():
    distance = torch.tensor([[1.0, 2.0, 9.0], [0.5, 3.0, 4.0], [0.1, 0.2, 5.0]])
    assert nearest_unused(distance).tolist() == [0, 1, 2]
    assert distance[0, 0] == 1  # the caller's matrix is left alone


@pytest.mark.parametrize("choose", [herd, k_center], ids=["herding", "k-center"])
def test_equal_images_are_not_taken_twice(choose):
    z = torch.ones(5, 3)
    assert sorted(choose(z, 5).tolist()) == [0, 1, 2, 3, 4]


@every_rule
@pytest.mark.parametrize("count", [1, 4, 30])
def test_the_images_are_different_ones_of_their_own_class(rule, count, toy):
    chosen = rule(toy, count, Streams(0))
    assert len(chosen) == 3
    for c, rows in enumerate(chosen):
        assert rows.dtype == torch.int64
        assert len(rows) == count == len(set(rows.tolist()))
        assert (toy.train.labels[rows] == c).all()


@every_rule
def test_a_class_with_too_few_images_gives_each_of_them_and_repeats(rule, toy):
    for rows, own in zip(rule(toy, 70, Streams(0)), toy.class_rows, strict=True):
        assert len(rows) == 70
        assert set(rows.tolist()) == set(own.tolist())


@every_rule
def test_the_seed_decides(rule, toy):
    one, again, other = (torch.stack(rule(toy, 5, Streams(seed))).tolist() for seed in (0, 0, 1))
    assert one == again
    assert (one == other) == (rule == Random(order="first"))


def test_first_takes_the_first_images_in_order_and_begins_again(toy):
    chosen = Random(order="first")(toy, 32, Streams(0))
    for rows, own in zip(chosen, toy.class_rows, strict=True):
        assert rows.tolist() == list(itertools.islice(itertools.cycle(own.tolist()), 32))


def test_an_unknown_order_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"order='frist' is unknown; allowed: random, first\. Did you mean 'first'\?",
    ):
        Random(order="frist")


def embedded(embedding, real) -> torch.Tensor:
    """Features of all images, which go together in so small a set."""
    (found,) = embedding(real, Streams(3))
    assert torch.equal(found.rows, torch.arange(len(real.train)))
    return found.features


def test_the_embedding_is_a_trained_networks_in_evaluation_mode(toy):
    network = MLP(name="MLP", hidden=(16,))
    features = embedded(Embedding(network=network, train_steps=0), toy)
    assert features.shape == (120, 16)
    assert not features.requires_grad
    plain = (
        network.build(toy.spec, Streams(3).networks).eval().embed(toy.normalised(torch.arange(120)))
    )
    torch.testing.assert_close(features, plain.detach())
    trained = embedded(Embedding(network=network, train_steps=30, batch=32), toy)
    centres = [
        torch.stack([z[toy.train.labels == c].mean(0) for c in range(3)])
        for z in (features, trained)
    ]
    spread = [
        float(
            torch.pdist(c).min()
            / torch.stack([z[toy.train.labels == i].std(0).norm() for i in range(3)]).mean()
        )
        for z, c in zip((features, trained), centres, strict=True)
    ]
    assert spread[1] > spread[0]  # training parts the classes


@pytest.mark.parametrize(
    ("steps", "batch", "taken"),
    [(5, 16, (5, 16)), (5000, 16, (750, 16)), (5000, 500, (100, 120)), (0, 16, (0, 16))],
)
def test_the_steps_follow_the_size_of_the_data_set(steps, batch, taken, toy, monkeypatch):
    """At most 100 passes over the 120 images."""
    sizes = []
    monkeypatch.setattr(
        rules, "training_step", lambda n, o, images, *more, **others: sizes.append(len(images))
    )
    embedded(Embedding(network=MLP(name="MLP"), train_steps=steps, batch=batch), toy)
    assert sizes == [taken[1]] * taken[0]


def test_the_embedding_of_an_image_does_not_depend_on_its_batch(toy):
    network = ConvNet(name="bn", width=8, norm="batch")
    few, many = (
        embedded(Embedding(network=network, train_steps=0, batch=batch), toy) for batch in (2, 256)
    )
    torch.testing.assert_close(few, many)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"train_steps": -1},
            "Embedding.train_steps=-1 is out of range; allowed: whole numbers from 0.",
        ),
        ({"batch": 0}, "Embedding.batch=0 is out of range; allowed: whole numbers from 1."),
    ],
)
def test_invalid_settings_of_the_embedding_are_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        Embedding(network=MLP(name="MLP"), **settings)
    assert str(caught.value) == message


def test_a_class_of_one_image_is_chosen_from(toy):
    rows = torch.cat([own[:1] for own in toy.class_rows])
    single = Split(toy.train.images[rows], toy.train.labels[rows])
    real = RealData("single", single, toy.test, toy.class_names, toy.mean, toy.std)
    for rule in RULES:
        assert torch.stack(rule(real, 2, Streams(0))).tolist() == [[0, 0], [1, 1], [2, 2]]

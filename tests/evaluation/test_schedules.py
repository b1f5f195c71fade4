"""Schedules of the published protocols: epochs, milestones, optimisers."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hydra import compose, initialize_config_dir

from dcond.cli.instantiate import build
from dcond.evaluation import EvaluationProtocol
from dcond.paths import conf_dir
from helpers.watched import evaluate, quick, same, watched


@dataclass(frozen=True, kw_only=True)
class Diary(EvaluationProtocol):
    """Records the optimiser of every epoch instead of training."""

    pages: ClassVar[list] = []

    def epoch(self, network, optimiser, images, labels, rng, soft):
        self.pages.append((optimiser, optimiser.param_groups[0]["lr"]))


@pytest.fixture
def diary(toy, chosen):
    def keep(protocol: EvaluationProtocol) -> list:
        Diary.pages.clear()
        evaluate(Diary(**(vars(protocol) | {"repeats": 1})), chosen, toy, watched(lr=0.01))
        return list(Diary.pages)

    return keep


def packaged(name: str) -> EvaluationProtocol:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose(
            "condense", overrides=["dataset=npz", "dataset.path=unused", f"evaluation={name}"]
        )
    return build(cfg.evaluation, name)


@pytest.mark.parametrize(
    ("name", "epochs", "drops", "factor", "forgets"),
    [
        ("dc300", 301, [152], 0.1, True),
        ("degm300", 300, [150], 0.1, False),
        ("degm1000_mnist", 1000, [500], 0.1, False),
        (
            "dsa1000",
            1001,
            [502],
            0.1,
            True,
        ),  # "after 502 epochs": the public code drops after its epoch 501, from 0
        ("idc1000", 1000, [666, 833], 0.2, False),
        ("m3d1000", 1000, [666, 833], 0.2, False),
        ("hmdc2000", 2000, [], 1.0, False),
        ("mtt1000", 1001, [502], 0.1, True),
        ("quick", 300, [200], 0.1, False),
    ],
)
def test_published_schedules(name, epochs, drops, factor, forgets, diary):
    protocol = packaged(name)
    assert protocol.name == name
    pages = diary(protocol)
    assert len(pages) == epochs
    rates = [0.01 * factor ** sum(epoch >= drop for drop in drops) for epoch in range(epochs)]
    assert [rate for _, rate in pages] == pytest.approx(rates)
    optimisers = {id(optimiser) for optimiser, _ in pages}
    assert len(optimisers) == (1 + len(drops) if forgets else 1)  # a new optimiser has no momentum
    for drop in drops:
        assert (pages[drop - 1][0] is not pages[drop][0]) == forgets


@pytest.mark.parametrize("name", ["dc1000_mnist", "degm1000_mnist"])
def test_on_mnist_every_image_is_augmented_separately(name):
    augment = packaged(name).augment
    assert (augment.ops, augment.family) == (("crop", "scale", "rotate"), "image")


def test_ncfm_uses_adamw_and_its_own_rate(diary):
    pages = diary(packaged("ncfm2000"))
    assert len(pages) == 2000
    assert isinstance(pages[0][0], torch.optim.AdamW)
    assert [pages[epoch][1] for epoch in (0, 399, 400, 800, 1200, 1600)] == pytest.approx(
        [0.001, 0.001, 0.0005, 0.00025, 0.000125, 0.0000625]
    )


def test_milestones_that_round_to_one_epoch_count_once(diary):
    pages = diary(quick(epochs=3, lr=1.0, lr_milestones=(0.667, 0.833), lr_gamma=0.2))
    assert [rate for _, rate in pages] == pytest.approx([1, 1, 0.2])


def test_momentum_is_reset_at_a_milestone_only_if_requested(toy, chosen):
    finals = []
    for forget in (True, False):
        recipe = watched()
        evaluate(
            quick(epochs=4, lr_milestones=(0.5,), lr_gamma=1.0, reset_optimizer_at_drop=forget),
            chosen,
            toy,
            recipe,
        )
        finals.append(recipe.built[0][0].state_dict())
    assert not same(*finals)  # the rate is the same, so the momentum is what differs


def test_one_rate_for_all_or_each_networks_own(toy, chosen):
    found = evaluate(quick(epochs=1), chosen, toy, watched("one", lr=0.03), watched("two", lr=0.07))
    assert [network.lr for network in found.networks.values()] == [0.03, 0.07]
    found = evaluate(
        quick(epochs=1, lr=0.5), chosen, toy, watched("one", lr=0.03), watched("two", lr=0.07)
    )
    assert [network.lr for network in found.networks.values()] == [0.5, 0.5]


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimiser_has_the_settings_given(name, kind, diary):
    optimiser, _ = diary(quick(epochs=1, optimiser=name, momentum=0.7, weight_decay=0.02))[0]
    assert type(optimiser) is kind
    assert optimiser.defaults["weight_decay"] == 0.02
    assert optimiser.defaults.get("momentum", 0.7) == 0.7

"""Trainings distributed over processes give the results of one process."""

import pytest
import torch

from dcond.augment import DiffAug
from dcond.distributed import Ranks, use_group
from dcond.evaluation import EvaluationProtocol
from dcond.evaluation.full_data import evaluate_full_data, hold_out
from dcond.evaluation.sharding import TrainingGrid
from dcond.models import MLP, ConvNet, Pool
from dcond.types import SyntheticSet
from helpers.lockstep import lockstep

POOL = Pool(
    networks={"ConvNet": ConvNet(name="ConvNet", width=8), "MLP": MLP(name="MLP", hidden=(8,))}
)


@pytest.fixture
def synthetic(toy):
    rows = torch.cat([own[:2] for own in toy.class_rows])
    return SyntheticSet(
        toy.pixels(rows), toy.train.labels[rows], toy.class_names, 2, toy.mean, toy.std
    )


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_round_robin_continues_from_row_to_row(count):
    taken = {}
    for rank in range(count):
        with use_group(Ranks(rank, count)):
            grid = TrainingGrid(["a", "b", "c"], 3, lambda group: iter(()))
            taken[rank] = [(row, column) for row in range(3) for column in grid.own_columns(row)]
    assert sorted(place for own in taken.values() for place in own) == [
        (row, column) for row in range(3) for column in range(3)
    ]
    numbers = [len(own) for own in taken.values()]
    assert max(numbers) - min(numbers) <= 1


@pytest.mark.parametrize("lr", [0.01, "search"])
def test_three_ranks_give_the_results_of_one(lr, synthetic, toy):
    protocol = EvaluationProtocol(
        name="t",
        epochs=3,
        repeats=2,
        best_every=2,
        lr=lr,
        search_rates=(0.001, 0.1),
        augment=DiffAug(["flip"]),
    )
    notes = {}

    def work(rank=None):
        said = notes.setdefault(rank and rank.rank, [])
        return protocol.evaluate(
            lambda repeat: synthetic,
            POOL,
            toy.test,
            0,
            held_out=hold_out(protocol, toy),
            progress=said.append,
        )

    alone = work()
    for found in lockstep(3, work):
        for name, network in found.networks.items():
            one = alone.networks[name]
            assert network.accuracies == one.accuracies
            assert (network.best, network.lr, network.searched) == (one.best, one.lr, one.searched)
            assert network.wall_s > 0
    assert notes[None] == notes[0] == ["ConvNet 1/2", "ConvNet 2/2", "MLP 1/2", "MLP 2/2"]


def test_all_ranks_use_the_cache_entry_of_rank_0(toy, tmp_path):
    """Another machine may not see the file; all ranks must do the same."""
    protocol = EvaluationProtocol(name="t", epochs=1, repeats=2)

    def work(rank):
        return evaluate_full_data(protocol, POOL, toy, 0, tmp_path / str(rank.rank))

    first, again = lockstep(2, work), lockstep(2, work)
    assert first[0].as_dict() == first[1].as_dict()
    assert [found.networks["MLP"].accuracies for found in again] == [
        first[0].networks["MLP"].accuracies
    ] * 2
    assert len(list((tmp_path / "0").iterdir())) == 2
    assert not (tmp_path / "1").exists()

"""Several processes as one run: shares, collectives, and one process as the case that costs
nothing.
"""

import pytest
import torch
from torch import nn

from dcond.distributed import Ranks, TorchRanks, current, run_on_rank0, use_group
from dcond.errors import ConfigError, LostError
from dcond.rng import Streams
from helpers.lockstep import endings, lockstep


def test_one_process_has_all_classes_and_keeps_what_it_has():
    alone, tensor = current(), torch.arange(6.0)
    assert (alone.rank, alone.count, alone.first) == (0, 1, True)
    alone.divide(3)
    alone.sum_([tensor])
    alone.share_([tensor])
    assert torch.equal(tensor, torch.arange(6.0))
    assert alone.own(tensor) is not None
    assert torch.equal(alone.own(tensor), tensor)
    assert alone.gathered(tensor) is tensor
    assert alone.classes(6) == 6  # whatever was divided
    assert alone.from_first("it") == "it"
    assert alone.largest(1.5, -2) == [1.5, -2.0]


@pytest.mark.parametrize(
    ("classes", "count"), [(10, 1), (10, 2), (10, 3), (10, 4), (3, 3), (100, 7), (5, 4)]
)
def test_shares_cover_every_class_once_and_differ_by_one_at_most(classes, count):
    shares = []
    for rank in range(count):
        ranks = Ranks(rank, count)
        ranks.divide(classes)
        shares.append(ranks.own(torch.arange(classes)).tolist())
    assert [number for share in shares for number in share] == list(range(classes))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_classes_are_refused():
    with pytest.raises(ConfigError) as error:
        Ranks(0, 4).divide(3)
    assert str(error.value) == (
        "4 processes for 3 classes: some would have none; start at most 3 (torchrun --nproc-per-node=3)."
    )


def test_sums_shares_and_the_largest_are_the_same_on_all_ranks():
    def work(rank):
        floats, more = torch.full((2, 2), 1.0 + rank.rank), torch.tensor(10.0 * rank.rank)
        whole, taken = torch.tensor([rank.rank]), torch.tensor([rank.rank, 7])
        rank.sum_([floats, whole, more])  # types of two kinds
        rank.share_([taken])
        return (
            floats.tolist(),
            more.item(),
            whole.item(),
            taken.tolist(),
            rank.largest(rank.rank, -rank.rank),
        )

    assert lockstep(3, work) == [([[6.0, 6.0], [6.0, 6.0]], 30.0, 3, [0, 7], [2.0, 0.0])] * 3


def test_rows_of_all_classes_are_gathered_where_shares_differ():
    rows = torch.arange(10.0).view(5, 2)

    def work(rank):
        rank.divide(5)
        return rank.gathered(rank.own(rows).requires_grad_(True))

    for gathered in lockstep(3, work):
        assert torch.equal(gathered, rows)
        assert not gathered.requires_grad


@pytest.mark.parametrize("text", ["", "ä: 1\n" * 1000])
def test_ranks_receive_the_text_of_rank_0(text):
    assert lockstep(2, lambda rank: rank.from_first(text if rank.first else "mine")) == [text, text]


def test_rank_0_comes_first():
    order = []

    def work(rank):
        with rank.first_before_others():
            order.append(rank.rank)

    lockstep(3, work)
    assert order == [0, 1, 2]

    order.clear()

    def backwards(rank):  # the others begin, and still wait
        if rank.first:
            rank.largest(0)
            order.append("began")
        else:
            rank.largest(0)
        with rank.first_before_others():
            order.append(rank.rank)

    lockstep(2, backwards)
    assert order == ["began", 0, 1]


def test_what_rank_0_trains_and_draws_the_others_take_over():
    """With batch norm, whose statistics are no parameters."""

    def work(rank):
        rng, network = Streams(0), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        chosen, trained = torch.zeros(2), []

        def train():
            trained.append(rank.rank)
            network(torch.rand(4, 2, generator=rng.real))
            chosen.add_(1)
            with torch.no_grad():
                network[0].weight.fill_(torch.rand((), generator=rng.augmentation))

        run_on_rank0(train, [network, chosen], rng)
        state = [tensor.tolist() for tensor in network.state_dict().values()]
        return state, chosen.tolist(), torch.rand(2, generator=rng.real).tolist(), trained

    first, *others = lockstep(3, work)
    assert first[3] == [0]
    for other in others:
        assert other == (*first[:3], [])
    assert on_first_alone() == [1]


def on_first_alone():
    seen = []
    run_on_rank0(lambda: seen.append(1), [], Streams(0))
    return seen


def test_a_rank_that_fails_leaves_no_other_waiting():
    def work(rank):
        rank.largest(0)
        if rank.rank == 1:
            raise MemoryError("rank 1")
        rank.largest(0)

    first, failed, last = endings(3, work)
    assert isinstance(failed, MemoryError)
    assert isinstance(first, LostError)
    assert isinstance(last, LostError)


def test_a_group_is_left_at_the_end_of_its_block():
    with use_group(Ranks(1, 2)) as ranks:
        assert current() is ranks
    assert current().count == 1


class Kept(dict):
    """A store: what other processes left in it."""

    def check(self, keys):
        return all(key in self for key in keys)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"ended/1": b"the disk is full"}, "process 1 of 3 ended: the disk is full"),
        (
            {},
            "another of the 3 processes ended without a reason: it was killed, or out of memory.",
        ),
        ({"ended/2": b"my own words"}, "another of the 3 processes ended without a reason"),
    ],
)
def test_a_failed_exchange_reports_why_another_rank_ended(left, said, monkeypatch):
    ranks = TorchRanks.__new__(TorchRanks)  # without processes
    Ranks.__init__(ranks, 2, 3, 2, 3)
    ranks._store = Kept(left)

    def broken(*_):
        raise RuntimeError(
            "[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:42"
        )

    monkeypatch.setattr("torch.distributed.all_reduce", broken)
    with pytest.raises(LostError) as error:
        ranks.largest(0)
    assert str(error.value).startswith(said)
    assert "gloo" not in str(error.value)

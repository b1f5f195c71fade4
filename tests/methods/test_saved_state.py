"""The state of a method: parts, tensors and numbers, and lists, tuples and dicts of these."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dcond.methods.base import SavedState
from dcond.rng import Streams


@dataclass
class Own(SavedState):
    networks: list[nn.Linear]
    by_name: dict[str, Any]
    pair: tuple[torch.Tensor, int]
    count: int
    rng: Streams


def make(value: float) -> Own:
    def linear() -> nn.Linear:
        layer = nn.Linear(2, 2)
        nn.init.constant_(layer.weight, value)
        return layer

    by_name = {"a": linear(), "rate": value}
    pair = (torch.full((2,), value), int(value))
    return Own([linear(), linear()], by_name, pair, int(value), Streams(0))


def test_a_state_may_hold_lists_tuples_and_dicts(tmp_path):
    saved, fresh = make(3), make(0)
    networks = fresh.networks, fresh.by_name["a"]
    torch.save(saved.state_dict(), tmp_path / "state.pt")
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for ours, theirs in zip(fresh.networks, saved.networks, strict=True):
        assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(fresh.by_name["a"].weight, saved.by_name["a"].weight)
    assert fresh.by_name["rate"] == 3
    assert torch.equal(fresh.pair[0], saved.pair[0])
    assert (fresh.pair[1], fresh.count) == (3, 3)
    assert fresh.networks[0] is networks[0][0]  # restored in place, as an optimiser needs it
    assert fresh.by_name["a"] is networks[1]


def test_a_field_that_an_older_checkpoint_lacks_stays_as_it_is():
    state = make(3)
    content = state.state_dict()
    del content["networks"], content["count"]
    fresh = make(1)
    fresh.load_state_dict(content)
    assert float(fresh.networks[0].weight.detach()[0, 0]) == 1
    assert fresh.count == 1


def test_a_tensor_stays_the_one_that_an_optimiser_moves():
    @dataclass
    class Learned(SavedState):
        labels: torch.Tensor
        optimiser: torch.optim.SGD

    def fresh() -> Learned:
        labels = torch.zeros(2, requires_grad=True)
        return Learned(labels, torch.optim.SGD([labels], lr=1, momentum=0.5))

    def step(state: Learned) -> None:
        state.labels.grad = torch.ones(2)
        state.optimiser.step()

    whole, resumed = fresh(), fresh()
    step(whole)
    content = copy.deepcopy(whole.state_dict())
    step(whole)
    resumed.load_state_dict(content)
    step(resumed)
    assert torch.equal(resumed.labels, whole.labels)
    assert float(whole.labels.detach()[0]) == -2.5


def test_a_tensor_that_is_another_at_the_start_alone_is_left_to_it():
    """``average`` begins as the images, and is a tensor of its own after the first step."""

    @dataclass
    class Average(SavedState):
        average: torch.Tensor

    images = torch.ones(2)
    Average(images.detach()).load_state_dict({"average": torch.zeros(2)})
    assert torch.equal(images, torch.ones(2))

"""Named random streams."""

import hashlib

import pytest
import torch

from dcond.rng import PURPOSES, Streams, derive, draw_seed, generator, seeded_globals, seeded_layers


def draw(rng: torch.Generator) -> list[float]:
    return torch.rand(8, generator=rng).tolist()


def test_a_stream_is_named_by_seed_and_purpose():
    assert draw(generator(3, "real")) == draw(generator(3, "real"))
    everything = [tuple(draw(generator(seed, name))) for seed in range(5) for name in PURPOSES]
    assert len(set(everything)) == len(everything)


def test_the_seed_of_a_stream_is_the_same_for_ever():
    """Published seeds rest on this: SHA-256 of "seed/name", the first 63 bits."""
    digest = hashlib.sha256(b"7/networks").hexdigest()
    assert derive(7, "networks") == int(digest[:16], 16) // 2
    assert 0 <= derive(123456789, "x") < 2**63


def test_streams_do_not_disturb_each_other():
    quiet, busy = Streams(1), Streams(1)
    for name in PURPOSES[1:]:
        draw(getattr(busy, name))
    assert draw(quiet.initialisation) == draw(busy.initialisation)


def test_streams_go_on_where_they_were_saved():
    one = Streams(1)
    for name in PURPOSES:
        draw(getattr(one, name))
    saved = one.state_dict()
    assert saved.keys() == set(PURPOSES)
    after = {name: draw(getattr(one, name)) for name in PURPOSES}
    other = Streams(99)
    other.load_state_dict(saved)
    assert {name: draw(getattr(other, name)) for name in PURPOSES} == after


def test_a_drawn_seed_moves_the_generator_on():
    rng = generator(0, "x")
    seeds = [draw_seed(rng) for _ in range(20)]
    assert len(set(seeds)) == 20
    assert all(0 <= seed < 2**62 for seed in seeds)


def test_library_code_draws_from_the_passed_generator_and_the_global_one_is_put_back():
    drawn = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        with seeded_globals(generator(5, "networks")):
            drawn.append(torch.rand(4).tolist())
        assert torch.equal(torch.get_rng_state(), before)
    assert drawn[0] == drawn[1]


def fail_after_drawing(rng: torch.Generator) -> None:
    with seeded_globals(rng):
        torch.rand(3)
        raise ValueError("no such layer")


def test_the_global_generator_is_put_back_after_an_error_too():
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="no such layer"):
        fail_after_drawing(generator(0, "x"))
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_that_draw_are_seeded_on_apple_devices_too_and_put_back(monkeypatch):
    """MPS has one generator of its own; none is at hand, so another one plays it."""
    own = torch.Generator().manual_seed(5)
    before = own.get_state()
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda device: own.get_state())
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state, device: own.set_state(state))
    monkeypatch.setattr(torch.mps, "manual_seed", own.manual_seed)
    drawn = []
    for _ in range(2):
        with seeded_layers(0, "step/1", torch.device("mps")):
            drawn.append(torch.rand(3, generator=own))
    assert torch.equal(*drawn)
    assert torch.equal(own.get_state(), before)

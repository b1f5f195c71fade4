"""Targets that are used again: the steps are those of a run that computes them at every visit."""

import pytest
import torch

from dcond.errors import ConfigError
from dcond.matching import target_bank
from dcond.matching.engine import Engine
from dcond.matching.lazy_batch import RealBatch
from dcond.matching.target_bank import TargetBank
from dcond.rng import Streams
from dcond.run import checkpoint
from dcond.types import RealData
from helpers.lockstep import lockstep

ONE_STEP = {"steps_per_network": 1, "inner_epochs": 1}
BANKED = {
    "dm": {},
    "m3d": {"steps_per_network": 2},
    "ncfm": {},
    "dsa": ONE_STEP,
    "degm": ONE_STEP,
}
every_banked = pytest.mark.parametrize("method", BANKED)


@pytest.fixture
def banked(condense, toy):
    """Run a method for nine steps on four targets."""

    def run(method, *arguments, **settings):
        few = {"steps": 9, "targets": 4}
        return condense(method, toy, *arguments, **(BANKED[method] | few | settings))

    return run


@every_banked
@pytest.mark.parametrize("arguments", [(), ("model.norm=batch",)], ids=["instance", "batch norm"])
def test_kept_targets_are_those_computed_at_every_visit(method, arguments, banked, monkeypatch):
    kept = banked(method, *arguments)
    monkeypatch.setattr(target_bank, "SHARE", 0)
    again = banked(method, *arguments)
    assert kept.bytes == again.bytes
    assert kept.losses == again.losses
    assert kept.bytes != banked(method, *arguments, targets=None).bytes


@every_banked
def test_real_images_are_read_at_the_first_visit_only(method, banked, monkeypatch):
    reads = []
    plain = RealData.normalised
    monkeypatch.setattr(RealData, "normalised", lambda *args: reads.append(1) or plain(*args))
    counts = []
    for steps in (4, 12):
        banked(method, steps=steps)
        counts.append(len(reads))
        reads.clear()
    assert counts[0] == counts[1] > 0


@every_banked
def test_a_run_resumed_within_a_round_ends_in_the_same_bytes(
    method, parts, run_made, toy, tmp_path
):
    def made(steps):
        return parts(method, **(BANKED[method] | {"steps": steps, "targets": 4}))

    unbroken = run_made(made(9), toy, tmp_path / "unbroken")
    run_made(made(6), toy, tmp_path / "broken")
    moment = checkpoint.load(tmp_path / "broken")
    resumed = run_made(made(9), toy, tmp_path / "broken", moment=moment)
    assert resumed.bytes == unbroken.bytes


@pytest.mark.parametrize(
    ("method", "measured"), [("dm", False), ("dsa", False), ("dsa", True), ("degm", True)]
)
def test_ranks_keep_the_targets_of_their_own_classes(
    method, measured, parts, run_made, data, tmp_path, monkeypatch
):
    if measured:  # as on a GPU, where the first step chooses how many classes are taken at once
        monkeypatch.setattr(Engine, "_classes", lambda *args: None)
    five = data((12, 20, 9, 14, 11))

    def made():
        return parts(method, **(BANKED[method] | {"steps": 6, "targets": 2, "lr": 0.1}))

    alone = run_made(made(), five, tmp_path / "alone")
    for rank in lockstep(2, lambda rank: run_made(made(), five, tmp_path / str(rank.rank))):
        assert (rank.synthetic.images - alone.synthetic.images).abs().max() < 5e-6


def test_every_visit_has_the_draws_of_its_target_but_the_runs_synthetic_stream():
    rng = Streams(0)
    bank = TargetBank(3, rng)
    drawn = [
        tuple(int(torch.randint(2**40, (1,), generator=g)) for g in (own.real, own.networks))
        for own in (bank.next_step() for _ in range(7))
    ]
    assert drawn[:3] == drawn[3:6]
    assert len(set(drawn)) == 3
    assert bank.next_step().synthetic is rng.synthetic
    assert TargetBank(None, rng).next_step() is rng


def test_a_target_comes_back_as_it_was_first_returned_also_where_it_is_rounded():
    batch = RealBatch.made_by(lambda a, b: torch.zeros(b - a, 1), (2, 1), torch.device("cpu"))
    values = torch.linspace(0, 1, 7)
    bank = TargetBank(1, Streams(0))
    found = []
    for _ in range(2):
        bank.next_step()
        found += bank.get(batch, lambda: [values], torch.bfloat16)
    assert torch.equal(found[0], found[1])
    assert found[0].dtype == torch.float32
    assert torch.equal(found[0], values.bfloat16().float())


def test_a_full_bank_keeps_what_fits(monkeypatch):
    monkeypatch.setattr(target_bank, "SHARE", 1)
    monkeypatch.setattr(target_bank, "free_bytes", lambda device: 100)
    batch = RealBatch.made_by(lambda a, b: torch.zeros(b - a, 1), (1, 1), torch.device("cpu"))
    bank, made = TargetBank(2, Streams(0)), []
    for _ in range(4):
        bank.next_step()
        bank.get(batch, lambda: made.append(1) or [torch.zeros(20)])  # 80 bytes
    assert len(made) == 3  # the first target once, the second at both visits


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (
            "ncfm",
            {"targets": 4, "sampler": True},
            "method.targets=4 needs method.sampler=false: frequencies that are learned differ at "
            "every visit; use method.targets=null.",
        ),
        (
            "m3d",
            {"targets": 4, "steps_per_network": 3},
            "method.targets=4 is not a multiple of method.steps_per_network=3; use a multiple, or "
            "method.targets=null for no bank.",
        ),
        (
            "dsa",
            {"targets": 4, "steps_per_network": 2},
            "method.targets=4 needs method.steps_per_network=1, not 2: the gradients of a network that "
            "is trained on the synthetic images cannot be used again; use method.targets=null.",
        ),
    ],
)
def test_targets_that_cannot_be_used_again_are_refused(method, settings, message, condense, toy):
    with pytest.raises(ConfigError) as error:
        condense(method, toy, steps=2, **settings)
    assert str(error.value) == message

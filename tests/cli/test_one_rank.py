"""A single process under torchrun: its role, refused commands, and how it ends."""

import signal

import pytest

from dcond.cli.ranks import _end_all_ranks
from dcond.cli.torchrun import is_main_process, under_torchrun
from dcond.distributed import Ranks, use_group
from dcond.errors import DataError, DcondError
from dcond.methods.dm import DM
from dcond.run.signals import Interrupted
from dcond.training.experts import Experts


@pytest.fixture
def started(monkeypatch):
    """Set the variables of torchrun."""

    def as_rank(rank):
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        for name, value in {
            "WORLD_SIZE": 2,
            "RANK": rank,
            "LOCAL_WORLD_SIZE": 2,
            "LOCAL_RANK": rank,
        }.items():
            monkeypatch.setenv(name, str(value))

    return as_rank


def test_roles(started, monkeypatch):
    assert is_main_process()
    assert not under_torchrun()
    monkeypatch.setenv("WORLD_SIZE", "8")  # some clusters set it without torchrun
    assert is_main_process()
    started(0)
    assert under_torchrun()
    assert is_main_process()
    started(1)
    assert not is_main_process()


def test_other_commands_run_in_one_process(started, run_cli):
    started(0)
    done = run_cli("list", "methods")
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "dcond: list runs in one process; start it without torchrun.\n",
    )


def test_a_method_that_cannot_be_divided_is_refused_by_name(monkeypatch, condense, half_written):
    monkeypatch.setattr(DM, "shares_classes", False)
    with use_group(Ranks(0, 2)):
        line = condense("device=cpu").line
    assert line == (
        "method=dm does not divide its classes among processes; run it without torchrun, "
        "or start several runs side by side."
    )
    assert half_written() == []
    assert condense("device=cpu", "evaluate=false").code == 0  # allowed in one process


@pytest.mark.parametrize("method", ["mtt", "datm", "lgm"])
def test_methods_of_one_process_are_refused_before_anything_is_trained(
    method, monkeypatch, run_cli, folder, half_written
):
    monkeypatch.setattr(Experts, "load_or_train", None)
    with use_group(Ranks(0, 2)):
        line = run_cli("condense", f"method={method}", "dataset=digits", "device=cpu").line
    assert line == (
        f"method={method} does not divide its classes among processes; run it without torchrun, "
        "or start several runs side by side."
    )
    assert half_written() == []
    assert not (folder / "outputs/cache").exists()


class Ending:
    """A group whose rank 0 may have reported an error."""

    def __init__(self, rank, spoken):
        self.rank, self.count, self.first, self.spoken, self.said = rank, 2, rank == 0, spoken, []

    def report_end(self, reason):
        self.said.append(reason)

    def rank0_has_reported(self):
        return self.spoken


@pytest.fixture(autouse=True)
def _signals_stay(monkeypatch):
    monkeypatch.setattr("dcond.run.signals.signal.signal", lambda *_: None)


def test_end_of_a_process():
    fault = DataError("no data\nat all")
    leader = Ending(0, spoken=False)
    _end_all_ranks(leader, fault)  # the caller raises the error again
    assert leader.said == ["no data"]
    with pytest.raises(DcondError, match=r"^process 1 of 2: no data"):
        _end_all_ranks(Ending(1, spoken=False), fault)
    for error, status in ((fault, 1), (RuntimeError(), 1), (Interrupted(signal.SIGTERM), 143)):
        with pytest.raises(SystemExit) as end:
            _end_all_ranks(Ending(1, spoken=True), error)
        assert end.value.code == status
    fault = RuntimeError()  # a bug keeps its traceback
    silent = Ending(1, spoken=False)
    _end_all_ranks(silent, fault)
    assert silent.said == ["RuntimeError"]

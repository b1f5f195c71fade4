"""Expert trajectories: what is stored, what is trained again, and what the command shows."""

import contextlib
import itertools
import logging
from dataclasses import replace

import pytest
import torch
from safetensors import SafetensorError

from dcond import log
from dcond.augment import DiffAug
from dcond.cli import experts as command
from dcond.errors import ConfigError, DataError, DivergedError
from dcond.file_lock import LockedError
from dcond.models import ConvNet
from dcond.training.experts import Experts, read


@pytest.fixture
def experts(tmp_path) -> Experts:
    return Experts(
        network=ConvNet(name="ConvNet", width=4, depth=1),
        folder=str(tmp_path),
        count=2,
        epochs=3,
        batch=32,
        augment=DiffAug(["color", "crop"]),
    )


def bytes_of(trajectories):
    return [trajectory.file.read_bytes() for trajectory in trajectories]


def test_the_states_of_an_expert_differ_from_epoch_to_epoch(experts, toy):
    """The public code's states alias the live weights where the network is on the CPU."""
    for trajectory in experts.load_or_train(toy):
        assert trajectory.epochs == 3
        weights = [trajectory.state(epoch)["head.weight"] for epoch in range(4)]
        steps = [float((a - b).norm()) for a, b in itertools.pairwise(weights)]
        assert min(steps) > 0
        assert float((weights[3] - weights[0]).norm()) > max(steps)


def test_a_state_is_that_of_the_network(experts, toy):
    first, second = experts.load_or_train(toy)
    network = experts.network.build(toy.spec, torch.Generator().manual_seed(5))
    network.load_state_dict(first.state(3))
    predicted = network.eval()(toy.spec.normalise(toy.test.images.float() / 255)).argmax(1)
    assert (predicted == toy.test.labels).float().mean() == pytest.approx(first.facts["accuracy"])
    assert not torch.equal(first.state(0)["head.weight"], second.state(0)["head.weight"])


def test_experts_are_trained_on_a_file_system_without_locks(experts, toy, monkeypatch):
    def none(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    assert len(experts.load_or_train(toy)) == 2


def test_a_long_training_shows_how_far_it_is(experts, toy, caplog, monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(log.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO):
        replace(experts, count=1).load_or_train(toy)
    lines = [line for line in caplog.messages if "epoch" in line]
    assert lines[1] == "expert 1 of 1 (ConvNet): epoch 1/3  eta 24 s"


def test_experts_do_not_depend_on_their_number_and_are_not_trained_twice(experts, toy, monkeypatch):
    two = bytes_of(experts.load_or_train(toy))
    trained = []
    plain = Experts._train
    monkeypatch.setattr(
        Experts, "_train", lambda self, *args: trained.append(args[1]) or plain(self, *args)
    )
    three = bytes_of(replace(experts, count=3).load_or_train(toy))
    assert trained == [2]
    assert three[:2] == two


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4},
        {"lr": 0.02},
        {"seed": 1},
        {"augment": None},
        {"network": ConvNet(name="ConvNet", width=8, depth=1)},
        {"optimiser": "gsam"},
    ],
)
def test_other_settings_are_other_experts(experts, toy, change):
    assert replace(experts, **change).place(toy) != experts.place(toy)
    assert experts.place(replace(toy, std=(0.3,))) != experts.place(toy)


def test_settings_of_gsam_name_other_experts_only_where_it_is_used(experts, toy):
    gsam = replace(experts, optimiser="gsam")
    for change in ({"rho": 0.5}, {"alpha": 0.0}, {"adaptive": False}):
        assert replace(experts, **change).place(toy) == experts.place(toy)
        assert replace(gsam, **change).place(toy) != gsam.place(toy)
    # A name of an earlier version: experts that are cached stay usable.
    assert experts.place(toy).name == "toy_ConvNet_8534b55ab9af150b"


def test_equal_settings_of_yaml_and_python_name_the_same_experts(experts, toy):
    from_yaml = replace(experts, lr_milestones=[], momentum=0, cutmix_p=0)
    assert from_yaml.place(toy) == replace(experts, lr_milestones=()).place(toy)


def test_experts_by_gsam_are_others_and_without_a_perturbation_those_of_sgd(experts, toy):
    plain = experts.load_or_train(toy)[0].state(1)["head.weight"]
    for settings, same in (({}, False), ({"rho": 1e-9, "alpha": 0.0}, True)):
        gsam = replace(experts, count=1, epochs=1, optimiser="gsam", **settings)
        found = gsam.load_or_train(toy)[0].state(1)["head.weight"]
        assert torch.allclose(found, plain, atol=1e-6) == same


def test_a_damaged_file_is_made_again(experts, toy):
    trajectories = experts.load_or_train(toy)
    whole = bytes_of(trajectories)
    file = trajectories[1].file
    file.write_bytes(whole[1][:-100])
    assert read(file) is None
    again = bytes_of(experts.load_or_train(toy))
    assert again[0] == whole[0]
    assert torch.equal(read(file).state(3)["head.bias"], trajectories[1].state(3)["head.bias"])


def test_an_interruption_costs_the_expert_in_training_only(experts, toy, monkeypatch):
    plain = Experts._train

    def interrupted(self, real, index, file):
        if index == 1:
            raise KeyboardInterrupt
        return plain(self, real, index, file)

    monkeypatch.setattr(Experts, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experts.load_or_train(toy)
    assert [file.name for file in experts.place(toy).glob("*.safetensors")] == ["0000.safetensors"]


def test_an_expert_that_another_process_trains_comes_last(experts, toy, monkeypatch):
    order, plain = [], Experts._train

    class Held(contextlib.nullcontext):
        """A lock; another process holds that of the first expert, until one waits for it."""

        def __init__(self, path, blocking):
            super().__init__()
            if path.name == "0000.lock" and not blocking:
                raise LockedError(str(path))

    def train(self, real, index, file):
        order.append(index)
        return plain(self, real, index, file)

    monkeypatch.setattr("dcond.training.experts.locked", Held)
    monkeypatch.setattr(Experts, "_train", train)
    assert len(experts.load_or_train(toy)) == 2
    assert order == [1, 0]


def test_weights_that_are_not_finite_are_refused(experts, toy):
    with pytest.raises(DivergedError, match=r"expert 1 .* try a smaller lr of the experts"):
        replace(experts, lr=1e30).load_or_train(toy)
    assert not list(experts.place(toy).glob("*.safetensors"))


def test_a_folder_that_cannot_be_written_is_named(experts, toy, tmp_path):
    (tmp_path / "experts").write_text("a file")
    with pytest.raises(DataError, match=r"cannot write experts in .*paths\.outputs=FOLDER"):
        experts.load_or_train(toy)


def test_the_command_trains_and_describes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DCOND_OUTPUTS", str(tmp_path))
    assert command.main(["info"]) == 0
    assert "no experts in" in capsys.readouterr().out
    arguments = ["dataset=digits", "model.width=4", "count=2", "epochs=1", "threads=1"]
    assert command.main(arguments) == 0
    assert "2 experts -> " in capsys.readouterr().out
    assert command.main(["info"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "digits ConvNet 2 1 0.01 0" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "epochs=3"], "epochs=3 has no effect on dcond experts info"),
        (["count"], "'count' is not "),
    ],
)
def test_arguments_without_an_effect_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        command.main(arguments)


def test_files_that_vanish_while_they_are_read_are_named(experts, toy, monkeypatch):
    monkeypatch.setattr(Experts, "_train_missing", lambda *_: None)
    with pytest.raises(DataError, match="lost expert files while they were read; start again"):
        experts.load_or_train(toy)


def test_a_full_disk_is_one_line(experts, toy, monkeypatch):
    def full(self, *args):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(Experts, "_train_missing", full)
    with pytest.raises(DataError, match=r"cannot write experts .* No space left on device"):
        experts.load_or_train(toy)

"""An evaluation that was interrupted goes on from the networks that had finished."""

import json
import signal
from dataclasses import dataclass, field, replace

import pytest
import torch

from dcond.distributed import Ranks
from dcond.evaluation import EvaluationProtocol
from dcond.models import MLP, Pool
from dcond.run.context import run_folder
from dcond.run.evaluation import EvaluationPlan, Evaluator
from dcond.run.result import UNFINISHED, RunResult
from dcond.run.signals import Interrupted
from dcond.types import SyntheticSet

PROTOCOL = EvaluationProtocol(name="quick", epochs=1, repeats=2, lr_milestones=())
POOL = Pool(
    networks={
        "one": MLP(name="one", hidden=(12,), lr=0.05),
        "two": MLP(name="two", hidden=(8,), lr=0.05),
    }
)


@dataclass
class Trainings:
    """Networks that were trained, and after how many of them a signal arrives."""

    names: list[str] = field(default_factory=list)
    stop_after: int | None = None


@pytest.fixture
def trainings(monkeypatch) -> Trainings:
    found = Trainings()
    evaluate = EvaluationProtocol.evaluate

    def noted(self, sets, pool, *args, **kwargs):
        if len(found.names) == found.stop_after:
            raise Interrupted(signal.SIGTERM)
        found.names.append("+".join(pool.networks))
        return evaluate(self, sets, pool, *args, **kwargs)

    monkeypatch.setattr(EvaluationProtocol, "evaluate", noted)
    return found


@pytest.fixture
def run(toy, tmp_path):
    """Evaluate a set in one run folder, which the caller may change."""
    plan = EvaluationPlan(protocol=PROTOCOL, pool=POOL, seed=0, cache=tmp_path / "cache")

    def evaluate(
        bright=0.5,
        config: str | None = "a",
        folder="run",
        real=toy,
        label=None,
        device="cpu",
        versions=None,
        commit=None,
        **changed,
    ):
        images = torch.full((3, 1, 8, 8), bright)
        synthetic = SyntheticSet.from_images(images, real, ipc=1, factor=1)
        result = RunResult(
            method="dm", config_sha256=config, device=device, versions=versions, git_commit=commit
        )
        where = None if folder is None else tmp_path / folder
        evaluator = Evaluator(replace(plan, **changed), real, show_progress=False, label=label)
        evaluator.evaluate(synthetic, result, where)
        parts = (result.evaluation, result.baselines.random)
        return result, [[x.accuracies for x in each.networks.values()] for each in parts if each]

    return evaluate


def brighter(split):
    images = split.images.clone()
    images[1] += 1
    return replace(split, images=images)


def interrupt(run, trainings, after, **how):
    trainings.names.clear()
    trainings.stop_after = after
    with pytest.raises(Interrupted):
        run(**how)
    trainings.names.clear()
    trainings.stop_after = None


@pytest.mark.parametrize("after", [1, 2, 3])
def test_finished_networks_are_not_trained_again(after, run, trainings, tmp_path):
    _, whole = run(folder=None)
    interrupt(run, trainings, after)
    assert len(list((tmp_path / "run" / UNFINISHED).iterdir())) == after
    result, resumed = run()
    assert resumed == whole
    assert trainings.names == ["one", "two", "one", "two"][after:]
    assert result.evaluation.networks.keys() == POOL.networks.keys()


def test_the_time_before_the_interruption_counts(run, trainings, tmp_path):
    interrupt(run, trainings, 2)
    for file in (tmp_path / "run" / UNFINISHED).iterdir():
        content = json.loads(file.read_text())
        (network,) = content["networks"].values()
        network["wall_s"] = 100.0
        file.write_text(json.dumps(content))
    result, _ = run()
    assert 200 < result.cost.evaluate_wall_s < 300


def test_the_finished_run_removes_what_was_kept(run, trainings, tmp_path):
    """Only then: a disk may be full when the result is written."""
    interrupt(run, trainings, 2)
    result, _ = run()
    assert (tmp_path / "run" / UNFINISHED).is_dir()
    with run_folder(result, tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / UNFINISHED).exists()


def test_several_processes_keep_nothing(run, trainings, tmp_path, monkeypatch):
    """They share the trainings of all networks."""
    monkeypatch.setattr("dcond.run.evaluation.current", lambda: Ranks(0, 2))
    interrupt(run, trainings, 1)
    assert not (tmp_path / "run").exists()


def test_another_set_configuration_or_rival_is_trained_from_the_start(run, toy, trainings):
    interrupt(run, trainings, 3)
    rival = SyntheticSet.from_images(torch.zeros(3, 1, 8, 8), toy, ipc=1, factor=1)
    for how in ({"bright": 0.25}, {"config": "b"}, {"against": rival}):
        trainings.names.clear()
        run(**how)
        assert trainings.names == ["one", "two"] * (3 if "against" in how else 2)


def test_other_data_weights_or_kinds_of_labels_are_trained_from_the_start(
    run, toy, trainings, tmp_path
):
    """All of which can change while the configuration stays: it holds paths."""
    file, weights = tmp_path / "w.pt", {}
    for value in (0.0, 0.1):
        network = POOL.networks["one"].build(toy.spec, torch.Generator())
        torch.nn.init.constant_(next(iter(network.parameters())), value)
        weights[value] = network.state_dict()

    def loaded():  # as another process would: a recipe reads its file once
        return {"pool": Pool(networks={"one": replace(POOL.networks["one"], weights=str(file))})}

    others = {
        "other test images": {"real": replace(toy, test=toy.train)},
        "other training images": {"real": replace(toy, train=toy.train.part(torch.arange(80)))},
        "other pixels": {"real": replace(toy, train=brighter(toy.train))},
        "labelled": {"label": lambda synthetic: synthetic},
        "another device": {"device": "cuda"},
        "another version": {"versions": {"torch": "1.0"}},
        "another commit": {"commit": "0123456"},
        "weights": loaded(),
    }
    for name, how in others.items():
        before = loaded() if name == "weights" else {}
        torch.save(weights[0.0], file)
        interrupt(run, trainings, 1, folder=name, **before)
        torch.save(weights[0.1], file)
        run(folder=name, **how)
        assert trainings.names == (["one"] * 2 if before else ["one", "two"] * 2), name


def test_nothing_is_kept_without_a_folder_or_an_identity(run, trainings, tmp_path):
    for how in ({"folder": None}, {"config": None}):
        interrupt(run, trainings, 1, **how)
        assert not (tmp_path / "run").exists()
        run(**how)
        assert trainings.names == ["one+two"] * 2


def test_a_damaged_file_is_replaced(run, trainings, tmp_path):
    interrupt(run, trainings, 1)
    (file,) = (tmp_path / "run" / UNFINISHED).iterdir()
    file.write_text("{")
    run()
    assert trainings.names == ["one", "two"] * 2

"""An evaluation that was interrupted goes on from the networks that had finished."""

import signal
from dataclasses import dataclass, field, replace

import pytest
import torch

from dcond.evaluation import EvaluationProtocol
from dcond.models import MLP, Pool
from dcond.run.evaluation import UNFINISHED, EvaluationPlan, Evaluator
from dcond.run.result import RunResult
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
        bright=0.5, config: str | None = "a", folder="run", real=toy, label=None, **changed
    ):
        images = torch.full((3, 1, 8, 8), bright)
        synthetic = SyntheticSet.from_images(images, real, ipc=1, factor=1)
        result = RunResult(method="dm", config_sha256=config)
        where = None if folder is None else tmp_path / folder
        evaluator = Evaluator(replace(plan, **changed), real, show_progress=False, label=label)
        evaluator.evaluate(synthetic, result, title="a table", folder=where)
        parts = (result.evaluation, result.baselines.random)
        return result, [[x.accuracies for x in each.networks.values()] for each in parts if each]

    return evaluate


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
    assert list((tmp_path / "run").iterdir()) == []
    whole_s = sum(each.wall_s for each in (result.evaluation, result.baselines.random))
    assert result.cost.evaluate_wall_s >= whole_s  # with the time before the interruption


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
        "labelled": {"label": lambda synthetic: synthetic},
        "weights": loaded(),
    }
    for name, how in others.items():
        before = loaded() if name == "weights" else {}
        torch.save(weights[0.0], file)
        interrupt(run, trainings, 1, **before)
        torch.save(weights[0.1], file)
        run(**how)
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

"""``dcond.run.condense`` and ``dcond.run.evaluate``: parts that were built in Python."""

from dataclasses import replace

import pytest
import torch

import dcond
import dcond.run
from dcond.data import Digits
from dcond.errors import ArtefactError, DataError
from dcond.evaluation import EvaluationProtocol
from dcond.models import MLP, ConvNet, Pool
from dcond.types import SyntheticSet

POOL = Pool(networks={"MLP": MLP(name="MLP", hidden=(8,), lr=0.05)})
PROTOCOL = EvaluationProtocol(name="mine", epochs=2, repeats=2, lr_milestones=())


def evaluate(synthetic, real, **more):
    return dcond.run.evaluate(
        synthetic,
        real,
        **{"pool": POOL, "protocol": PROTOCOL, "show_progress": False} | more,
    )


@pytest.fixture
def synthetic(toy):
    return SyntheticSet.from_images(torch.rand(3, 1, 8, 8), toy)


def test_result_and_table_are_those_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = Digits(name="digits").load()
    synthetic = SyntheticSet.from_images(torch.rand(10, 1, 8, 8), real)
    few = ["evaluation.epochs=2", "evaluation.repeats=2", "evaluation.lr_milestones=[]"]
    command = dcond.evaluate(
        synthetic,
        dataset="digits",
        pool="convnet",
        overrides=["evaluation=dc300", *few, "pool.networks.ConvNet.width=8"],
        progress=False,
    )
    pool = Pool(networks={"ConvNet": ConvNet(name="ConvNet", width=8)})
    name = command.result.evaluation.protocol
    protocol = replace(PROTOCOL, name=name, reset_optimizer_at_drop=True)
    ours = evaluate(synthetic, real, pool=pool, protocol=protocol)
    assert ours.result.status == "done"
    assert str(ours) == str(command)
    for result in ("evaluation", "baselines"):
        own, his = (getattr(run.result, result) for run in (ours, command))
        own, his = (getattr(found, "random", found) for found in (own, his))
        assert own.networks["ConvNet"].accuracies == his.networks["ConvNet"].accuracies


def test_random_images_and_another_set_stand_beside(toy, synthetic):
    brighter = replace(synthetic, images=synthetic.images / 2)
    result = evaluate(synthetic, toy, against=brighter).result
    assert result.baselines.random is not None
    assert result.comparison.evaluation.networks.keys() == {"MLP"}
    assert evaluate(synthetic, toy, baselines=False).result.baselines.random is None


def test_classes_of_another_order_are_matched_by_name(toy, synthetic):
    order = [2, 0, 1]
    turned = replace(
        synthetic,
        images=synthetic.images[order],
        class_names=tuple(toy.class_names[index] for index in order),
    )
    ours, theirs = (evaluate(each, toy).result.evaluation for each in (synthetic, turned))
    assert ours.networks["MLP"].accuracies == theirs.networks["MLP"].accuracies


def test_the_seed_chooses_the_networks(toy, synthetic):
    runs = [evaluate(synthetic, toy, seed=seed, baselines=False) for seed in (0, 0, 1)]
    first, again, other = (run.result.evaluation.networks["MLP"].accuracies for run in runs)
    assert first == again != other


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": torch.full((3, 1, 8, 8), torch.nan)}, ArtefactError, "the set"),
        ({"images": torch.rand(3, 1, 9, 9)}, DataError, "height=9"),
        ({"class_names": ("a", "b", "c")}, DataError, "class"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(toy, synthetic, changes, error, message):
    with pytest.raises(error, match=message):
        evaluate(replace(synthetic, **changes), toy)

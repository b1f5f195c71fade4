"""Evaluation on a device whose tensors are not the CPU's: the same accuracies, waits at tests only."""

from dataclasses import replace

import pytest
import torch

import dcond.run
from dcond.augment import DiffAug
from dcond.evaluation import EvaluationProtocol
from dcond.evaluation.full_data import hold_out
from dcond.init import FromReal, Random
from dcond.methods import Selection
from dcond.models import MLP, ConvNet, Pool, ResNet, ViT
from dcond.training.teacher import Teacher
from dcond.types import SyntheticSet
from helpers.pretend_device import pretend_device

POOL = Pool(
    networks={
        "ConvNet": ConvNet(name="ConvNet", width=4),
        "ResNet": ResNet(name="ResNet", blocks=(1,), width=4, norm="batch"),
        "MLP": MLP(name="MLP", hidden=(8,)),
        "ViT": ViT(name="ViT", depth=1, width=8, heads=2),
    }
)
AUGMENT = DiffAug(["color", "crop", "cutout", "scale", "rotate"])
PROTOCOLS = {
    "in turn": {"stack": False, "cutmix_p": 0.5},
    "stacked": {"stack": True, "cutmix_p": 0.5},
    "AdamW, best of several tests": {"stack": False, "optimiser": "adamw", "best_every": 2},
    "rates searched": {"stack": False, "lr": "search", "search_rates": (0.01, 0.1)},
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_accuracies_are_those_of_the_cpu(name, chosen, toy):
    rules = EvaluationProtocol(
        name="short", epochs=3, repeats=2, augment=AUGMENT, **PROTOCOLS[name]
    )
    with pretend_device() as device:
        found = []
        for real in (toy.to(device.name), toy):
            synthetic, held_out = chosen.to(real.device), hold_out(rules, real)
            found.append(
                rules.evaluate(lambda _, s=synthetic: s, POOL, real.test, 0, held_out=held_out)
            )
        waits = dict(device.waits)
    there, here = found
    for network, result in here.networks.items():
        assert there.networks[network].accuracies == result.accuracies
        assert there.networks[network].best == result.best
    assert all("accuracy.py" in place or "full_data.py" in place for place in waits), waits


@pytest.mark.slow
def test_labels_of_a_teacher_are_those_of_the_cpu(chosen, toy, tmp_path):
    teacher = Teacher(network=POOL.networks["ConvNet"], epochs=2)
    rules = EvaluationProtocol(name="soft", epochs=3, repeats=2, teacher=teacher)
    with pretend_device() as device:
        found = []
        for folder, real in (("there", toy.to(device.name)), ("here", toy)):
            trained = teacher.load_or_train(real, tmp_path / folder)
            synthetic = chosen.to(real.device)
            found.append(
                rules.evaluate(lambda _, s=synthetic: s, POOL, real.test, 0, teacher=trained)
            )
    there, here = ({n: r.accuracies for n, r in result.networks.items()} for result in found)
    assert there == here


def test_a_learned_rate_moves_with_its_set(toy):
    made = SyntheticSet.from_images(torch.rand(3, 1, 8, 8), toy)
    with pretend_device() as there:
        rate = torch.tensor(0.1).to(there.name)
        moved = replace(made, learned_lr=rate).to(torch.device("cpu"))
    assert moved.learned_lr.device.type == "cpu"


def test_any_training_loop_can_use_the_sets(toy):
    """As a loaded set; on a GPU they would fit neither a merge nor a DataLoader with workers."""
    pool = Pool(networks={"MLP": MLP(name="MLP", hidden=(8,))})
    protocol = EvaluationProtocol(name="short", epochs=1, repeats=1, lr_milestones=())
    with pretend_device() as there:
        how = {"device": torch.device(there.name), "show_progress": False}
        condensed = dcond.run.condense(
            toy, method=Selection(rule=Random()), init=FromReal(rule=Random()), **how
        )
        evaluated = dcond.run.evaluate(
            condensed.synthetic, toy, pool=pool, protocol=protocol, baselines=False, **how
        )
    for run in (condensed, evaluated):
        assert run.result.device == str(there.name)
        assert {run.synthetic.images.device.type, run.synthetic.labels.device.type} == {"cpu"}

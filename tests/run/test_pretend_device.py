"""Runs on a device whose tensors are not the CPU's return their sets on the CPU."""

import torch

import dcond.run
from dcond.evaluation import EvaluationProtocol
from dcond.init import FromReal, Random
from dcond.methods import Selection
from dcond.models import MLP, Pool
from helpers.pretend_device import pretend_device


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

"""``dcond.run.condense`` and ``dcond.run.evaluate``: parts that were built in Python."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import nn

import dcond
import dcond.run
from dcond.data import Digits
from dcond.errors import ArtefactError, ConfigError, DataError, DcondError
from dcond.evaluation import EvaluationProtocol
from dcond.init import FromReal, Random
from dcond.methods import DM
from dcond.methods.base import NoState
from dcond.models import MLP, ConvNet, Pool, Recipe
from dcond.models.staged import Staged
from dcond.settings import settings
from dcond.types import SyntheticSet
from dcond.whitening import fit_whitening

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


def test_a_network_that_refuses_the_sets_normalisation_is_named_before_any_training(
    toy, synthetic, monkeypatch
):
    @settings
    class Unwhitened(MLP):
        def module(self, spec):
            if spec.whitening is not None:
                raise ConfigError("not whitened images")
            return super().module(spec)

    def fail(*_, **__):
        raise AssertionError("a network is trained")

    monkeypatch.setattr(EvaluationProtocol, "evaluate", fail)
    pool = Pool(networks={"Own": Unwhitened(name="Own", hidden=(8,))})
    whitening = fit_whitening(toy.train.images)
    with pytest.raises(ConfigError, match="not whitened images"):
        evaluate(replace(synthetic, whitening=whitening, mean=(0.0,), std=(1.0,)), toy, pool=pool)


def test_calls_from_threads_do_not_mix(toy):
    """A method draws from PyTorch's global generator where a network is built."""

    def made(seed):
        method = DM(network=MLP(name="MLP", hidden=(8,)), steps=20, lr=1.0, batch_real=4)
        init = FromReal(rule=Random())
        run = dcond.run.condense(toy, method=method, init=init, seed=seed, show_progress=False)
        return run.synthetic.images

    alone = [made(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(made, range(4)))
    assert all(map(torch.equal, alone, together))


def test_too_little_memory_is_one_line(toy, synthetic, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")

    monkeypatch.setattr(Own, "step", fail)
    with pytest.raises(DcondError, match=r"^out of memory"):
        dcond.run.condense(toy, method=Own(), init=Own(), show_progress=False)
    monkeypatch.setattr(EvaluationProtocol, "evaluate", fail)
    with pytest.raises(DcondError, match=r"^out of memory"):
        evaluate(synthetic, toy)


def test_a_device_may_be_named(toy, synthetic):
    expected = evaluate(synthetic, toy).result.evaluation.average
    assert evaluate(synthetic, toy, device="cpu").result.evaluation.average == expected
    with pytest.raises(ConfigError, match="device='cudaa'"):
        evaluate(synthetic, toy, device="cudaa")


class Own:
    """A method whose batches may be whole classes, and an initialiser that keeps its images."""

    steps, factor, batch_real = 1, 1, None

    def __init__(self):
        self.kept = torch.rand(3, 1, 8, 8)

    def __call__(self, real, ipc, factor, rng):
        return self.kept

    def init(self, real, synthetic, rng):
        return NoState()

    def step(self, real, synthetic, state):
        with torch.no_grad():
            synthetic.images.zero_()
        return {"loss": torch.zeros(())}


def test_the_images_of_an_initialiser_are_not_changed(toy):
    own = Own()
    before = own.kept.clone()
    run = dcond.run.condense(toy, method=own, init=own, show_progress=False)
    assert torch.equal(own.kept, before)
    assert not run.synthetic.images.any()


@pytest.mark.parametrize("logits", [2, None])
def test_a_network_that_does_not_fit_is_refused_before_any_step(logits, toy, synthetic):
    @settings
    class Wrong(Recipe):
        def module(self, spec):
            side = 64 if logits else 99
            return Staged([nn.Identity()], nn.Flatten(), nn.Linear(side, logits or 3), (8, 8))

    message = r"pool\.networks\.W does not fit images \(1, 8, 8\) of 3 classes: "
    with pytest.raises(ConfigError, match=message):
        evaluate(synthetic, toy, pool=Pool(networks={"W": Wrong(name="W")}))


def test_the_other_set_is_checked_for_signs_of_misreading_too(toy, synthetic, caplog):
    dark = replace(synthetic, images=synthetic.images / 50, metadata={"read_as": "normalised"})
    evaluate(synthetic, toy, against=dark)
    (line,) = [line for line in caplog.messages if line.startswith("against: ")]
    assert "against.normalised=false" in line
    assert "synthetic." not in line

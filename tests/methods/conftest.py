"""What the tests of methods share: a method's YAML composed small, run by the one loop, and data of
odd shapes.
"""

import copy
import functools
import json
import re
from dataclasses import dataclass

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from dcond.cli.instantiate import build
from dcond.matching.class_gradients import ClassGradients
from dcond.paths import conf_dir
from dcond.rng import Streams
from dcond.run.loop import LoopSettings, Run
from dcond.run.recorder import Recorder
from dcond.run.signals import Stop
from dcond.types import RealData, Split, SyntheticSet
from helpers import m3d_runs
from helpers.double import Double, double_data

# Every setting of this name, anywhere in a method, its network or its first images: seconds become
# milliseconds.
SMALL = {
    "steps": 24,
    "train_steps": 10,
    "width": 16,
    "batch_real": 16,
    "inner_epochs": 2,
    "train_images": 32,
    "batch_train": 32,
    "inner_steps": 2,
    "train_networks": 1,
    "heads": 2,
    "count": 2,
    "frequencies": 64,
    "epochs": 3,
    "student_steps": 3,
    "max_start_epoch": 2,
    "copies": 4,
    "grow_every": 3,
    "first_max_epoch": 1,
    "growth_steps": 4,
}
STEPS_PER_NETWORK = {"idc": 5, "m3d": 5}  # 3 for the others
EXPERTS = {"batch": 32, "lr": 0.05}  # twelve steps on the toy data that get somewhere
SHALLOW = {"depth": 1}  # where a depth is set at all: null takes it from the image's size


@pytest.fixture(autouse=True, scope="session")
def _outputs(tmp_path_factory):
    """A folder for experts: the tests of a method share them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCOND_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


@functools.cache
def _composed(arguments: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        # dataset=npz: no file in conf/tuned speaks of it, so the method's own settings are what is
        # tested.
        return compose(
            "condense", overrides=["dataset=npz", "dataset.path=unused", "engine=exact", *arguments]
        )


def _replace(node: DictConfig, settings: dict) -> None:
    for key, value in node.items():
        if isinstance(value, DictConfig):
            _replace(value, settings)
        elif key in settings:
            node[key] = settings[key]
        elif key in SHALLOW and value is not None:
            node[key] = SHALLOW[key]


@dataclass
class Parts:
    """A method and its initialiser, made from YAML alone."""

    method: object
    start: object


def make_parts(name: str, *arguments: str, **settings) -> Parts:
    """Compose ``method=name`` with more arguments; ``settings`` replace values by their last name,
    where there is one.
    """
    cfg = copy.deepcopy(_composed((f"method={name}", *arguments)))
    small = SMALL | {"steps_per_network": STEPS_PER_NETWORK.get(name, 3)}
    with open_dict(cfg):
        for part in (cfg.model, cfg.method, cfg.init):
            _replace(part, small | settings)
        if "experts" in cfg.method:
            cfg.method.experts.update(EXPERTS)
    return Parts(build(cfg.method, name), build(cfg.init, "init"))


@dataclass
class Outcome:
    """What a run left."""

    synthetic: SyntheticSet
    first: torch.Tensor
    losses: list[float]
    run: Run

    @property
    def bytes(self) -> bytes:
        return self.synthetic.images.detach().numpy().tobytes()


def empty_set(parts: Parts, real: RealData, ipc: int, rng: Streams) -> SyntheticSet:
    """Return the first images in their record, as the application makes it."""
    return SyntheticSet(
        images=parts.start(real, ipc, parts.method.factor, rng),
        labels=torch.arange(len(real.class_names)).repeat_interleave(ipc),
        class_names=real.class_names,
        ipc=ipc,
        mean=real.mean,
        std=real.std,
        factor=parts.method.factor,
    )


def run_parts(
    parts,
    real,
    folder,
    *,
    seed=0,
    ipc=2,
    loop=None,
    stop=None,
    moment=None,
    recorder=None,
    evaluate=None,
):
    """Run a method with the engine, as the application does, and return an :class:`Outcome`."""
    folder.mkdir(exist_ok=True)
    rng = Streams(seed)
    synthetic = empty_set(parts, real, ipc, rng)
    first = synthetic.images.detach().clone()
    recorder = recorder or Recorder(
        folder, after_step=moment.step if moment else 0, tensorboard=False
    )
    run = Run(
        method=parts.method,
        real=real,
        synthetic=synthetic,
        rng=rng,
        folder=folder,
        config="",
        loop=loop or LoopSettings(record_every=1),
        recorder=recorder,
        stop=stop or Stop(),
        evaluate=evaluate,
    )
    try:
        run.condense(moment)
    finally:
        recorder.close()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    losses = [
        record["condense/loss"] for record in map(json.loads, lines) if "condense/loss" in record
    ]
    return Outcome(synthetic, first, losses, run)


@pytest.fixture(autouse=True)
def own_outputs(tmp_path, monkeypatch):
    """Trained networks are cached in ``outputs`` of the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def parts():
    return make_parts


@pytest.fixture
def condense(tmp_path):
    """Run a method by name in a folder of its own; every argument of either step may be given."""
    count = iter(range(100))

    def run(name, real, *arguments, seed=0, ipc=2, loop=None, evaluate=None, **settings):
        made = make_parts(name, f"ipc={ipc}", *arguments, **settings)
        folder = tmp_path / f"{re.sub(r'[^a-z0-9_]', '_', name)}{next(count)}"
        return run_parts(made, real, folder, seed=seed, ipc=ipc, loop=loop, evaluate=evaluate)

    return run


@pytest.fixture
def run_made():
    return run_parts


@pytest.fixture
def data():
    """Make data of any shape: one level of grey per class under noise."""

    def make(sizes, channels=1, side=8) -> RealData:
        rng = torch.Generator().manual_seed(1)
        labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        level = labels.view(-1, 1, 1, 1) * 200 / len(sizes)
        images = (level + 55 * torch.rand(len(labels), channels, side, side, generator=rng)).to(
            torch.uint8
        )
        split = Split(images, labels)
        names = tuple(f"class {c}" for c in range(len(sizes)))
        return RealData("made", split, split, names, (0.5,) * channels, (0.25,) * channels)

    return make


@pytest.fixture
def real() -> Double:
    """Real images of 4 x 4 pixels in float64, as the tests of M3D want them."""
    return double_data(m3d_runs.CLASSES, m3d_runs.PER_CLASS, 4)


@pytest.fixture
def matched(monkeypatch) -> list[tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]]:
    """What every step matches: real and synthetic images, and the weights."""
    seen, plain = [], ClassGradients.match

    def match(gradients, batch, images, *args, **kwargs):
        weights = [p.detach().clone() for p in gradients.network.parameters()]
        seen.append((batch.tensor().detach(), images.detach(), weights))
        return plain(gradients, batch, images, *args, **kwargs)

    monkeypatch.setattr(ClassGradients, "match", match)
    return seen


@pytest.fixture
def batch_norms(monkeypatch) -> list[bool]:
    """Whether any batch norm uses the statistics of the batch, at every matching of gradients."""
    seen = []
    match = ClassGradients.match

    def watched(self, *args, **settings):
        norms = [m for m in self.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert norms
        seen.append(any(norm.training for norm in norms))
        return match(self, *args, **settings)

    monkeypatch.setattr(ClassGradients, "match", watched)
    return seen

"""Settings of arbitrary value on valid images: a run that is not refused must finish."""

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dcond import artefact
from dcond.paths import conf_dir
from dcond.types import SyntheticSet
from helpers.one_line import called


def fields(path):
    """Return the settings of a file in conf/ by dotted name."""
    found = {}
    for name, value in yaml.safe_load((conf_dir() / f"{path}.yaml").read_text()).items():
        inner = value if isinstance(value, dict) else {"": value}
        found |= {f"{name}.{key}".strip("."): inner[key] for key in inner}
    parts = {
        name for name, value in found.items() if "_target_" in name or str(value).startswith("$")
    }
    return {name: value for name, value in found.items() if name not in parts | {"defaults"}}


EXPERTS = {f"experts.{name}": value for name, value in fields("experts/default").items()}
METHODS = {
    path.stem: fields(f"method/{path.stem}") | (EXPERTS if "experts@" in path.read_text() else {})
    for path in sorted((conf_dir() / "method").glob("*.yaml"))
}
SMALL = {
    "steps": 2,
    "batch_real": 2,
    "batch_train": 2,
    "inner_steps": 1,
    "inner_epochs": 1,
    "steps_per_network": 1,
}
SMALL |= {"rule.embedding.train_steps": 1, "experts.count": 2, "experts.epochs": 50}
SMALL |= {"student_steps": 2, "max_start_epoch": 1, "first_max_epoch": 1}
DATA = ("dataset=npz", "dataset.path=tiny.npz", "device=cpu", "threads=1", "baselines=false")
POOL = (
    "pool=convnet",
    "pool.networks.ConvNet.width=4",
    "evaluation.epochs=1",
    "evaluation.repeats=1",
)
RUN = ("debug=tiny", "max_steps=1", "engine=exact", "model.width=4", "init=real")
RUN += (
    "pool@learners=convnet_vit_small",
    "learners.networks.ConvNet.width=4",
    "learners.networks.ViT.width=4",
)

OF_EVALUATION = {
    f"evaluation.{name}": value for name, value in fields("evaluation/dsa1000").items()
}
OF_EVALUATION |= {
    f"pool.networks.ConvNet.{name}": value for name, value in fields("model/convnet").items()
}
OF_EVALUATION |= {
    "dataset.flip": False,
    "dataset.stats": "pixel",
    "dataset.keep": "auto",
    "seed": 0,
    "teacher": "a",
}
OF_RUN = {f"model.{name}": value for name, value in fields("model/convnet").items()}
OF_RUN |= {f"engine.{name}": value for name, value in fields("engine/exact").items()}
OF_RUN |= dict.fromkeys(
    ("ipc", "max_steps", "max_seconds", "loop.record_every", "loop.evaluate_every"), 1
)
OF_RUN |= {
    "loop.checkpoint_every_s": 0.5,
    "init": "a",
    "augment": "a",
    "test_on": "test",
    "scores.full": False,
}

# No large integers: a valid run with them takes too long.
ODD = (
    "null",
    "[]",
    "[1]",
    "{}",
    "''",
    "1e400",
    "-nan",
    "inf",
    "-0.0",
    "1e-45",
    "1e30",
    "a",
    "auto",
)
NAMED = "mean max none free pixel sequential random kmeans linear pairwise target batch instance"
NAMED += " layer group relu sigmoid intra inter interleaved measured rowwise squared conv_l1"
NAMED += " whole_cosine gaussian poly2 noise mix dsa held_out disk"
FITTING = {
    bool: st.sampled_from(("true", "false")),
    int: st.integers(0, 6).map(str),
    float: st.sampled_from(("1e-45", "1e-3", "0.25", "0.999", "1.0", "2.5", "1e30")),
    str: st.sampled_from(NAMED.split()),
}
CHOICES = sorted(
    {path.stem for path in conf_dir().glob("*/*.yaml")} - {"hmdc_paper", "resnet18", "timm"}
)
odd = (
    st.sampled_from(ODD)
    | st.integers(-2, 9).map(str)
    | st.floats(-2, 2).map(str)
    | st.sampled_from(CHOICES)
)
some = settings(max_examples=settings.default.max_examples // 4)  # a run each


def setting(item: tuple[str, object]) -> st.SearchStrategy[str]:
    """One setting, mostly with a value of the type of its default."""
    name, default = item
    fitting = FITTING.get(type(default), odd)
    return st.builds(f"{name}={{}}".format, st.one_of(fitting, fitting, fitting, odd))


def lines(defaults: dict[str, object]) -> st.SearchStrategy[list[str]]:
    return st.lists(
        st.sampled_from(sorted(defaults.items(), key=str)).flatmap(setting), min_size=1, max_size=2
    )


def of_method(name: str) -> st.SearchStrategy[tuple[str, list[str]]]:
    own = {f"method.{key}": value for key, value in METHODS[name].items()}
    return st.tuples(st.just(name), lines(own) | lines(OF_RUN) | lines(OF_EVALUATION))


runs = st.sampled_from(sorted(METHODS)).flatmap(of_method)


def fill(folder):
    """Create a data set of two classes and a synthetic set with one image of each."""
    rng = np.random.default_rng(0)
    made = {}
    for split, count in (("train", 6), ("test", 4)):
        made[f"{split}_images"] = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        made[f"{split}_labels"] = np.arange(count) % 2
    np.savez(folder / "tiny.npz", **made, class_names=np.array(["a", "b"]))
    images, labels = torch.full((2, 1, 8, 8), 0.5), torch.tensor([0, 1])
    artefact.save(
        SyntheticSet(images, labels, ("a", "b"), 1, (0.5,), (0.25,)), folder / "set.safetensors"
    )


def condense(method, *arguments):
    small = [f"method.{name}={value}" for name, value in SMALL.items() if name in METHODS[method]]
    return called(
        ["condense", *DATA, f"method={method}", *RUN, *POOL, *small, *arguments],
        fill,
        before_the_work=False,
    )


def evaluate(*arguments):
    return called(["evaluate", "set.safetensors", *DATA, *POOL, *arguments], fill)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_default_run_finishes(method):
    assert condense(method) == 0


def test_default_evaluation_finishes():
    assert evaluate() == 0


@some
@given(runs)
def test_run_finishes_or_is_refused(run):
    condense(run[0], *run[1])


@some
@given(lines(OF_EVALUATION))
def test_evaluation_finishes_or_is_refused(arguments):
    evaluate(*arguments)

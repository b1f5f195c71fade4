"""Every YAML composes, every ``_target_`` takes what stands below it, and what is written in a file has its effect."""

import importlib
import inspect
import re
from functools import cache

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf

from dcond.cli.overrides import group_options
from dcond.cli.instantiate import build
from dcond.cli.list import KINDS, entries
from dcond.paths import conf_dir

CONF = conf_dir()
FILES = sorted(CONF.rglob("*.yaml"))
PARTS = ("method", "dataset", "model", "pool", "init", "augment", "evaluation", "teacher")
ON_TOP = ("tuned", "experiment", "debug")
CASES = [(group, name) for group in (*PARTS, *ON_TOP) for name in group_options(group)]


@cache
def composed(*words: str, config: str = "condense") -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose(config_name=config, overrides=list(words))


def words_for(group: str, name: str) -> list[str]:
    """The words that choose a file: a tuned one comes with its method and data set."""
    if group == "tuned":
        method, dataset = name.split("-")
        return [f"method={method}", f"dataset={dataset}"]
    needs_path = group == "dataset" and name in ("npz", "image_folder")
    return [f"{group}={name}"] + ["dataset.path=x"] * needs_path


def bind(node: object, where: str, faults: list[str]) -> None:
    """Bind every ``_target_`` below a node to the settings beside it; collect what does not fit."""
    if isinstance(node, list):
        for index, part in enumerate(node):
            bind(part, f"{where}[{index}]", faults)
    if not isinstance(node, dict):
        return
    for key, part in node.items():
        bind(part, f"{where}.{key}", faults)
    if "_target_" in node:
        module, _, name = node["_target_"].rpartition(".")
        target = getattr(importlib.import_module(module), name)
        try:
            inspect.signature(target).bind(
                **{key: value for key, value in node.items() if not key.startswith("_")}
            )
        except TypeError as error:
            faults.append(f"{where}: {error}")


@pytest.mark.parametrize(("group", "name"), CASES)
def test_it_composes_and_binds(group, name):
    cfg = composed(*words_for(group, name))
    assert set(cfg) == set(composed())  # a mistyped key at the top would be a new one
    faults: list[str] = []
    for part in (*PARTS, "loop"):
        if cfg[part] is not None:  # no teacher, if none is named
            bind(OmegaConf.to_container(cfg[part], resolve=True), part, faults)
    assert faults == []


@pytest.mark.parametrize(("group", "name"), [case for case in CASES if case[0] in PARTS])
def test_it_can_be_made(group, name):
    cfg = composed(*words_for(group, name))
    assert type(build(cfg[group], f"{group}={name}")).__module__.startswith("dcond.")


@pytest.mark.parametrize(("group", "name"), [case for case in CASES if case[0] in ON_TOP])
def test_what_it_says_is_what_comes_out(group, name):
    cfg = composed(*words_for(group, name))
    said = OmegaConf.load(CONF / group / f"{name}.yaml")
    said.pop("defaults", None)
    lost = [
        key
        for key, value in leaves(said)
        if OmegaConf.select(cfg, key) != value and "${" not in str(value)
    ]
    assert lost == []
    assert list(leaves(said))


def leaves(node: DictConfig, prefix: str = "") -> list[tuple[str, object]]:
    """Every setting of a file by its full key."""
    found: list[tuple[str, object]] = []
    for key, value in OmegaConf.to_container(node, resolve=False).items():
        full = f"{prefix}{key}"
        found += (
            leaves(OmegaConf.create(value), f"{full}.")
            if isinstance(value, dict) and value
            else [(full, value)]
        )
    return [
        (key, OmegaConf.create(value) if isinstance(value, list) else value) for key, value in found
    ]


def test_every_tuned_file_can_be_reached():
    for name in group_options("tuned"):
        method, _, dataset = name.partition("-")
        assert (CONF / "method" / f"{method}.yaml").is_file(), name
        assert (CONF / "dataset" / f"{dataset}.yaml").is_file(), name


@pytest.mark.parametrize("config", ["condense", "evaluate", "data"])
def test_the_primary_configs_compose(config):
    cfg = composed(*["dataset=digits"] * (config != "condense"), config=config)
    assert cfg.dataset.name == "digits"
    assert (
        "tiny" in str(cfg.pool) or "ConvNet" in cfg.pool.networks
    )  # digits bring networks that take 8 x 8


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CONF).as_posix())
def test_the_first_comment_describes_and_the_package_stands_where_hydra_looks(file):
    first, second = [*file.read_text(encoding="utf-8").splitlines(), ""][:2]
    assert first.startswith("# ")
    described = second if first.startswith("# @package") else first
    assert re.fullmatch(r"# \S.{9,}", described), described
    assert "# @package" not in "\n".join(file.read_text(encoding="utf-8").splitlines()[1:])


def test_papers_are_written_alike():
    papers = [
        entry.paper for group in KINDS.values() for entry in entries(CONF / group) if entry.paper
    ]
    assert papers
    odd = [
        paper
        for paper in papers
        if not re.fullmatch(r".+, (arXiv \d{4}\.\d{5}|[A-Za-z]+ \d{4})", paper)
    ]
    assert odd == []


def test_every_group_is_listed():
    unlisted = {path.name for path in CONF.iterdir() if path.is_dir()} - set(KINDS.values())
    assert unlisted <= {
        "hydra",
        "paths",
        "tuned",
        "debug",
        "protocol",
    }  # the last is what evaluations begin with


def test_a_pair_finds_its_tuned_settings_and_the_command_line_wins(tmp_path):
    """The order of the defaults list, on files of our own."""
    (tmp_path / "own" / "tuned").mkdir(parents=True)
    (tmp_path / "own" / "tuned" / "dm-kmnist.yaml").write_text(
        "# @package _global_\n# x\nmethod:\n  lr: 7.0\n"
    )
    search = f"hydra.searchpath=[file://{tmp_path / 'own'}]"
    assert composed(search, "method=dm", "dataset=kmnist").method.lr == 7.0
    assert composed(search, "method=dm", "dataset=kmnist", "method.lr=2").method.lr == 2
    assert composed(search, "method=dm", "dataset=mnist").method.lr != 7.0


DEGM = {  # the rows of the ablation: levels, distance, inner
    "dc": ("intra", "rowwise_cosine", "fixed"),
    "m": ("both", "rowwise_cosine", "fixed"),
    "md": ("both", "rowwise_angle_and_magnitude", "fixed"),
    "mda": ("both", "rowwise_angle_and_magnitude", "measured"),
}
PUBLISHED_SETS = ("cifar10", "cifar100", "fashion_mnist", "mnist", "svhn")


@pytest.mark.parametrize("row", DEGM)
@pytest.mark.parametrize("dataset", PUBLISHED_SETS)
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_a_row_of_degms_ablation_differs_from_the_others_in_its_switches_alone(row, dataset, ipc):
    cfg = composed(*words_for("experiment", f"degm/{row}_{dataset}_ipc{ipc}"))
    assert (cfg.method.levels, cfg.method.distance, cfg.method.inner) == DEGM[row]
    assert (cfg.dataset.name, cfg.ipc, list(cfg.pool.networks)) == (dataset, ipc, ["ConvNet"])
    assert cfg.method.steps == 1000 * ipc
    assert (cfg.method.inner_momentum, cfg.method.lr, cfg.method.pixel_box) == (0.5, 0.1, "free")
    assert (cfg.init.clip, cfg.augment.ops) == (False, [])
    assert cfg.evaluation.name == ("degm1000_mnist" if dataset == "mnist" else "degm300")


@pytest.mark.parametrize(("method", "evaluation"), [("dc", "dc300"), ("dsa", "dsa1000")])
@pytest.mark.parametrize("dataset", PUBLISHED_SETS)
def test_the_published_settings_of_dc_and_dsa(method, evaluation, dataset):
    cfg = composed(*words_for("experiment", f"{method}/{dataset}"))
    for ipc in (1, 10):
        assert OmegaConf.merge(cfg, {"ipc": ipc}).method.steps == 1000 * ipc
    assert (cfg.dataset.name, cfg.dataset.stats, cfg.method.pixel_box) == (
        dataset,
        "legacy",
        "free",
    )
    assert cfg.evaluation.name == (
        "dc1000_mnist" if (method, dataset) == ("dc", "mnist") else evaluation
    )
    assert bool(cfg.augment.ops) == (method == "dsa")


@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_the_published_setting_of_hmdc(ipc):
    cfg = composed(*words_for("experiment", f"hmdc/cifar10_ipc{ipc}"))
    method = cfg.method
    assert (cfg.dataset.name, cfg.dataset.stats, cfg.ipc) == ("cifar10", "legacy", ipc)
    assert (method.steps, method.outer, method.inner_steps) == (10_000, 100, 17)
    assert (method.refresh, method.gbm_every) == (10, 10)
    assert (method.lr, method.momentum, method.space, method.schedule) == (
        0.005,
        0.5,
        "normalised",
        "constant",
    )
    assert {
        method.batch_real,
        method.batch_synthetic,
        method.batch_train,
        cfg.evaluation.batch,
    } == {128}
    assert (method.factor, method.choice, method.gbm, method.distillation) == (
        2,
        "kmeans",
        True,
        "mean",
    )
    assert (cfg.init.rule.embedding.train_steps, cfg.init.shrink) == (0, "aligned")
    assert {name: network.lr for name, network in cfg.learners.networks.items()} == {
        "ConvNet": 0.01,
        "ViTTiny": 0.001,
    }
    assert cfg.augment == cfg.evaluation.augment
    assert (cfg.augment.mode, len(cfg.augment.ops)) == ("idc", 6)
    assert (cfg.evaluation.epochs, cfg.evaluation.repeats, list(cfg.evaluation.drops)) == (
        2000,
        3,
        [],
    )
    assert len(cfg.pool.networks) == 7
    assert method.mix_softmax == "target"
    pretrained = [network for name, network in cfg.pool.networks.items() if name != "ConvNet"]
    assert {network.input_stats for network in [*pretrained, cfg.learners.networks.ViTTiny]} == {
        "dataset"
    }


@pytest.mark.parametrize(("dataset", "stats"), [("cifar10", "legacy"), ("cifar100", "pixel")])
def test_the_published_setting_of_m3d(dataset, stats):
    cfg = composed(*words_for("experiment", f"m3d/{dataset}"))
    assert (cfg.dataset.name, cfg.dataset.stats) == (dataset, stats)
    assert (cfg.init.rule.order, cfg.init.pack, cfg.init.shrink) == ("first", True, "nearest")
    assert (cfg.method.steps, cfg.method.steps_per_network, cfg.method.kernel) == (
        10_000,
        5,
        "gaussian",
    )
    assert (cfg.evaluation.name, list(cfg.pool.networks)) == ("m3d1000", ["ConvNet"])


@pytest.mark.parametrize(
    ("name", "lr_img", "side", "distance", "factor"),
    [
        ("cifar10", 5e-3, 32 / 32, "conv_squared", 2),
        ("cifar100", 5e-3, 32 / 32, "conv_squared", 2),
        ("svhn", 5e-3, 32 / 32, "conv_squared", 2),
        ("svhn_factor1_ipc1", 5e-3, 32 / 32, "conv_squared", 1),
        ("mnist", 1e-4, 28 / 28, "conv_l1", 2),
        ("mnist_factor1", 1e-4, 28 / 28, "conv_l1", 1),
        ("fashion_mnist", 1e-4, 28 / 32, "conv_l1", 2),
    ],
)
def test_idcs_rates_are_those_of_the_public_rule(name, lr_img, side, distance, factor):
    cfg = composed(*words_for("experiment", f"idc/{name}"))
    assert cfg.method.lr == pytest.approx(lr_img / 10 * side**2)  # times ipc in the method
    assert (cfg.method.distance, cfg.method.factor) == (distance, factor)
    mixed = (cfg.method.cutmix_p, cfg.evaluation.cutmix_p)
    assert mixed == {"mnist": (0, 0), "svhn_factor1_ipc1": (0.5, 0)}.get(name, (0.5, 0.5))
    assert ("cutout" in cfg.augment.ops) == (name != "mnist")
    assert ("cutout" in cfg.evaluation.augment.ops) == (name == "svhn_factor1_ipc1")
    assert "cutout" not in cfg.method.train_augment.ops


def test_lists_compare_as_lists():
    """``leaves`` keeps lists comparable to a composed configuration."""
    assert leaves(OmegaConf.create({"a": {"b": [1, 2]}, "c": 3})) == [
        ("a.b", ListConfig([1, 2])),
        ("c", 3),
    ]

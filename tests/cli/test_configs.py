"""Every YAML file composes, its keys fit its ``_target_``, and its values take effect."""

import csv
import importlib
import inspect
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf

from dcond.cli.groups import group_options
from dcond.cli.instantiate import build
from dcond.cli.list import KINDS, entries
from dcond.paths import conf_dir

CONF = conf_dir()
FILES = sorted(CONF.rglob("*.yaml"))
PARTS = ("method", "dataset", "model", "pool", "init", "augment", "evaluation", "teacher")
ON_TOP = ("tuned", "experiment", "debug")
CASES = [(group, name) for group in (*PARTS, *ON_TOP) for name in group_options(group)]


@cache
def composed(*overrides: str, config: str = "condense") -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose(config_name=config, overrides=list(overrides))


def overrides_for(group: str, name: str) -> list[str]:
    """Return the overrides that select a file; a tuned one belongs to its method and data set."""
    if group == "tuned":
        method, dataset = name.split("-")
        return [f"method={method}", f"dataset={dataset}"]
    needs_path = name in ("npz", "image_folder", "file")
    return [f"{group}={name}"] + [f"{group}.path=x"] * needs_path


def bind(node: object, where: str, faults: list[str]) -> None:
    """Bind the settings of every ``_target_`` below a node to its signature; collect the faults."""
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
    cfg = composed(*overrides_for(group, name))
    assert set(cfg) == set(composed())  # a mistyped top-level key would be new
    faults: list[str] = []
    for part in (*PARTS, "loop"):
        if cfg[part] is not None:  # teacher is null by default
            bind(OmegaConf.to_container(cfg[part], resolve=True), part, faults)
    assert faults == []


@pytest.mark.parametrize(("group", "name"), [case for case in CASES if case[0] in PARTS])
def test_it_can_be_built(group, name):
    cfg = composed(*overrides_for(group, name))
    assert type(build(cfg[group], f"{group}={name}")).__module__.startswith("dcond.")


@pytest.mark.parametrize(("group", "name"), [case for case in CASES if case[0] in ON_TOP])
def test_the_values_of_a_file_take_effect(group, name):
    cfg = composed(*overrides_for(group, name))
    stated = OmegaConf.load(CONF / group / f"{name}.yaml")
    stated.pop("defaults", None)
    lost = [
        key
        for key, value in leaves(stated)
        if OmegaConf.select(cfg, key) != value and "${" not in str(value)
    ]
    assert lost == []
    assert list(leaves(stated))


def leaves(node: DictConfig, prefix: str = "") -> list[tuple[str, object]]:
    """Every setting of a file by its full key."""
    result: list[tuple[str, object]] = []
    for key, value in OmegaConf.to_container(node, resolve=False).items():
        full = f"{prefix}{key}"
        result += (
            leaves(OmegaConf.create(value), f"{full}.")
            if isinstance(value, dict) and value
            else [(full, value)]
        )
    return [
        (key, OmegaConf.create(value) if isinstance(value, list) else value)
        for key, value in result
    ]


@pytest.mark.parametrize("arguments", [(), ("~teacher",)], ids=["soft labels", "hard labels"])
def test_rded_is_built_with_the_teacher_of_its_method_and_without(arguments):
    cfg = composed("experiment=rded", "ipc=10", *arguments)
    teacher = build(cfg.evaluation, "evaluation=rded300").teacher
    own = build(cfg.method, "method=rded").teacher
    assert teacher == (None if arguments else replace(own, temperature=20.0))


def test_debugging_shortens_every_protocol():
    cfg = composed("evaluation=linear_probe", "debug=probe")
    assert build(cfg.evaluation, "evaluation=linear_probe").repeats == 2
    tiny = composed("debug=tiny")
    assert (tiny.evaluation.epochs, tiny.evaluation.repeats) == (2, 2)
    assert (tiny.max_steps, tiny.loop, tiny.tensorboard) == (3, cfg.loop, False)


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
def test_the_first_comment_is_a_description_and_the_package_comes_first(file):
    first, second = [*file.read_text(encoding="utf-8").splitlines(), ""][:2]
    assert first.startswith("# ")
    described = second if first.startswith("# @package") else first
    assert re.fullmatch(r"# \S.{9,}", described), described
    assert "# @package" not in "\n".join(file.read_text(encoding="utf-8").splitlines()[1:])


def test_papers_are_cited_in_one_format():
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
        "source",
        "protocol",
        "experts",
    }  # the last three hold shared settings: of evaluated sets, evaluations and experts


def test_a_pair_finds_its_tuned_settings_and_the_command_line_wins(tmp_path):
    """The order of the defaults list, tested with a config folder of its own."""
    (tmp_path / "own" / "tuned").mkdir(parents=True)
    (tmp_path / "own" / "tuned" / "dm-kmnist.yaml").write_text(
        "# @package _global_\n# x\nmethod:\n  lr: 7.0\n"
    )
    search = f"hydra.searchpath=[file://{tmp_path / 'own'}]"
    assert composed(search, "method=dm", "dataset=kmnist").method.lr == 7.0
    assert composed(search, "method=dm", "dataset=kmnist", "method.lr=2").method.lr == 2
    assert composed(search, "method=dm", "dataset=mnist").method.lr != 7.0


# --- published rows: their commands are in docs/experiments.md, their values in published_settings.csv
DEGM = {  # rows of the ablation: levels, distance, inner
    "dc": ("intra", "rowwise_cosine", "fixed"),
    "m": ("both", "rowwise_cosine", "fixed"),
    "md": ("both", "rowwise_angle_and_magnitude", "fixed"),
    "mda": ("both", "rowwise_angle_and_magnitude", "measured"),
}


def commands_of_rows() -> dict[str, list[str]]:
    """Return the overrides of each row of the table in docs/experiments.md, lists included."""
    page = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+) \| `dcond condense (?:-m )?(.+)` \|$", page, re.MULTILINE)
    return {row: overrides.split() for row, overrides in rows}


def pinned_settings() -> list[dict[str, str]]:
    with Path(__file__).with_name("published_settings.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def settings_of(cfg: DictConfig) -> dict[str, str]:
    """Return the values that published_settings.csv pins."""
    values = {
        "ipc": cfg.ipc,
        "dataset": cfg.dataset.name,
        "stats": cfg.dataset.stats,
        "method": cfg.method._target_.rpartition(".")[2],
        "steps": cfg.method.get("steps", 0),
        "lr": cfg.method.get("lr", ""),
        "factor": cfg.method.factor,
        "distance": cfg.method.get("distance", ""),
        "momentum_network": cfg.method.get("momentum_network", ""),
        "forget_every": cfg.method.get("forget_every", ""),
        "shrink": cfg.init.get("shrink", ""),
        "pixel_box": cfg.method.get("pixel_box", ""),
        "augment": " ".join(cfg.augment.ops),
        "protocol": cfg.evaluation.name,
        "epochs": cfg.evaluation.get("epochs", ""),
        "networks": len(cfg.pool.networks),
    }
    return {key: str(value) for key, value in values.items()}


@pytest.mark.parametrize(
    "pinned",
    pinned_settings(),
    ids=lambda pinned: f"{pinned['row']}, {pinned['dataset']}, ipc {pinned['ipc']}",
)
def test_the_command_of_a_published_row_has_the_pinned_settings(pinned):
    overrides = commands_of_rows()[pinned["row"]]
    several = any(word.startswith("dataset=") and "," in word for word in overrides)
    cfg = composed(
        *(word for word in overrides if "," not in word),
        f"ipc={pinned['ipc']}",
        *([f"dataset={pinned['dataset']}"] if several else []),
    )
    assert {"row": pinned["row"], **settings_of(cfg)} == pinned


def test_every_published_row_is_pinned_and_its_command_has_every_pinned_ipc_and_data_set():
    rows = commands_of_rows()
    assert {pinned["row"] for pinned in pinned_settings()} == rows.keys()
    for pinned in pinned_settings():
        listed = dict(word.split("=", 1) for word in rows[pinned["row"]] if "=" in word)
        assert pinned["ipc"] in listed.get("ipc", pinned["ipc"]).split(","), pinned["row"]
    for row, overrides in rows.items():
        listed = [word[8:].split(",") for word in overrides if re.match("dataset=.*,", word)]
        found = {pinned["dataset"] for pinned in pinned_settings() if pinned["row"] == row}
        assert not listed or found == {*listed[0]}, row


@pytest.mark.parametrize("row", DEGM)
def test_a_row_of_degms_ablation_differs_from_the_others_in_its_switches_only(row):
    cfg = composed(f"experiment=degm/{row}", "dataset=svhn", "ipc=10")
    assert (cfg.method.levels, cfg.method.distance, cfg.method.inner) == DEGM[row]
    assert (cfg.method.momentum_network, cfg.init.clip, cfg.augment.ops) == (0.5, False, [])


def test_the_published_setting_of_hmdc():
    cfg = composed("experiment=hmdc", "ipc=10")
    method = cfg.method
    assert (method.steps_per_network, method.inner_steps) == (100, 17)
    assert (method.select_every, method.gbm_every) == (10, 10)
    assert (method.momentum, method.space, method.schedule) == (0.5, "normalised", "constant")
    assert {
        method.batch_real,
        method.batch_synthetic,
        method.batch_train,
        cfg.evaluation.batch,
    } == {128}
    assert (method.real_selection, method.gbm, method.distillation) == ("kmeans", True, "mean")
    assert (cfg.init.rule.embedding.train_steps, cfg.init.shrink) == (0, "aligned")
    assert {name: network.lr for name, network in cfg.learners.networks.items()} == {
        "ConvNet": 0.01,
        "ViTTiny": 0.001,
    }
    assert cfg.augment == cfg.evaluation.augment
    assert (cfg.evaluation.repeats, list(cfg.evaluation.lr_milestones)) == (3, [])
    assert method.mix_softmax == "target"
    pretrained = [network for name, network in cfg.pool.networks.items() if name != "ConvNet"]
    assert {network.input_stats for network in [*pretrained, cfg.learners.networks.ViTTiny]} == {
        "dataset"
    }


def test_the_published_setting_of_m3d():
    cfg = composed("experiment=m3d", "dataset=cifar100", "dataset.stats=pixel")
    assert (cfg.init.rule.order, cfg.init.pack, cfg.init.shrink) == ("first", True, "nearest")
    assert (cfg.method.steps_per_network, cfg.method.kernel) == (5, "gaussian")


@pytest.mark.parametrize(
    ("name", "lr_img", "side", "train_images"),
    [
        ("idc", 5e-3, 32 / 32, 2000),
        ("idc/svhn", 5e-3, 32 / 32, 500),
        ("idc/svhn_factor1_ipc1", 5e-3, 32 / 32, 500),
        ("idc/mnist", 1e-4, 28 / 28, 500),
        ("idc/mnist_factor1", 1e-4, 28 / 28, 500),
        ("idc/fashion_mnist", 1e-4, 28 / 32, 500),
    ],
)
def test_idcs_rates_follow_the_rule_of_the_public_code(name, lr_img, side, train_images):
    cfg = composed(f"experiment={name}")
    assert cfg.method.lr == pytest.approx(lr_img / 10 * side**2)  # the method multiplies by ipc
    assert cfg.method.train_images == train_images
    own = {"idc/mnist": (0, 0), "idc/svhn_factor1_ipc1": (0.5, 0)}
    assert (cfg.method.cutmix_p, cfg.evaluation.cutmix_p) == own.get(name, (0.5, 0.5))
    assert ("cutout" in cfg.evaluation.augment.ops) == (name == "idc/svhn_factor1_ipc1")
    assert "cutout" not in cfg.method.train_augment.ops


def test_lists_compare_as_lists():
    """``leaves`` returns lists that compare equal to those of a composed configuration."""
    assert leaves(OmegaConf.create({"a": {"b": [1, 2]}, "c": 3})) == [
        ("a.b", ListConfig([1, 2])),
        ("c", 3),
    ]


@pytest.mark.parametrize(
    ("experiment", "arguments"),
    [
        ("mtt", ["experts.count=100", "experts.epochs=50"]),
        ("datm", ["experts.count=100", "experts.epochs=100", "experts.optimiser=gsam"]),
    ],
)
def test_the_command_in_docs_trains_the_experts_of_the_published_settings(experiment, arguments):
    """docs/experts.md: `dcond experts dataset=cifar10 dataset.stats=zca count=100 ...`."""
    ours = composed("dataset=cifar10", "dataset.stats=zca", *arguments, config="experts")
    published = composed(f"experiment={experiment}")
    assert ours.experts == published.method.experts
    assert ours.dataset == published.dataset

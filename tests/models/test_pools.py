"""Every conf/model and conf/pool file composes, lists all settings of its recipe, and builds what
it says.
"""

import dataclasses
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dcond.errors import ConfigError
from dcond.models import Pool, Recipe
from dcond.paths import conf_dir

CONF = conf_dir()


def names(group):
    return sorted(path.stem for path in (Path(CONF) / group).glob("*.yaml"))


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=list(overrides))


@pytest.mark.parametrize("model", names("model"))
def test_model_files_list_every_setting_and_build(model):
    config = composed(f"+model={model}").model
    recipe = instantiate(config)
    assert isinstance(recipe, Recipe)
    settings = {field.name for field in dataclasses.fields(recipe)}
    assert set(config) - {"_target_"} == settings  # so each can be set on the command line
    hash(recipe)


@pytest.mark.parametrize("pool", names("pool"))
def test_pools_come_out_as_plain_recipes_at_any_place(pool):
    here = instantiate(composed(f"+pool={pool}").pool)
    there = instantiate(composed(f"+pool@some.other={pool}").some.other)
    assert isinstance(here, Pool)
    assert type(here.networks) is dict
    assert all(isinstance(recipe, Recipe) for recipe in here.networks.values())
    assert here == there


def test_a_primary_config_chooses_a_pool(tmp_path):
    (tmp_path / "main.yaml").write_text(
        f"defaults:\n  - pool: tiny\n  - _self_\nhydra:\n  searchpath: ['file://{CONF}']\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("main", overrides=["pool.networks.ConvNet.width=8", "~pool.networks.ViT"])
    pool = instantiate(config.pool)
    assert list(pool.networks) == ["ConvNet", "MLP", "ResNet"]
    assert pool.networks["ConvNet"].width == 8


def test_another_network_joins_a_pool_by_name():
    config = composed(
        "+pool=convnet", "+model@pool.networks.Mine=lenet", "pool.networks.Mine.lr=0.5"
    )
    assert instantiate(config.pool).networks["Mine"].lr == 0.5


def test_pools_hold_what_they_promise():
    def summary(pool):
        return [
            (r.name, r.lr) for r in instantiate(composed(f"+pool={pool}").pool).networks.values()
        ]

    assert [name for name, _ in summary("tiny")] == ["ConvNet", "MLP", "ResNet-8", "ViT"]
    assert [name for name, _ in summary("cross_arch")] == [
        "ConvNet",
        "AlexNet",
        "VGG-11",
        "ResNet-18",
        "ViT",
    ]
    assert summary("hmdc_paper") == [
        ("ConvNet", 0.01),
        ("ResNet-18", 0.001),
        ("ResNet-50", 0.001),
        ("ResNet-101", 0.0001),
        ("ViT-Tiny", 0.001),
        ("ViT-Small", 0.001),
        ("ViT-Base", 0.0001),
    ]


def test_model_files_are_the_published_networks(make_spec):
    counts = {
        "convnet": 320_010,
        "resnet18": 11_173_962,
        "resnet18_ap": 11_250_762,
        "resnetap10": 4_903_242,
    }
    for model, count in counts.items():
        network = instantiate(composed(f"+model={model}").model).build(
            make_spec(), torch.Generator()
        )
        assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({}, "the pool is empty; name at least one network"),
        ({"a": 3}, r"pool.networks.a=3 is not a network; .*\+model@pool.networks.a=convnet"),
    ],
)
def test_bad_pools(networks, message):
    with pytest.raises(ConfigError, match=message):
        Pool(networks=networks)

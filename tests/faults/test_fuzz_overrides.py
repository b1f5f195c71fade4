"""Settings of arbitrary value: accepted, or an error of one line before any data is read."""

import copy
import functools

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import assume, given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dcond.cli.instantiate import build_condensation
from dcond.cli.run_config import dump_config, result_affecting_config, to_jsonable
from dcond.errors import DcondError
from dcond.paths import conf_dir
from dcond.run.result import RunResult

METHODS = ("hmdc", "idc")  # together they use every kind of part
GROUPS = (
    "method",
    "init",
    "pool",
    "evaluation",
    "dataset",
    "model",
    "learners",
    "augment",
    "engine",
)


@functools.cache
def composed(method: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        arguments = [
            f"method={method}",
            "dataset=image_folder",
            "dataset.path=nowhere",
            "pool=tiny",
            "init=real",
        ]
        return compose("condense", overrides=arguments)


def keys(node: DictConfig, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings except class names, which are code."""
    found = []
    for key in node:
        name = f"{prefix}{key}"
        if OmegaConf.is_interpolation(node, key) or not isinstance(node[key], DictConfig):
            found += [] if key in ("_target_", "_convert_") else [name]
        else:
            found += [name, *keys(node[key], f"{name}.")]
    return found


numbers = st.one_of(
    st.integers(-3, 3), st.integers(), st.floats(), st.sampled_from([2**31, 2**63, 10**30, 1e-300])
)
plain_texts = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=8)
arguments = st.one_of(
    numbers.map(str),
    st.sampled_from(
        [
            "null",
            "true",
            "false",
            "[]",
            "{}",
            "''",
            "${ipc}",
            "${method}",
            "${nothing}",
            "inf",
            "-nan",
        ]
    ),
    st.lists(numbers.map(str), max_size=3).map(lambda found: f"[{','.join(found)}]"),
    st.dictionaries(st.sampled_from(["a", "lr", "ops"]), numbers.map(str), max_size=2).map(
        lambda found: "{" + ",".join(f"{key}:{value}" for key, value in found.items()) + "}"
    ),
    plain_texts,
    plain_texts.map(lambda text: "'" + text.replace("'", "") + "'"),
)


@pytest.mark.parametrize("method", METHODS)
@given(st.data())
def test_a_setting_of_any_value(method, data):
    refusal, cfg = "", copy.deepcopy(composed(method))
    key = data.draw(st.sampled_from([name for name in keys(cfg) if name != "resume"]), label="key")
    try:
        override = OverridesParser.create().parse_override(
            f"{key}={data.draw(arguments, label='value')}"
        )
        assume(not override.is_sweep_override())
        OmegaConf.update(cfg, key, override.value(), merge=True)
        choices = dict.fromkeys(GROUPS, "x") | {"method": method, "init": "real"}
        dump_config(cfg, choices), to_jsonable(result_affecting_config(cfg))
        build_condensation(cfg, choices, RunResult(), folder=None)
    except (HydraException, OmegaConfBaseException):
        pass  # hydra_app reports these as one line
    except DcondError as error:
        refusal = str(error)
    assert "\n" not in refusal

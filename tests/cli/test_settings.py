"""Checks of settings against signatures."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from dcond.cli.settings import check_type, validate_targets
from omegaconf import OmegaConf

from dcond.cli.instantiate import build
from dcond.errors import ConfigError
from dcond.types import ImageSpec


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, int),
        (1, float),
        (0.5, float),
        (None, float | None),
        (True, bool),
        ("x", str),
        ("x", int | str | None),
        ([1], tuple[float, ...]),
        (["a"], Sequence[str] | None),
        ({"a": 1}, dict[str, int]),
        ({}, Mapping[str, str]),
        ({"_target_": "x"}, ImageSpec),
        (None, ImageSpec | None),
        ("anything", Any),
        ("anything", Exception),  # not ours to judge
    ],
)
def test_values_that_fit(value, annotation):
    check_type("key", value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (1.0, int, "key=1.0 must be a whole number."),
        (True, int, "key=true must be a whole number."),
        (True, float, "key=true must be a number."),
        ("1", float, "key='1' must be a number."),
        (1, bool, "key=1 must be true or false."),
        (None, int, "key=null must be a whole number."),
        (None, str, "key=null must be text."),
        ([], int | str | None, "key=[] must be a whole number or text or null."),
        ("ab", Sequence[str], "key='ab' must be a list, in brackets."),
        ([], dict[str, int], "key=[] must be names and values, in braces."),
        ({"a": 1}, ImageSpec, "key={'a': 1} must be a part, with a _target_ and its settings."),
        (3, ImageSpec | None, "key=3 must be a part, with a _target_ and its settings or null."),
    ],
)
def test_values_that_do_not(value, annotation, message):
    with pytest.raises(ConfigError) as caught:
        check_type("key", value, annotation)
    assert str(caught.value) == message


def test_nested_parts_are_named_by_their_full_key():
    loop = {"_target_": "dcond.run.loop.LoopSettings", "record_every": "x"}
    with pytest.raises(
        ConfigError, match=r"^method\.parts\.0\.inner\.record_every='x' must be a whole number\.$"
    ):
        validate_targets({"parts": [{"inner": loop}]}, "method")


def test_unknown_and_missing_settings():
    with pytest.raises(
        ConfigError, match=r"^loop\.record_evry is unknown; .* Did you mean 'record_every'\?$"
    ):
        validate_targets({"_target_": "dcond.run.loop.LoopSettings", "record_evry": 1}, "loop")
    with pytest.raises(
        ConfigError, match=r"^dataset\.path is missing; dcond\.data\.Npz needs it\.$"
    ):
        validate_targets({"_target_": "dcond.data.Npz"}, "dataset")


class Stack:
    """Takes any number of layers, as parts from elsewhere do."""

    def __init__(self, *layers, width, lr=1.0):
        raise ValueError


STACK = f"{Stack.__module__}.Stack"


@pytest.mark.parametrize("given", [{"width": 2}, {"_args_": [1, 2]}, {"_partial_": True}])
def test_what_may_be_given_in_another_way_is_not_missed(given):
    validate_targets({"_target_": STACK, **given}, "model")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, f"model.width is missing; {STACK} needs it."),
        ({"_partial_": False}, f"model.width is missing; {STACK} needs it."),
        (
            {"layers": [1], "width": 2},
            f"model.layers is unknown; {STACK} takes width, lr. Did you mean 'lr'?",
        ),
        ({"width": 2}, "model cannot be made from its settings: ValueError"),
    ],
)
def test_a_part_of_any_shape_is_refused_in_words(given, message):
    with pytest.raises(ConfigError) as caught:
        build(OmegaConf.create({"_target_": STACK, **given}), "model")
    assert str(caught.value) == message


def test_what_has_no_signature_is_left_to_its_maker():
    validate_targets({"_target_": "builtins.dict", "x": 1}, "method")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_package.Thing", "No module named 'no_such_package'"),
        ("dcond.init.Randon", "module 'dcond.init' has no attribute 'Randon'"),
        ("not a name", "invalid format: 'not a name'"),
        ("broken.Thing", "its own fault"),
    ],
)
def test_a_part_that_cannot_be_imported(target, reason, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("raise RuntimeError('its own fault')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as caught:
        validate_targets({"_target_": target}, "method")
    way_out = "Install its package, or put its folder into PYTHONPATH."
    assert str(caught.value) == f"method: {target} cannot be imported ({reason}). {way_out}"


def test_a_package_that_is_not_installed_is_called_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    part = OmegaConf.create(
        {"_target_": "dcond.models.Timm", "name": "A", "architecture": "resnet18", "lr": 0.1}
    )
    pool = OmegaConf.create({"_target_": "dcond.models.Pool", "networks": {"A": part}})
    with pytest.raises(
        ConfigError, match=r"^pool=mine needs the package 'timm', which is not installed\.$"
    ):
        build(pool, "pool=mine")

"""Settings are checked against signatures before any part is built."""

import sys

import pytest
from omegaconf import OmegaConf

from dcond.cli.compose import composed
from dcond.cli.instantiate import build, build_condensation, build_plan, validate_targets
from dcond.errors import ConfigError
from dcond.run.result import RunResult


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


def test_a_teacher_that_a_protocol_does_not_take_is_refused():
    overrides = ["dataset=digits", "synthetic.path=unused", "teacher=convnet"]
    with composed("evaluate", overrides) as (cfg, choices):
        assert build_plan(cfg, choices).protocol.teacher is not None
        cfg.evaluation.teacher = None  # as in a user's file without this line
        with pytest.raises(
            ConfigError, match=r"^teacher=convnet has no effect on evaluation=quick"
        ):
            build_plan(cfg, choices)


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
            f"model.layers is unknown; {STACK} takes width, lr.",
        ),
        ({"width": 2}, "model cannot be built from its settings: ValueError"),
    ],
)
def test_a_part_of_any_shape_is_refused_in_one_line(given, message):
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
    way_out = "Put its file into the folder of --config-dir, install its package, or add its folder to PYTHONPATH."
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


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (
            "method=mtt engine.precision=float32",
            "engine.precision=float32: method=mtt has no engine",
        ),
        ("method=rded ++engine.chunk=1", "++engine.chunk=1: method=rded has no engine"),
        ("method=random augment=none", "augment=none: method=random has no augmentation"),
        (
            "method=random augment.ops=[flip]",
            "augment.ops=[flip]: method=random has no augmentation",
        ),
        (
            "method=random init=noise init.clip=false",
            "init=noise: method=random chooses its own images, "
            "init.clip=false: method=random chooses its own images",
        ),
        ("method=random engine=auto init=real", ""),
        (
            "method=random model=vit",
            "model=vit: method=random and init=real do not read it",
        ),
        (
            "method=dm pool@learners=convnet_resnet_vit +model@learners.networks.X=vit",
            "pool@learners=convnet_resnet_vit: method=dm and init=real do not read it, "
            "+model@learners.networks.X=vit: method=dm and init=real do not read it",
        ),
        ("method=dm model=vit", ""),
        (
            "method=random init=kmeans model.width=8",
            "init=kmeans: method=random chooses its own images",
        ),
        ("method=hmdc learners.networks.ViT.depth=1", ""),
        (
            "method=random teacher=convnet model.width=8",
            "model.width=8: method=random and init=real do not read it",
        ),
        ("method=dm engine.compile=false augment=none init.pack=true", ""),
    ],
)
def test_settings_that_a_method_does_not_use_are_said(arguments, unused, caplog):
    with composed("condense", arguments.split()) as (cfg, choices):
        build_condensation(cfg, choices, RunResult(), folder=None, overrides=arguments.split())
    told = [line for line in caplog.messages if " is not used: " in line]
    assert ", ".join(told) == unused.replace(": method", " is not used: method")

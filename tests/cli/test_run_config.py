"""What a run keeps of its configuration, in ``result.json`` and for TensorBoard's hyper-parameter
view.
"""

import json
from dataclasses import replace

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS

from dcond.cli import run_config
from dcond.cli.compose import composed
from dcond.paths import conf_dir
from dcond.run import checkpoint
from dcond.run.result import sha256


def view(run):
    """Return the settings, the final status and the accumulator of a run's event files."""
    seen = EventAccumulator(str(run)).Reload()
    tags = seen.summary_metadata
    start = metadata.parse_session_start_info_plugin_data(
        tags[metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    end = metadata.parse_session_end_info_plugin_data(
        tags[metadata.SESSION_END_INFO_TAG].plugin_data.content
    )
    settings = {
        name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()
    }
    return settings, end.status, seen


def test_a_result_says_what_was_chosen_and_every_setting_that_can_change_a_number(
    condense, folder, results
):
    assert condense("tensorboard=true", "method.lr=0.25", "seed=3", "hydra.run.dir=run").code == 0
    (result,) = results()
    assert result["choices"] == {
        "method": "dm",
        "dataset": "digits",
        "pool": "convnet",
        "evaluation": "quick",
        "model": "convnet_small",
        "engine": "auto",
        "init": "real",
        "augment": "dsa",
        "learners": "convnet_vit_small",
    }
    config = result["config"]
    assert (config["method"]["lr"], config["seed"], config["ipc"]) == (0.25, 3, 1)
    assert (
        config["method"]["network"] == "${model}"
    )  # as written, so that each value stands there once
    assert not {"paths", "device", "threads", "loop", "tensorboard"} & config.keys()
    assert sha256(OmegaConf.to_yaml(config, sort_keys=True)) == result["config_sha256"]

    settings, status, seen = view(folder / "run")
    assert (
        settings.items() >= (result["choices"] | {"ipc": 1, "seed": 3, "method.lr": 0.25}).items()
    )
    assert {name for name in settings if name.startswith("method.")} >= {
        "method.batch_real",
        "method.steps",
    }
    assert not {"method._target_", "method.network"} & settings.keys()
    assert status == STATUS_SUCCESS
    assert seen.Scalars("evaluate/average")[0].value == pytest.approx(
        result["evaluation"]["average"]
    )
    assert seen.Scalars("evaluate/ConvNet")[0].value == pytest.approx(
        result["evaluation"]["average"]
    )
    assert seen.Scalars("cost/peak_memory_bytes")[0].value == pytest.approx(
        result["cost"]["peak_memory_bytes"]
    )
    assert len(list((folder / "run").glob("events.out.tfevents*"))) == 2  # records, and the end
    assert [path.name for path in (folder / "run").iterdir() if path.is_dir()] == [".hydra"]


def test_a_run_that_failed_is_no_success_in_the_view_either(condense, folder, results):
    assert (
        condense(
            "tensorboard=true", "method.lr=1e30", "method.pixel_box=free", "hydra.run.dir=run"
        ).code
        == 1
    )
    assert results()[0]["status"] == "failed"
    assert view(folder / "run")[1] == STATUS_FAILURE


def test_a_resumed_run_says_what_it_was_started_with(stopped, run_cli):
    before = json.loads((stopped / "result.json").read_text())
    assert run_cli("condense", f"resume={stopped}").code == 0
    after = json.loads((stopped / "result.json").read_text())
    assert (before["status"], after["status"]) == ("interrupted", "done")
    for field in ("config", "choices", "config_sha256"):
        assert after[field] == before[field]


def test_another_environment_is_another_configuration(condense, results, monkeypatch, run_cli):
    sweep = ("-m", "evaluate=false", "hydra.sweep.dir=sweep", "method.lr=1")
    for number in ("1", "2"):
        monkeypatch.setenv("ARRAY_TASK", number)
        seed = "seed='${oc.decode:${oc.env:ARRAY_TASK}}'"
        assert condense("evaluate=false", seed, f"hydra.run.dir=run{number}").code == 0
        code = 0 if number == "1" else 1  # a job of other settings has finished there
        assert condense(*sweep, seed).code == code
    found = {each["config_sha256"]: each["config"]["seed"] for each in results()}
    assert sorted(found.values()) == [1, 1, 2]
    done = run_cli("report", "run1", "run2")
    assert "repeat the configuration" not in done.out + done.err
    hashes = set()
    for number in "12":
        monkeypatch.setenv("ARRAY_TASK", number)
        classes = "dataset.classes=[3,'${oc.env:ARRAY_TASK}']"
        with composed("condense", ["dataset=digits", classes]) as (cfg, _):
            hashes.add(run_config.config_hash(run_config.result_affecting_config(cfg)))
    assert len(hashes) == 2


def test_non_finite_numbers_become_text():
    cfg = OmegaConf.create(
        {"lr": float("inf"), "lr_milestones": [float("nan"), 0.5], "missing": "???", 3: None}
    )
    assert run_config.to_jsonable(cfg) == {
        "lr": "inf",
        "lr_milestones": ["nan", 0.5],
        "missing": "???",
        "3": None,
    }


def test_a_number_too_large_for_a_float_becomes_a_word():
    assert run_config.parse_provenance(
        {"made_with": '{"config": {"lr": 1e999, "ipc": [-1e999, 2.5]}}'}
    )["config"] == {
        "lr": "1e999",
        "ipc": ["-1e999", 2.5],
    }


@pytest.mark.parametrize("said", ["", "{", "[]", '{"choices": 3, "config": []}', "[" * 5000])
def test_what_somebody_else_wrote_into_an_artefact_is_no_reason_to_stop(said):
    nothing = dict.fromkeys(("seed", "config_sha256", "choices", "config"))
    assert run_config.parse_provenance({"made_with": said, "seed": said}) == nothing
    assert run_config.parse_provenance({}) == nothing
    assert run_config.parse_provenance({"seed": "3", "config_sha256": "ab"}) == nothing | {
        "seed": 3,
        "config_sha256": "ab",
    }


def test_where_images_stay_is_no_setting_that_can_change_a_number():
    cfg = OmegaConf.create(
        {"dataset": {"name": "birds", "keep": "disk"}, "seed": 0, "paths": {"data": "x"}}
    )
    assert run_config.result_affecting_config(cfg) == {"dataset": {"name": "birds"}, "seed": 0}
    assert cfg.dataset.keep == "disk"


@pytest.mark.parametrize("dataset", [None, 0])
def test_a_data_set_that_is_none_is_left_to_its_maker(dataset):
    assert run_config.result_affecting_config(
        OmegaConf.create({"dataset": dataset, "seed": 0})
    ) == {
        "dataset": dataset,
        "seed": 0,
    }


def test_every_setting_either_changes_numbers_or_is_known_not_to():
    """A forgotten entry would change the hash of every configuration."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose("condense")
    affecting = {
        *("dataset", "ipc", "seed", "max_steps", "max_seconds", "test_on", "init", "method"),
        *("model", "learners", "augment", "engine", "pool", "evaluation", "teacher"),
    }
    assert {str(key) for key in cfg} - run_config.NO_EFFECT == affecting


def test_a_run_resumes_with_settings_that_it_did_not_have(stopped, run_cli):
    """A checkpoint of an earlier version lacks the settings that were added since."""
    saved = checkpoint.load(stopped)
    text = saved.config.replace("  baselines: true\n", "").replace("    unaugmented: false\n", "")
    assert text.count("\n") == saved.config.count("\n") - 2
    checkpoint.save(replace(saved, config=text), stopped)
    done = run_cli("condense", f"resume={stopped}")
    assert done.code == 0, done.err

"""A protocol that was changed is called by what was changed in it, wherever its name stands."""

import json

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from dcond.cli.run_config import label_modified_protocol
from dcond.paths import conf_dir


@pytest.fixture
def called():
    """Compose ``dcond condense OVERRIDES`` and return how its protocol is called."""

    def name(*arguments):
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            cfg = compose("condense", [*arguments], return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            label_modified_protocol(cfg, HydraConfig.get())
            return cfg.evaluation.name

    return name


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("dataset=digits", "quick"),
        ("dataset=cifar10", "dsa1000"),
        ("evaluation=mtt1000", "mtt1000"),
        ("evaluation.epochs=300", "quick"),
    ],
)
def test_the_protocol_of_a_file_has_its_name(called, word, name):
    assert called(word) == name


@pytest.mark.parametrize(
    "word",
    [
        "evaluation.repeats=1",
        "evaluation.best_every=10",
        "evaluation.stack=false",
        "teacher=convnet",
        "dataset.flip=true",
    ],
)
def test_settings_without_effect_are_no_change(called, word):
    assert called(word) == "quick"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["evaluation.epochs=10"], "quick with epochs=10"),
        (["evaluation.lr=search"], "quick with lr=search"),
        (
            ["evaluation.epochs=10", "evaluation.lr_milestones=[0.4,0.8]"],
            "quick with epochs=10, lr_milestones=[0.4, 0.8]",
        ),
        (["evaluation.augment=null"], "quick with augment=null"),
        (["evaluation.augment.ops=[flip]"], 'quick with augment.ops=["flip"]'),
        (["~evaluation.lr_milestones"], "quick with ~lr_milestones"),
        (["evaluation.optimiser=adamw"], "quick with optimiser=adamw"),
        (["evaluation.reset_optimizer_at_drop=true"], "quick with reset_optimizer_at_drop=true"),
        (["experiment=cpu/table"], "quick with epochs=200"),
        (["evaluation=dsa1000", "evaluation.epochs=301"], "dsa1000 with epochs=301"),
        (["evaluation.epochs=10", "evaluation.name=mine"], "mine"),
    ],
)
def test_a_changed_protocol_says_what_was_changed(called, arguments, name):
    assert called(*arguments) == name


def test_result_table_and_set_say_it(condense, folder, results):
    done = condense("hydra.run.dir=run")
    result = results()[0]
    assert result["evaluation"]["protocol"] == "quick with epochs=2"
    assert result["baselines"]["random"]["protocol"] == "quick with epochs=2"
    assert "protocol quick with epochs=2" in " ".join(done.out.split())


def test_a_file_of_the_users_own_is_compared_with_itself(condense, folder, results):
    own = folder / "own" / "evaluation" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults:\n  - quick\n  - _self_\n\nname: mine\nepochs: 2\n")
    arguments = ("evaluation=mine", "baselines=false")
    where = f"hydra.searchpath=[file://{folder / 'own'}]"
    assert condense(*arguments, where, "hydra.run.dir=runs/1", "evaluation.batch=7").code == 0
    assert (
        condense(
            "--config-dir", folder / "own", *arguments, "hydra.run.dir=runs/2", "evaluation.batch=9"
        ).code
        == 0
    )
    names = [result["evaluation"]["protocol"] for result in results()]
    assert names == ["mine with batch=7", "mine with batch=9"]


def test_every_job_of_a_sweep_has_its_own_name(condense, results):
    done = condense("-m", "evaluation.epochs=1,2", "baselines=false")
    assert done.code == 0
    assert [result["evaluation"]["protocol"] for result in results()] == [
        f"quick with epochs={n}" for n in (1, 2)
    ]


def test_so_does_another_evaluation(finished, run_cli, folder, evaluate):
    _, result = evaluate(f"synthetic={finished}", epochs=3)
    assert result["evaluation"]["protocol"] == "quick with epochs=3"


def test_a_resumed_run_has_the_name_it_was_started_with(condense, signalled, run_cli, folder):
    with signalled():
        condense("evaluation.epochs=1", "hydra.run.dir=run")
    assert run_cli("condense", "resume=run").code == 0
    assert (
        json.loads((folder / "run" / "result.json").read_text())["evaluation"]["protocol"]
        == "quick with epochs=1"
    )

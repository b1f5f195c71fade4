"""``dataset.classes`` from the command line: condense and evaluate some classes."""

import json

import pytest

import dcond
from dcond.cli.compose import composed
from dcond.cli.run_config import config_hash, result_affecting_config

CLASSES = "dataset.classes=[7,1,4]"


@pytest.fixture
def condensed(condense):
    done = condense(CLASSES, "hydra.run.dir=run", "baselines=false", "evaluation.epochs=1")
    assert done.code == 0, done.err
    assert done.err.startswith("dm on digits-7-1-4, ipc 1: 3 images")
    return done


def test_a_set_of_some_classes_is_evaluated_on_these(condensed, run_cli, folder):
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["dataset"] == "digits-7-1-4"
    arguments = (
        "evaluation.repeats=2",
        "pool=convnet",
        "pool.networks.ConvNet.width=8",
        "baselines=false",
    )
    done = run_cli("evaluate", "run", *arguments, "evaluation.epochs=1", "hydra.run.dir=e")
    assert done.code == 0, done.err
    evaluated = json.loads((folder / "e" / "result.json").read_text())
    assert evaluated["dataset"] == "digits-7-1-4"
    assert evaluated["evaluation"]["networks"].keys() == {"ConvNet"}
    same = dcond.evaluate(
        dcond.load("run"), overrides=[*arguments, "evaluation.epochs=1"], progress=False
    )
    assert same.result.evaluation.average == evaluated["evaluation"]["networks"]["ConvNet"]["mean"]


def test_an_unknown_class_is_one_line(condense):
    assert "no class is called 'sevn'; allowed: 0, 1" in condense("dataset.classes=[sevn,1]").line


def test_all_classes_give_the_hash_that_they_had():
    hashes = []
    for override in ("seed=0", "dataset.classes=null", "dataset.classes=[0,1]"):
        with composed("condense", ["dataset=digits", override]) as (cfg, _):
            hashes.append(config_hash(result_affecting_config(cfg)))
    assert hashes[0] == hashes[1] != hashes[2]

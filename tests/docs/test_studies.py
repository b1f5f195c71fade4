"""Every job of every study is a configuration that can be made, so the commands in benchmarks/ stay true."""

import pytest
from hydra import compose, initialize_config_dir
from studies import STUDIES
from study import words

from dcond.apps.job import build
from dcond.paths import conf_dir

CASES = [(name, method) for name, study in STUDIES.items() for method in study.methods]


@pytest.mark.parametrize(("name", "method"), CASES, ids=["-".join(case) for case in CASES])
def test_a_study_can_be_run(name, method):
    study = STUDIES[name]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("condense", words(name, next(iter(study.words)), study.datasets[0], method).split())
    build(cfg.method, method)
    assert set(build(cfg.pool, "pool").networks) >= {"ConvNet", "MLP", "ResNet"}


@pytest.mark.parametrize("name", STUDIES)
def test_pairs_are_of_the_study(name):
    assert {method for pair in STUDIES[name].pairs for method in pair} <= set(STUDIES[name].methods)

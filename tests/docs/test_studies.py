"""Every job of every study is a configuration that can be made, and the docs show the figures that its rows hold."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from studies import STUDIES
from study import show, table, words

from dcond.apps.job import build
from dcond.paths import conf_dir

ROOT = Path(__file__).parents[2]
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
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


@pytest.mark.parametrize("name", [name for name in STUDIES if (ROOT / table(name)).is_file()])
def test_the_docs_show_what_the_rows_hold(name, capsys, monkeypatch):
    """Every accuracy of every network; of some studies the docs leave out the average."""
    monkeypatch.chdir(ROOT)
    show(name)
    tables = capsys.readouterr().out.partition("| difference |")[0]
    rows = [line.split(" | ")[1:-1] for line in tables.splitlines() if "±" in line]
    assert rows
    assert [cell for row in rows for cell in row if not re.search(rf"\| {re.escape(cell)} \|", PAGES)] == []

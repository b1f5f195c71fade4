"""Every job of every study is a configuration that can be made, and the docs show the figures that its rows hold."""

import contextlib
import csv
import io
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from studies import STUDIES
from study import overrides, show, table

from dcond.cli.instantiate import build
from dcond.paths import conf_dir
from helpers import study_tables

ROOT = Path(__file__).parents[2]
CASES = [(name, method) for name, study in STUDIES.items() for method in study.methods]
PAGES = study_tables.pages(ROOT)
TABLES = [
    (page, words, cells)
    for page, text in PAGES.items()
    for words, cells in study_tables.groups(text)
]
FIGURE = re.compile(
    r"(?<![\d.,])[+-]?\d+(?:\.\d)? ± \d+(?:\.\d)?(?![\d.]*\d)"
)  # two decimals are of other figures

# What stands in no table of docs/. The differences on digits and over the inner epochs are in the
# text.
LEFT_OUT = {
    "selection_dm_m3d": lambda block, what, network: network == "average",
    "gradient_matching": lambda block, what, network: network == "average" and " - " not in what,
    "inner_epochs": lambda block, what, network: " - " in what,
    "hmdc_digits": lambda block, what, network: " - " in what,
    "hmdc_outer": lambda block, what, network: " - " in what,
    "hmdc_steps": lambda block, what, network: " - " in what,
    "hmdc_pretrained": lambda block, what, network: what == "hmdc_two - hmdc_convnet",
}
OTHER_TABLES = (  # of papers, and beside public code
    "docs/methods/dc.md: ['MNIST'",
    "docs/methods/degm.md: ['MNIST'",
    "docs/methods/dsa.md: ['MNIST'",
    "docs/methods/dm.md: ['ipc 1', '10', '50']",
    "docs/methods/m3d.md: ['ipc 1', '10', '50']",
    "docs/studies/public_code.md: ['set 1', 'set 2', 'set 3'",
    "docs/studies/public_code.md: mean ± 95 % interval over five networks",
    "docs/reproducibility.md: claim",  # a summary of several studies in each cell
)


def given(name: str) -> study_tables.Facts:
    """Return what ``study.py STUDY show`` prints."""
    printed = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(printed):
        show(name)
    return study_tables.facts(printed.getvalue())


GIVEN = {name: given(name) for name in STUDIES if (ROOT / table(name)).is_file()}


@pytest.mark.parametrize(("name", "method"), CASES, ids=["-".join(case) for case in CASES])
def test_a_study_can_be_run(name, method):
    study = STUDIES[name]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(
            "condense",
            overrides(name, next(iter(study.overrides)), study.datasets[0], method).split(),
        )
    build(cfg.method, method)
    assert set(build(cfg.pool, "pool").networks) >= {"ConvNet", "MLP", "ResNet"}


@pytest.mark.parametrize("name", STUDIES)
def test_pairs_are_of_the_study(name):
    assert {method for pair in STUDIES[name].pairs for method in pair} <= set(STUDIES[name].methods)


@pytest.mark.parametrize("name", GIVEN)
def test_every_row_says_when_with_what_and_how(name):
    with (ROOT / table(name)).open() as file:
        rows = [*csv.DictReader(file)]
    empty = [(row["command"], field) for row in rows for field in row if not row[field]]
    assert rows
    assert empty == []


def missing(name: str) -> set[study_tables.Key]:
    """Return what the rows of a study give and no table of docs/ shows: the README does not count."""
    shown = {
        key
        for page, _, cells in TABLES
        if page != "README.md" and cells.items() <= GIVEN[name].items()
        for key in cells
    }
    return {
        key
        for key in GIVEN[name].keys() - shown
        if not LEFT_OUT.get(name, lambda *key: False)(*key)
    }


@pytest.mark.parametrize("name", GIVEN)
def test_the_docs_show_what_the_rows_hold(name):
    """Every accuracy and every difference, in a table of which no cell differs from the rows of one study."""
    assert missing(name) == set()


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_the_docs_are_known_to_leave_out_they_leave_out(name, monkeypatch):
    monkeypatch.delitem(LEFT_OUT, name)
    assert missing(name)


def test_every_table_says_what_the_rows_of_a_study_hold():
    """Of the README too: row, column and block of each cell; the others quote papers or stand beside public code."""
    unlike = [
        f"{page}: {words}"
        for page, words, cells in TABLES
        if not any(cells.items() <= own.items() for own in GIVEN.values())
    ]
    assert [table for table in unlike if not table.startswith(OTHER_TABLES)] == []
    assert len(TABLES) - len(unlike) > 30


def test_what_the_text_says_with_an_interval_is_a_cell_of_a_study():
    """A signed figure is one of the differences; in whole numbers it is one of them rounded."""
    cells = [(key, cell) for own in GIVEN.values() for key, cell in own.items()]
    known = {cell for _, cell in cells} | {
        cell[1:] for (_, what, _), cell in cells if " - " in what
    }
    known |= {
        " ± ".join(f"{float(figure):.0f}" for figure in cell.split(" ± "))
        for cell in known
        if " ± " in cell
    }
    said = [
        (page, found)
        for page, text in PAGES.items()
        for found in FIGURE.findall(study_tables.prose(text))
    ]
    assert len(said) > 30
    assert [(page, found) for page, found in said if found not in known] == []

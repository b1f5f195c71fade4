"""Every job of every study can be built, and the docs show the figures of its CSV."""

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import curves
import published
import pytest
from hydra import compose, initialize_config_dir
from studies import STUDIES
from study import again_command, again_commands, command, is_of, jobs, overrides, show, table

from dcond.cli.instantiate import build
from dcond.paths import conf_dir
from helpers import study_tables

ROOT = Path(__file__).parents[2]


def kind(job: str) -> frozenset[str]:
    """Return what a method's overrides choose, and the keys of their numbers and switches."""
    return frozenset(re.sub(r"=(true|false|null|[\d.e+-]+)$", "", word) for word in job.split())


# A method of every study, and of every kind: the others differ in numbers only.
KINDS = {
    kind(job): (name, method)
    for name, study in STUDIES.items()
    for method, job in study.methods.items()
}
FIRST = [(name, next(iter(study.methods))) for name, study in STUDIES.items()]
CASES = sorted({*KINDS.values(), *FIRST})
PAGES = study_tables.pages(ROOT)
TABLES = [
    (page, label, cells)
    for page, text in PAGES.items()
    for label, cells in study_tables.groups(text)
]
FIGURE = re.compile(
    r"(?<![\d.,])[+-]?\d+(?:\.\d)? ± \d+(?:\.\d)?(?![\d.]*\d)"
)  # figures with two decimals are not from studies

# Figures in no table of docs/; differences on digits and over inner epochs are in the text.
OMITTED = {
    "selection_dm_m3d": lambda block, what, network: network == "average",
    "gradient_matching": lambda block, what, network: network == "average" and " - " not in what,
    "inner_epochs": lambda block, what, network: " - " in what,
    "hmdc_digits": lambda block, what, network: " - " in what,
    "hmdc_outer": lambda block, what, network: " - " in what,
    "hmdc_steps": lambda block, what, network: " - " in what,
    **dict.fromkeys(  # one seed, so no intervals to find them by
        ("rivals_soft", "rivals_half_hour"), lambda block, what, network: True
    ),
    "hmdc_pretrained": lambda block, what, network: what == "hmdc_two - hmdc_convnet",
}
OTHER_TABLES = (  # from papers, and comparisons with public code
    "docs/methods/dc.md: ['MNIST'",
    "docs/methods/degm.md: ['MNIST'",
    "docs/methods/dsa.md: ['MNIST'",
    "docs/methods/dm.md: ['ipc 1', '10', '50']",
    "docs/methods/m3d.md: ['ipc 1', '10', '50']",
    "docs/methods/mtt.md: ['ipc 1', '10', '50']",
    "docs/methods/ncfm.md: ['ipc 1', '10', '50']",
    "docs/methods/mtt.md: digits",  # benchmarks/cpu/digits.csv
    "docs/methods/datm.md: digits",
    "docs/studies/digits.md: real images per class and step",  # benchmarks/cpu/digits_settings.csv
    "docs/studies/published.md: row",  # tests/docs/test_published.py
    "docs/studies/public_code.md: ['set 1', 'set 2', 'set 3'",
    "docs/studies/public_code.md: mean ± 95 % interval over five networks",
    "docs/reproducibility.md: row",
    "docs/reproducibility.md: claim",  # a summary of several studies in each cell
)


def printed(show: Callable[[], None]) -> str:
    """Return what a script prints in the root of the repository."""
    text = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(text):
        show()
    return text.getvalue()


TABLES_OF = {  # of a study, and of its sets evaluated in other ways
    f"{name}{suffix}": (name, suffix)
    for name in STUDIES
    for suffix in ("", "_soft", "_long")
    if (ROOT / table(name, suffix)).is_file()
}
PRINTED = {  # what ``study.py STUDY show`` prints
    file: study_tables.facts(printed(partial(show, *of))) for file, of in TABLES_OF.items()
}


@pytest.mark.parametrize(("name", "method"), CASES, ids=["-".join(case) for case in CASES])
def test_a_study_can_be_built(name, method):
    study = STUDIES[name]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(
            "condense",
            overrides(name, next(iter(study.overrides)), study.datasets[0], method).split(),
        )
    build(cfg.method, method)
    assert set(build(cfg.pool, "pool").networks) >= {"ConvNet", "MLP", "ResNet"}


def test_jobs_repeated_by_their_steps_have_these_instead_of_seconds():
    for name, study in STUDIES.items():
        for (method, dataset, ipc), steps in study.steps.items():
            words = overrides(name, ipc, dataset, method).split()
            assert {f"max_steps={steps}", "engine.precision=float32"} <= {*words}
            assert not any(word.startswith("max_seconds") for word in words)


@pytest.mark.parametrize("name", [name for name, study in STUDIES.items() if study.evaluation])
def test_sets_are_evaluated_in_other_ways_as_the_jobs_are(name):
    study = STUDIES[name]
    ipc, method = next(iter(study.overrides)), next(iter(study.methods))
    job = f"{overrides(name, ipc, study.datasets[0], method)} seed=2"
    relabel, soft = again_commands(name, "soft", "RUN", job)
    (long,) = again_commands(name, "long", "RUN", job)
    assert relabel.startswith("relabel RUN ")
    assert soft.startswith("evaluate RUN/soft ")
    assert long.startswith("evaluate RUN ")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        as_the_job = compose("condense", job.split())
        soft, long = (compose("evaluate", each.split()[2:-1]) for each in (soft, long))
    for key in ("evaluation", "pool", "seed", "threads", "baselines"):
        assert soft[key] == as_the_job[key], key
    assert long.pool.networks.ConvNet == as_the_job.pool.networks.ConvNet
    long.evaluation.epochs = as_the_job.evaluation.epochs
    for key in ("evaluation", "seed", "threads", "baselines"):
        assert long[key] == as_the_job[key], key


@pytest.mark.parametrize("name", STUDIES)
def test_pairs_are_methods_of_the_study(name):
    assert {method for pair in STUDIES[name].pairs for method in pair} <= set(STUDIES[name].methods)


@pytest.mark.parametrize("name", PRINTED)
def test_every_row_has_its_date_versions_and_command(name):
    with (ROOT / table(*TABLES_OF[name])).open() as file:
        rows = [*csv.DictReader(file)]
    empty = [(row["command"], field) for row in rows for field in row if not row[field]]
    assert rows
    assert empty == []


@pytest.mark.parametrize("name", PRINTED)
def test_every_row_belongs_to_a_job_of_the_study(name):  # else ``collect`` would drop it
    study, suffix = TABLES_OF[name]
    line = partial(again_command, study, suffix[1:]) if suffix else command
    commands = {line(overrides) for _, overrides in jobs(study)}
    with (ROOT / table(study, suffix)).open() as file:
        assert {row["command"] for row in csv.DictReader(file)} <= commands


def test_a_run_of_other_settings_is_not_that_of_a_job(tmp_path):
    (tmp_path / ".hydra").mkdir()
    saved = ["method=dm", "dataset.path='a/b.npz'", "seed=0", "hydra.run.dir=x"]
    (tmp_path / ".hydra" / "overrides.yaml").write_text(json.dumps(saved))
    assert is_of(tmp_path, "method=dm dataset.path=a/b.npz seed=0")
    assert not is_of(tmp_path, "method=dm dataset.path=a/b.npz seed=0 threads=1")
    assert not is_of(tmp_path / "none", "method=dm")


def test_a_page_shows_the_accuracies_over_steps():
    lines = printed(partial(curves.show, "hmdc_over_steps")).splitlines()
    assert len(lines) > 3
    text = PAGES["docs/studies/hmdc_pretrained.md"]
    assert [line for line in lines if line not in text] == []


def missing(name: str) -> set[study_tables.Key]:
    """Return the figures of a study that no table of docs/ shows; the README does not count."""
    shown = {
        key
        for page, _, cells in TABLES
        if page != "README.md" and cells.items() <= PRINTED[name].items()
        for key in cells
    }
    return {
        key
        for key in PRINTED[name].keys() - shown
        if not OMITTED.get(name, lambda *key: False)(*key)
    }


@pytest.mark.parametrize("name", PRINTED)
def test_the_docs_show_every_figure(name):
    """Every accuracy and difference is in a table whose cells all agree with one study."""
    assert missing(name) == set()


@pytest.mark.parametrize("name", OMITTED)
def test_omitted_figures_are_still_omitted(name, monkeypatch):
    monkeypatch.delitem(OMITTED, name)
    assert missing(name)


def test_every_table_agrees_with_a_study():
    """Check row, column and block of each cell, in the README too; not of OTHER_TABLES."""
    other = [
        f"{page}: {label}"
        for page, label, cells in TABLES
        if not any(cells.items() <= own.items() for own in PRINTED.values())
    ]
    assert [table for table in other if not table.startswith(OTHER_TABLES)] == []
    assert len(TABLES) - len(other) > 30


def test_figures_in_the_text_are_cells_of_a_study():
    """A signed figure is a difference; a figure in whole numbers is a rounded cell."""
    cells = [(key, cell) for own in PRINTED.values() for key, cell in own.items()]
    known = {cell for _, cell in cells} | {
        cell[1:] for (_, what, _), cell in cells if " - " in what
    }
    known |= {
        " ± ".join(f"{float(figure):.0f}" for figure in cell.split(" ± "))
        for cell in known
        if " ± " in cell
    }
    known |= set(FIGURE.findall(printed(published.show)))
    quoted = [
        (page, figure)
        for page, text in PAGES.items()
        for figure in FIGURE.findall(study_tables.prose(text))
    ]
    assert len(quoted) > 30
    assert [(page, figure) for page, figure in quoted if figure not in known] == []

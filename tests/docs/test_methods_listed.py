"""Every method is in the tables that a reader chooses from, and can be imported by its name."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dcond import methods
from dcond.cli.groups import group_options
from dcond.paths import conf_dir

ROOT = Path(__file__).parents[2]
METHODS = group_options("method")


@pytest.mark.parametrize("page", ["README.md", "docs/methods/index.md"])
def test_a_table_names_every_method(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| `method=` \|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    first = [row.split("|")[1] for row in table.splitlines()[1:]]
    named = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_the_class_of_a_method_is_exported(method):
    node = OmegaConf.load(conf_dir() / "method" / f"{method}.yaml")
    if "_target_" in node:  # others take it from another file
        assert node._target_.rpartition(".")[2] in methods.__all__

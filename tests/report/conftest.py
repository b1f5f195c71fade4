"""Fixtures: reports of the results that a test writes."""

import pytest

from dcond.report.collect import collect
from dcond.report.grouping import build_report


@pytest.fixture
def report(tmp_path):
    """Return a function that builds the report of all results written so far."""
    return lambda *group_by: build_report(collect([tmp_path]), group_by or None)


@pytest.fixture
def names():
    """Return a function that lists the names of a block's rows."""
    return lambda block: [row.name for row in block.rows]

"""Reports of results that a test writes."""

import pytest

from dcond.report.collect import collect
from dcond.report.grouping import build_report


@pytest.fixture
def report(tmp_path):
    """Make the report of everything written so far."""
    return lambda *group_by: build_report(collect([tmp_path]), group_by or None)


@pytest.fixture
def names():
    """Name the rows of a block."""
    return lambda block: [row.name for row in block.rows]

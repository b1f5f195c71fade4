"""The CSV of injected faults: sessions and workers add rows; the newest row of a fault counts."""

import csv
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.tallying import Tally, merge


@pytest.fixture
def file(tmp_path):
    return tmp_path / "faults.csv"


def session(file, kills, *faults):
    """Record faults, ``(fault, subject, problems)`` each, in the file."""
    tally = Tally(kills)
    for fault, subject, problems in faults:
        try:
            tally(fault, subject, kills, problems)
        except AssertionError:
            assert problems
    merge(tally.rows, file)


def found(file):
    with file.open() as lines:
        return [
            (row["fault"], row["subject"], row["tries"], row["problems"])
            for row in csv.DictReader(lines)
        ]


def test_second_session_keeps_the_rows_of_the_first(file):
    session(file, 3, ("SIGKILL", "dm", []), ("disk full", "dm", ["lost"]))
    session(file, 30, ("SIGKILL", "dc", []), ("disk full", "dm", []))
    assert found(file) == [
        ("SIGKILL", "dc", "30", "0"),
        ("SIGKILL", "dm", "3", "0"),
        ("disk full", "dm", "30", "0"),
    ]


def test_shorter_file_replaces_a_longer_one(file):
    session(file, 1000000, ("memory", "dm", []))
    session(file, 1, ("memory", "dm", []))
    assert found(file) == [("memory", "dm", "1", "0")]


def test_problem_fails_the_test_and_is_recorded(file):
    tally = Tally(3)
    with pytest.raises(AssertionError, match="lost"):
        tally("disk full", "dm", 3, ["lost"])
    merge(tally.rows, file)
    assert found(file) == [("disk full", "dm", "3", "1")]


def test_empty_session_writes_nothing(file):
    merge([], file)
    assert not file.exists()


def test_concurrent_writers_lose_no_row(file):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: session(file, i, ("SIGKILL", f"{i:02}", [])), range(40)))
    assert found(file) == [("SIGKILL", f"{i:02}", str(i), "0") for i in range(40)]

"""The CSV of what was tried: sittings and workers add to it, and the newest row of a fault counts."""

import csv
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.tallying import Tally, merge


@pytest.fixture
def file(tmp_path):
    return tmp_path / "faults.csv"


def sitting(file, kills, *faults):
    """Try faults, ``(fault, subject, problems)`` each, and write down what was found."""
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


def test_a_second_sitting_keeps_the_rows_of_the_first(file):
    sitting(file, 3, ("SIGKILL", "dm", []), ("disk full", "dm", ["lost"]))
    sitting(file, 30, ("SIGKILL", "dc", []), ("disk full", "dm", []))
    assert found(file) == [
        ("SIGKILL", "dc", "30", "0"),
        ("SIGKILL", "dm", "3", "0"),
        ("disk full", "dm", "30", "0"),
    ]


def test_a_shorter_file_leaves_nothing_of_the_longer_one_behind(file):
    sitting(file, 1000000, ("memory", "dm", []))
    sitting(file, 1, ("memory", "dm", []))
    assert found(file) == [("memory", "dm", "1", "0")]


def test_a_problem_fails_the_test_and_is_in_the_file(file):
    tally = Tally(3)
    with pytest.raises(AssertionError, match="lost"):
        tally("disk full", "dm", 3, ["lost"])
    merge(tally.rows, file)
    assert found(file) == [("disk full", "dm", "3", "1")]


def test_a_sitting_that_tried_nothing_writes_nothing(file):
    merge([], file)
    assert not file.exists()


def test_workers_that_write_at_once_lose_no_row(file):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: sitting(file, i, ("SIGKILL", f"{i:02}", [])), range(40)))
    assert found(file) == [("SIGKILL", f"{i:02}", str(i), "0") for i in range(40)]

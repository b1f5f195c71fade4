"""Errors and helpers for their messages."""

import pytest

from dcond.errors import did_you_mean, first_line, yaml_repr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\nb"), "a"),
        (ValueError(), "ValueError"),
        (MemoryError("\n"), "MemoryError"),
        (OSError(2, "gone"), "[Errno 2] gone"),
    ],
)
def test_first_line_of_an_error(error, line):
    assert first_line(error) == line


def test_values_are_written_as_in_yaml():
    assert [yaml_repr(value) for value in (None, True, False, "a", 1.5)] == [
        "null",
        "true",
        "false",
        "'a'",
        "1.5",
    ]


@pytest.mark.parametrize(
    ("name", "allowed", "hint"),
    [
        ("lrr", ["lr", "steps"], " Did you mean 'lr'?"),
        ("kernel", ["engine", "lr"], ""),  # not near
        ("_targe_", ["_target_"], ""),  # private
    ],
)
def test_suggestions_are_near_and_public(name, allowed, hint):
    assert did_you_mean(name, allowed) == hint

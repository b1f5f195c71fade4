"""What all errors are made with."""

import pytest

from dcond.errors import ConfigError, first_line, whole_number, yaml_repr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\nb"), "a"),
        (ValueError(), "ValueError"),
        (MemoryError("\n"), "MemoryError"),
        (OSError(2, "gone"), "[Errno 2] gone"),
    ],
)
def test_the_first_line_of_an_error(error, line):
    assert first_line(error) == line


@pytest.mark.parametrize("value", [0, 1.0, True, None, "1", float("nan")])
def test_what_is_no_whole_number(value):
    with pytest.raises(ConfigError) as caught:
        whole_number("ipc", value)
    assert (
        str(caught.value)
        == f"ipc={yaml_repr(value)} is out of range; allowed: whole numbers from 1."
    )


def test_whole_numbers_may_begin_elsewhere():
    whole_number("ipc", 1)
    whole_number("seed", 0, least=0)


def test_values_are_shown_as_yaml_has_them():
    assert [yaml_repr(value) for value in (None, True, False, "a", 1.5)] == [
        "null",
        "true",
        "false",
        "'a'",
        "1.5",
    ]

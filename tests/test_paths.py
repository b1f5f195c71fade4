"""Files are written whole, with the permissions of any new file."""

import os
from pathlib import Path

import pytest

from dcond.paths import write_atomically, write_text


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_has_the_permissions_of_a_new_one(mask, tmp_path, monkeypatch):
    before = os.umask(mask)
    with monkeypatch.context() as patch:
        patch.setattr(os, "umask", None)  # of the whole process: other threads would see it change
        try:
            write_text(tmp_path / "a", "text")
        finally:
            patch.undo()
            os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_file_is_flushed_to_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    flush, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append("flush") or flush(file))
    monkeypatch.setattr(Path, "replace", lambda *names: done.append("name") or replace(*names))
    write_text(tmp_path / "a", "text")
    assert done == ["flush", "name"]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path):
    write_text(tmp_path / "a", "old")

    def fail(path):
        path.write_text("half")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - our own
        write_atomically(tmp_path / "a", fail)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]

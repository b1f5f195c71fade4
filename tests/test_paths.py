"""Files are written whole, with the permissions of any new file."""

import os

import pytest

from dcond.paths import write_text


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

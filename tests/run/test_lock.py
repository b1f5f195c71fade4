"""A run folder has one process at a time, and what a killed one left is cleared."""

import errno
import os
import subprocess
import sys

import pytest

from dcond.errors import ConfigError
from dcond.run.lock import NAME, in_use, lock_folder

HOLD = "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); "


@pytest.fixture
def held(tmp_path):
    """A process that has locked the folder's file, until it is killed."""
    command = [sys.executable, "-c", HOLD + "time.sleep(60)", str(tmp_path / NAME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_claimed_folder_is_refused_to_others_and_free_afterwards(tmp_path):
    with lock_folder(tmp_path):
        assert in_use(tmp_path)
        with pytest.raises(ConfigError) as error, lock_folder(tmp_path):
            pass
        assert str(error.value).startswith(f"{tmp_path} is in use by process {os.getpid()} on ")
        assert str(error.value).endswith("; wait until that run ends, or choose another folder.")
        assert in_use(tmp_path)
    assert not in_use(tmp_path)
    assert [file.read_text() for file in tmp_path.iterdir()] == [""]  # the lock file stays, empty


def test_a_killed_owner_leaves_nothing_that_must_be_removed(tmp_path, held):
    with (
        pytest.raises(ConfigError, match="is in use by another process; wait"),
        lock_folder(tmp_path),
    ):
        pass
    held.kill()
    held.wait()
    assert (tmp_path / NAME).exists()
    with lock_folder(tmp_path):
        assert in_use(tmp_path)


def test_half_written_files_of_a_killed_owner_are_cleared_and_no_others(tmp_path):
    for name in (".checkpoint.pt.k2j3h4xy.tmp", ".hidden", ".mine.tmp", "mine.tmp"):
        (tmp_path / name).touch()
    with lock_folder(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            ".hidden",
            ".mine.tmp",
            "mine.tmp",
            NAME,
        ]


def test_an_error_inside_gives_the_folder_back(tmp_path):
    with pytest.raises(KeyError), lock_folder(tmp_path):
        raise KeyError
    assert [file.read_text() for file in tmp_path.iterdir()] == [""]  # the lock file stays, empty


def test_a_folder_that_vanishes_is_no_further_error(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with lock_folder(folder):
        (folder / NAME).unlink()
        folder.rmdir()
    assert not in_use(folder)


def test_a_file_system_without_locks_guards_nothing_and_works(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with lock_folder(tmp_path), lock_folder(tmp_path):
        assert not in_use(tmp_path)


def test_a_lock_file_of_a_killed_run_blocks_nothing_without_locks(tmp_path, monkeypatch):
    """Whatever the file holds."""

    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", none)
    (tmp_path / NAME).write_text("process 7 on host")
    with lock_folder(tmp_path):
        assert not in_use(tmp_path)

"""Checkpoint files: what is read back, and what is refused."""

import errno
import os
import pickle

import pytest
import torch

from dcond.errors import CheckpointError
from dcond.rng import Streams
from dcond.run import checkpoint
from dcond.run.checkpoint import Checkpoint


def moment() -> Checkpoint:
    state = {"uses": 3, "network": {"weight": torch.arange(500.0)}, "pixels": {}}
    return Checkpoint(12, "seed: 0\n", torch.rand(2, 1, 4, 4), state, Streams(3).state_dict(), 1.5)


def refused(folder) -> str:
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_saved_is_what_is_read(tmp_path):
    saved = moment()
    checkpoint.save(saved, tmp_path)
    got = checkpoint.load(tmp_path)
    assert (got.step, got.config, got.wall_s) == (12, "seed: 0\n", 1.5)
    assert torch.equal(got.images, saved.images)
    assert got.state["uses"] == 3
    assert torch.equal(got.state["network"]["weight"], torch.arange(500.0))
    streams = Streams(0)
    streams.load_state_dict(got.rng)
    expected = torch.rand(5, generator=Streams(3).real)
    assert torch.equal(torch.rand(5, generator=streams.real), expected)
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_a_missing_file_is_no_run_folder(tmp_path):
    assert refused(tmp_path) == (
        f"nothing to resume: {tmp_path / 'checkpoint.pt'} does not exist; give the folder that has it."
    )


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 1000, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_damaged(tmp_path, keep):
    checkpoint.save(moment(), tmp_path)
    file = tmp_path / "checkpoint.pt"
    whole = file.read_bytes()
    file.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    message = refused(tmp_path)
    assert message.startswith(f"{file} is damaged or not a dcond checkpoint (")
    assert message.endswith("). Start the run again.")


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path):
    saved = moment()
    checkpoint.save(saved, tmp_path)
    file = tmp_path / "checkpoint.pt"
    whole = file.read_bytes()
    refusals = 0
    for position in range(0, len(whole), max(1, len(whole) // 200)):
        broken = bytearray(whole)
        broken[position] ^= 1 << position % 8
        file.write_bytes(broken)
        try:
            got = checkpoint.load(tmp_path)
        except CheckpointError:
            refusals += 1
        else:  # the bit was of the padding, or of what a zip file says twice
            assert (got.step, got.config, got.wall_s) == (12, "seed: 0\n", 1.5)
            assert torch.equal(got.images, saved.images)
            assert torch.equal(got.state["network"]["weight"], torch.arange(500.0))
            assert all(torch.equal(got.rng[name], saved.rng[name]) for name in saved.rng)
    assert refusals > 50


def test_a_flipped_bit_in_a_tensor_is_named(tmp_path):
    checkpoint.save(moment(), tmp_path)
    file = tmp_path / "checkpoint.pt"
    whole = bytearray(file.read_bytes())
    whole[whole.index(torch.arange(500.0).numpy().tobytes()) + 1000] ^= 1
    file.write_bytes(whole)
    message = refused(tmp_path)
    assert message.startswith(f"{file} is damaged or not a dcond checkpoint (the checksum of ")
    assert message.endswith(" is wrong). Start the run again.")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied; make it readable"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; make it readable"),
        (MemoryError(), "out of memory; free some"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory; free some"),
    ],
    ids=["denied", "broken disk", "no memory", "none for a tensor"],
)
def test_a_file_that_cannot_be_read_now_is_not_called_damaged(tmp_path, monkeypatch, error, said):
    checkpoint.save(moment(), tmp_path)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(checkpoint.zipfile, "ZipFile", fail)
    assert refused(tmp_path) == (
        f"cannot read {tmp_path / 'checkpoint.pt'}: {said}, then resume again."
    )


def test_an_archive_that_points_nowhere_is_damaged(tmp_path):
    """Following it is an error of the system, as from a broken disk."""
    checkpoint.save(moment(), tmp_path)
    file = tmp_path / "checkpoint.pt"
    whole = bytearray(file.read_bytes())
    whole[whole.rindex(b"PK\x06\x06") + 52] = 0x80  # in the offset of its table of contents
    file.write_bytes(whole)
    assert "Invalid argument" in refused(tmp_path)
    assert "is damaged or not a dcond checkpoint" in refused(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"PK\x03\x04 not a zip after all",
        pickle.dumps({"format": "dcond-checkpoint/1"}),
        b"\x80\x04" + b"\xff" * 50,
    ],
    ids=["empty", "text", "half a zip", "a plain pickle", "a broken pickle"],
)
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    assert "is damaged or not a dcond checkpoint" in refused(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [1, 2],
        {"images": torch.zeros(1)},
        {"format": "dcond-checkpoint/0", **vars(moment())},
        {"format": "dcond-checkpoint/1", "step": 3},
        {"format": "dcond-checkpoint/1", **vars(moment()), "colour": 1},
    ],
    ids=["tensor", "list", "dict", "other format", "fields missing", "field too many"],
)
def test_another_torch_file_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "checkpoint.pt")
    assert "is damaged or not a dcond checkpoint" in refused(tmp_path)


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("plain", [True, False], ids=["pickle", "torch.save"])
def test_nothing_in_a_file_is_ever_executed(tmp_path, plain):
    harm = tmp_path / "harm"
    content = {"format": "dcond-checkpoint/1", **vars(moment()), "state": Bomb(harm)}
    file = tmp_path / "checkpoint.pt"
    if plain:
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    refused(tmp_path)
    assert not harm.exists()


@pytest.mark.parametrize(
    ("before", "kept"),
    [(True, "the last good checkpoint stays"), (False, "there is none before it")],
)
def test_a_failed_write_keeps_the_one_before_and_says_how_to_go_on(
    tmp_path, monkeypatch, before, kept
):
    folder = tmp_path / "a b"
    folder.mkdir()
    if before:
        checkpoint.save(moment(), folder)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(content, file):
        file.write_bytes(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file\nwith a second line")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError) as error:
        checkpoint.save(moment(), folder)
    assert str(error.value) == (
        f"cannot write {folder / 'checkpoint.pt'} at step 12: PytorchStreamWriter failed writing file; {kept}. "
        f"Free some space, then resume with: dcond condense 'resume={folder}'"
    )
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files

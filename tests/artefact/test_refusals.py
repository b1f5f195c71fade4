"""What is no artefact, or a damaged one, is refused by one line."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dcond import artefact
from dcond.errors import ArtefactError


def test_a_missing_file(tmp_path, refused):
    path = tmp_path / "nothing.safetensors"
    way_out = "; give a synthetic.safetensors or the run folder that holds one."
    assert refused(path) == f"no artefact at {path}{way_out}"
    assert refused(tmp_path) == f"no artefact at {tmp_path / 'synthetic.safetensors'}{way_out}"


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, 0.9, 0.999])
def test_a_truncated_file(file, keep, refused):
    whole = file.read_bytes()
    file.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    message = refused(file)
    assert message.startswith(f"cannot read {file}: ")
    assert message.endswith(f"; it is {'damaged or not a safetensors file' if keep else 'empty'}.")


def test_a_flipped_bit_is_refused_or_only_changes_a_description(file, made):
    whole, saved = file.read_bytes(), made()
    refusals = 0
    for position in range(0, len(whole), 11):  # the header and the pixels
        broken = bytearray(whole)
        broken[position] ^= 1 << position % 8
        file.write_bytes(broken)
        try:
            got = artefact.load(file)
        except ArtefactError:
            refusals += 1
        else:
            assert torch.equal(got.images, saved.images)
            assert torch.equal(got.labels, saved.labels)
            for name in ("spec", "class_names", "ipc", "factor", "align_corners", "logits"):
                assert getattr(got, name) == getattr(saved, name)
            assert got.learned_lr is None
    assert refusals > 270  # nearly all of the file is pixels


def test_a_flipped_bit_in_a_pixel_is_named(file, made, refused):
    whole = bytearray(file.read_bytes())
    whole[whole.index(made().images.numpy().tobytes())] ^= 1
    file.write_bytes(whole)
    assert refused(file) == (
        f"{file}: content and sha256 checksum differ; copy or create the file again."
    )


@pytest.mark.parametrize(
    "content",
    [b"hello, world, I am a text", pickle.dumps({"images": 1}), b"PK\x03\x04" + bytes(60)],
)
def test_a_file_of_another_kind(file, content, refused):
    file.write_bytes(content)
    assert refused(file).startswith(f"cannot read {file}: ")


GOOD_TENSORS = {"images": torch.rand(8, 3, 6, 5), "labels": torch.arange(4).repeat_interleave(2)}
GOOD_METADATA = {
    "format": "dcond/1",
    "class_names": '["a", "b", "c", "d"]',
    "ipc": "2",
    "factor": "1",
    "align_corners": "false",
    "mean": "[0.5, 0.5, 0.5]",
    "std": "[0.2, 0.2, 0.2]",
}


def write(path, tensors=None, metadata=None) -> Path:
    tensors = {
        name: value for name, value in (GOOD_TENSORS | (tensors or {})).items() if value is not None
    }
    metadata = {
        name: value
        for name, value in (GOOD_METADATA | (metadata or {})).items()
        if value is not None
    }
    metadata.setdefault(artefact.CHECKSUM, artefact.checksum(metadata, tensors))
    save_file(tensors, path, metadata=metadata)
    return path


def test_a_file_without_checksum_is_refused(tmp_path, refused):
    file = write(tmp_path / "x.safetensors", metadata={artefact.CHECKSUM: ""})
    assert refused(file).endswith(
        "content and sha256 checksum differ; copy or create the file again."
    )


def test_a_file_by_another_tool_that_keeps_the_format_is_read(tmp_path):
    got = artefact.load(write(tmp_path / "x.safetensors"))
    assert torch.equal(got.images, GOOD_TENSORS["images"])
    half = artefact.load(
        write(tmp_path / "x.safetensors", {"images": torch.full((8, 3, 6, 5), 0.5).half()})
    )
    assert half.images.dtype == torch.float32
    for kind, labels in (
        ("hard", GOOD_TENSORS["labels"]),
        ("probabilities", torch.eye(4)[GOOD_TENSORS["labels"]]),
    ):
        got = artefact.load(write(tmp_path / "x.safetensors", {"labels": labels}, {"labels": kind}))
        assert (got.labels.ndim, got.logits) == (labels.ndim, False)


def with_pixel(value):
    images = GOOD_TENSORS["images"].clone()
    images[3, 1, 2, 2] = value
    return {"images": images}


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"images": None}, "lacks the tensor(s) images."),
        (
            {"images": None, "labels": None, "x": torch.ones(1)},
            "lacks the tensor(s) images, labels.",
        ),
        (
            {"images": torch.rand(8, 6, 5)},
            "images must be finite floats (n, c, h, w); got (8, 6, 5).",
        ),
        (
            {"images": torch.ones(8, 3, 6, 5, dtype=torch.uint8)},
            "images must be finite floats (n, c, h, w)",
        ),
        (with_pixel(float("nan")), "images must be finite floats (n, c, h, w)"),
        (with_pixel(float("inf")), "images must be finite floats (n, c, h, w)"),
        (with_pixel(1.5), "pixels leave the recorded range [0.0, 1.0]."),
        (with_pixel(-0.01), "pixels leave the recorded range [0.0, 1.0]."),
        ({"labels": torch.arange(7)}, "8 images but labels (7,)."),
        ({"labels": torch.tensor(3)}, "8 images but labels ()."),
        ({"labels": torch.tensor([0, 0, 1, 1, 2, 2, 3, 4])}, "labels must be in 0..3."),
        ({"labels": torch.tensor([0, 0, 1, 1, 2, 2, 3, -1])}, "labels must be in 0..3."),
        ({"labels": torch.rand(8, 5)}, "soft labels must be finite floats (n, 4); got (8, 5)."),
        ({"labels": torch.rand(8)}, "soft labels must be finite floats (n, 4); got (8,)."),
        (
            {"labels": torch.ones(8, 4, dtype=torch.int64)},
            "soft labels must be finite floats (n, 4); got (8, 4).",
        ),
        ({"labels": torch.full((8, 4), float("nan"))}, "soft labels must be finite floats (n, 4)"),
        (
            {"images": torch.rand(9, 3, 6, 5), "labels": torch.zeros(9).long()},
            "9 images are not 4 classes of ipc=2.",
        ),
    ],
)
def test_invalid_tensors(tmp_path, tensors, expected, refused):
    path = write(tmp_path / "x.safetensors", tensors)
    message = refused(path)
    assert message.startswith(str(path))
    assert expected in message


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"format": None}, "has format None; this dcond reads 'dcond/1'."),
        ({"format": "dcond/2"}, "has format 'dcond/2'; this dcond reads 'dcond/1'."),
        ({"class_names": None}, "metadata 'class_names' is missing or unreadable (None)."),
        ({"class_names": '"abcd"'}, "metadata 'class_names' is missing or unreadable"),
        ({"class_names": "[1"}, "metadata 'class_names' is missing or unreadable ('[1')."),
        ({"ipc": "two"}, "metadata 'ipc' is missing or unreadable ('two')."),
        ({"ipc": "3"}, "8 images are not 4 classes of ipc=3."),
        ({"factor": "0"}, "metadata 'factor' is missing or unreadable ('0')."),
        ({"factor": "-1"}, "metadata 'factor' is missing or unreadable ('-1')."),
        ({"factor": "7"}, "factor=7 does not fit images of 6x5."),
        (
            {"align_corners": "maybe"},
            "metadata 'align_corners' is missing or unreadable ('maybe').",
        ),
        ({"align_corners": "3"}, "metadata 'align_corners' is missing or unreadable ('3')."),
        ({"mean": "[0.5]"}, "mean and std must give 3 numbers, std above 0;"),
        ({"std": "[0.2, 0.2, 0]"}, "mean and std must give 3 numbers, std above 0;"),
        ({"std": "[0.2, 0.2, NaN]"}, "metadata 'std' is missing or unreadable"),
        ({"mean": "0.5"}, "metadata 'mean' is missing or unreadable ('0.5')."),
        ({"mean": '["x", 0, 0]'}, "metadata 'mean' is missing or unreadable"),
        (
            {"pixel_range": "[0, 1, 2]"},
            "metadata 'pixel_range' is missing or unreadable ('[0, 1, 2]').",
        ),
        ({"labels": "logits"}, "hard labels are not logits."),
        ({"labels": "soft"}, "metadata 'labels' is missing or unreadable ('soft')."),
        ({"pixel_range": "[0.2, 0.3]"}, "pixels leave the recorded range [0.2, 0.3]."),
    ],
)
def test_invalid_metadata(tmp_path, metadata, expected, refused):
    path = write(tmp_path / "x.safetensors", metadata=metadata)
    message = refused(path)
    assert message.startswith(str(path))
    assert expected in message


def test_nothing_is_unpickled(file, tmp_path, refused):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    file.write_bytes(pickle.dumps(Bomb()))
    refused(file)
    assert not (tmp_path / "harm").exists()


VALID = {
    "class_names": ["cat", "dog", "cow", "ant"],
    "ipc": 4,
    "factor": 1,
    "align_corners": False,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "size": [5, 6],
    "pixel_range": [-1.0, 2.0],
}


@pytest.mark.parametrize("key", artefact.GUARDED)
def test_everything_that_decides_how_pixels_are_used_is_in_the_checksum(key, file, refused):
    with safe_open(file, framework="pt") as content:
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        metadata = content.metadata()
    assert metadata.get(key) != json.dumps(VALID[key])
    save_file(tensors, file, metadata | {"method": "other", "dataset": "other", "seed": "9"})
    assert artefact.load(file).metadata["method"] == "other"  # a description may be edited
    save_file(tensors, file, metadata | {key: json.dumps(VALID[key])})
    other = key == "ipc"  # which the number of images contradicts
    assert ("are not 4 classes of ipc=4" if other else "checksum") in refused(file)

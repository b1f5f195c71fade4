"""The artefact: what is written is what is read, and a failed write leaves no trace."""

import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import dcond
from dcond import artefact
from dcond.errors import ArtefactError, UnsupportedError
from dcond.types import SyntheticSet


@pytest.mark.parametrize("soft", [False, True])
def test_everything_comes_back(tmp_path, soft, made):
    saved = made(soft=soft)
    got = artefact.load(artefact.save(saved, tmp_path / "x.safetensors"))
    assert torch.equal(got.images, saved.images)
    assert torch.equal(got.labels, saved.labels)
    assert got.labels.dtype == saved.labels.dtype
    for name in ("class_names", "ipc", "mean", "std", "factor", "align_corners"):
        assert getattr(got, name) == getattr(saved, name)
    assert got.metadata.items() >= saved.metadata.items()


def test_the_metadata_is_the_contract(file, made):
    length = struct.unpack("<Q", file.read_bytes()[:8])[0]
    header = json.loads(file.read_bytes()[8 : 8 + length])
    metadata = header["__metadata__"]
    assert metadata.keys() >= {
        *(
            "format",
            "method",
            "dataset",
            "class_names",
            "ipc",
            "factor",
            "align_corners",
            "mean",
            "std",
            "size",
        ),
        *("seed", "dcond_version", "torch_version", "created", "evaluation"),
    }
    assert metadata["format"] == "dcond/1"
    assert json.loads(metadata["class_names"]) == list(made().class_names)
    assert json.loads(metadata["size"]) == [6, 5]
    assert json.loads(metadata["mean"])[1] == 1 / 3
    assert (metadata["ipc"], metadata["factor"], metadata["align_corners"]) == ("2", "2", "true")
    assert metadata["dcond_version"] == dcond.__version__
    assert "pixel_range" not in metadata
    assert header["images"]["dtype"] == "F32"
    assert header["labels"]["dtype"] == "I64"
    assert header["__metadata__"]["labels"] == "hard"


def test_a_set_under_optimisation_is_saved_as_it_stands(tmp_path, made):
    synthetic = made()
    synthetic.images.requires_grad_()
    got = artefact.load(artefact.save(synthetic, tmp_path / "x.safetensors"))
    assert not got.images.requires_grad
    assert torch.equal(got.images, synthetic.images)


def test_a_set_that_left_the_box_records_its_range(tmp_path, made):
    images = made().images.clone()
    images[0, 0, 0, :2] = torch.tensor([-0.25, 1.5])
    path = artefact.save(made(images=images), tmp_path / "x.safetensors")
    got = artefact.load(path)
    assert json.loads(got.metadata["pixel_range"]) == [-0.25, 1.5]
    assert torch.equal(got.images, images)
    got.images.clamp_(0, 1)  # and a set that came back into it does not
    assert "pixel_range" not in artefact.load(artefact.save(got, path)).metadata


def test_a_run_folder_stands_for_its_artefact(file, made):
    assert torch.equal(artefact.load(file.parent).images, made().images)
    assert torch.equal(artefact.load(str(file)).images, made().images)


def test_from_python_in_anybodys_training_loop(file, made):
    assert dcond.load is artefact.load
    assert dcond.SyntheticSet is SyntheticSet
    images, labels = next(iter(DataLoader(dcond.load(file).dataset(), batch_size=32)))
    assert images.shape == (32, 3, 6, 5)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 4
    decoded, _ = made().decoded()
    torch.testing.assert_close(images[:, 1], (decoded[:, 1] - 1 / 3) / 0.25)


def test_importing_dcond_is_instant_and_unknown_names_are_reported():
    code = "import dcond, sys; assert 'torch' not in sys.modules; dcond.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, timeout=60)
    with pytest.raises(AttributeError, match="module 'dcond' has no attribute 'laod'"):
        _ = dcond.laod


# --- writing
# --------------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path, made):
    path = tmp_path / "no" / "x.safetensors"
    with pytest.raises(ArtefactError) as error:
        artefact.save(made(), path)
    assert str(error.value).startswith(f"cannot write {path}: ")
    assert str(error.value).endswith(" Free some space or choose another folder.")


def test_a_set_that_load_would_refuse_is_not_written(tmp_path, made):
    saved = made(soft=True)
    images, labels = (torch.cat([part, part[:1]]) for part in (saved.images, saved.labels))
    file = tmp_path / "set.safetensors"
    with pytest.raises(UnsupportedError, match=r"one number of images per class, this set \d+ "):
        artefact.save(replace(saved, images=images, labels=labels), file)
    assert not file.exists()


def test_a_failed_write_leaves_the_old_file_and_no_debris(file, monkeypatch, made):
    before = file.read_bytes()

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artefact, "save_file", full)
    with pytest.raises(ArtefactError, match="No space left on device"):
        artefact.save(made(factor=1), file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_interrupted_write_leaves_no_debris_either(file, monkeypatch, made):
    def interrupted(tensors, path, metadata):
        raise KeyboardInterrupt

    monkeypatch.setattr(artefact, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        artefact.save(made(factor=1), file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_file_is_an_ordinary_one(file):
    mask = os.umask(0)
    os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask

"""Files that cannot be used: data, artefacts, downloads. One line, exit 1, nothing half-written."""

import json
import pickle
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dcond import artefact


@pytest.fixture
def birds(folder):
    """Write ``birds.npz``, sound but for what is changed; None takes an array out."""

    def write(**changed):
        rng = np.random.default_rng(0)
        arrays = {
            "train_images": rng.integers(0, 256, (12, 8, 8, 3), np.uint8),
            "train_labels": np.arange(12) % 3,
            "test_images": rng.integers(0, 256, (6, 8, 8, 3), np.uint8),
            "test_labels": np.arange(6) % 3,
            "class_names": np.array(["owl", "tit", "wren"]),
        } | changed
        np.savez(
            folder / "birds.npz",
            **{key: value for key, value in arrays.items() if value is not None},
        )
        return folder / "birds.npz"

    return write


@pytest.fixture
def condense_birds(condense):
    return lambda *arguments: condense(
        "dataset=npz", "dataset.path=birds.npz", "evaluate=false", *arguments
    )


def with_nan():
    images = np.full((12, 8, 8, 3), 0.5, np.float32)
    images[7, 0, 0, 0] = np.nan
    return images


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"train_images": with_nan()},
            "train_images holds NaN or an infinite value, first in image 7;",
        ),
        (
            {"train_labels": np.arange(12) % 3 + 1},
            "train_labels go from 1 to 3, but labels count from 0; subtract 1 from all labels.",
        ),
        ({"train_labels": np.arange(12) % 3 - 1}, "train_labels[0] is -1; labels count from 0."),
        ({"test_labels": np.full(6, 3)}, "test_labels[0] is 3; allowed: 0 to 2"),
        ({"train_labels": np.arange(12) % 2}, "no training image for class 'wren' (2);"),
        ({"train_labels": np.arange(11) % 3}, "train_labels holds 11 labels for 12 images;"),
        ({"test_images": None}, "test_images missing;"),
        (
            {"train_images": np.zeros((12, 3, 8, 8), np.uint8)},
            "train_images has shape (12, 3, 8, 8);",
        ),
        (
            {"train_images": np.array([{}] * 12)},
            "train_images holds Python objects, which are not read",
        ),
    ],
)
def test_an_npz_that_breaks_a_rule(changed, message, birds, condense_birds, half_written, results):
    birds(**changed)
    line = condense_birds().line
    assert line.startswith("birds.npz")
    assert message in line
    assert half_written() == []
    assert results()[0]["error"] == line


@pytest.mark.parametrize("word", ["evaluation.lr=search", "test_on=held_out"])
def test_too_few_images_to_hold_any_out(word, birds, condense, folder, results):
    """Told before any step, and not as a division by the number of none."""
    birds(train_images=np.zeros((3, 8, 8, 3), np.uint8), train_labels=np.arange(3))
    done = condense("dataset=npz", "dataset.path=birds.npz", "dataset.name=birds", word)
    assert done.err.splitlines()[-1] == (
        "dcond: birds has 3 training images, too few to hold out a tenth and keep one per class. "
        "Add images, or omit evaluation.lr=search and test_on=held_out."
    )
    assert results()[0]["cost"]["steps"] is None


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "missing", "folder"])
def test_an_npz_that_cannot_be_read(damage, birds, condense_birds, half_written):
    file = birds()
    content = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage != "missing":
        file.write_bytes(
            {"truncated": content[: len(content) // 2], "text": b"hello", "empty": b""}[damage]
        )
    line = condense_birds().line
    assert line.startswith("birds.npz ")
    assert line.endswith(
        {"missing": "give the path of an npz file."}.get(damage, "write or copy it again.")
    )
    assert half_written() == []


def test_ipc_larger_than_a_class(birds, condense_birds, half_written):
    birds(train_labels=np.array([0] * 6 + [1] * 4 + [2] * 2))
    assert condense_birds("ipc=3").line == (
        "ipc=3 needs 3 images per class; class 'wren' of npz has 2. Use a smaller ipc; methods that change pixels can begin at init=noise."
    )
    assert half_written() == []


@pytest.mark.parametrize("damage", ["truncated", "text"])
def test_a_picture_that_cannot_be_read(damage, folder, condense, half_written):
    for split in ("train", "test"):
        for name in ("owl", "tit"):
            (folder / "birds" / split / name).mkdir(parents=True)
            Image.effect_noise((8, 8), 50).save(folder / "birds" / split / name / "1.png")
    bad = folder / "birds" / "train" / "tit" / "1.png"
    content = bad.read_bytes()
    bad.write_bytes(content[: len(content) - 30] if damage == "truncated" else b"no picture")
    line = condense("dataset=image_folder", "dataset.path=birds", "evaluate=false").line
    assert line.startswith("birds/train/tit/1.png cannot be read as an image (")
    assert line.endswith("; replace or remove it.")
    assert half_written() == []


def test_no_network(folder, condense, half_written, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    done = condense("dataset=cifar10", "evaluate=false")
    assert done.code == 1
    line = done.err.splitlines()[-1]
    assert line.startswith(
        "dcond: data/cifar10.npz does not exist and cifar10 could not be fetched ("
    )
    assert "Temporary failure in name resolution" in line
    assert line.endswith(
        "Run 'dcond data prepare cifar10' (other settings as here) on a machine with a network, then copy cifar10.npz to 'data' "
        "(or set DCOND_DATA to its folder)."
    )
    assert "Traceback" not in done.err
    assert half_written() == []
    assert list((folder / "data").rglob("*.npz")) == []


@pytest.fixture
def changed_artefact(finished):
    """Rewrite the artefact of a finished run with other tensors or metadata; return its path."""

    def rewrite(tensors=None, **metadata):
        path = finished / "synthetic.safetensors"
        synthetic = artefact.load(path)
        kept = {"images": synthetic.images, "labels": synthetic.labels} | (tensors or {})
        written = synthetic.metadata | metadata
        written[artefact.CHECKSUM] = artefact.checksum(written, kept)
        save_file(kept, path, metadata=written)
        return path

    return rewrite


def test_evaluate_takes_the_data_set_from_the_artefact(finished, run_cli, folder):
    arguments = (
        "evaluation.epochs=1",
        "evaluation.repeats=1",
        "pool.networks.ConvNet.width=8",
        "pool=convnet",
    )
    done = run_cli("evaluate", f"synthetic={finished}", "hydra.run.dir=e", *arguments)
    assert done.code == 0, done.err
    result = json.loads((folder / "e" / "result.json").read_text())
    assert (result["status"], result["dataset"], result["method"], result["ipc"]) == (
        "done",
        "digits",
        "dm",
        1,
    )
    assert set(result["evaluation"]["networks"]) == {"ConvNet"}
    assert result["baselines"]["random"] is not None
    assert result["cost"]["steps"] is None


@pytest.mark.parametrize("damage", ["truncated", "random", "empty", "pickle"])
def test_evaluate_refuses_what_is_no_artefact(damage, finished, run_cli, folder):
    path = finished / "synthetic.safetensors"
    content = path.read_bytes()
    broken = {
        "truncated": content[:-100],
        "random": bytes(range(256)) * 8,
        "empty": b"",
        "pickle": pickle.dumps({"images": 1}),
    }[damage]
    path.write_bytes(broken)
    line = run_cli("evaluate", f"synthetic={path}").line
    assert line.startswith(f"cannot read {path}: ")
    assert not (folder / "outputs" / "evaluate").exists()


class Sesame:
    """Opens when unpickled."""

    def __reduce__(self):
        return (open, ("opened", "w"))


def test_nothing_is_ever_unpickled(finished, run_cli, folder):
    path = finished / "synthetic.safetensors"
    torch.save({"images": torch.zeros(1), "labels": Sesame()}, path)
    assert run_cli("evaluate", f"synthetic={path}").line.startswith(f"cannot read {path}: ")
    (finished / "result.json").unlink()
    torch.save({"format": Sesame()}, finished / "checkpoint.pt")
    line = run_cli("condense", f"resume={finished}").line
    assert line.startswith(f"{finished / 'checkpoint.pt'} is damaged or not a dcond checkpoint (")
    np.savez(folder / "x.npz", train_images=np.array([Sesame()]))
    line = run_cli("data", "info", "npz", "dataset.path=x.npz").line
    assert line.startswith(
        "x.npz: train_images holds Python objects, which are not read; save texts as"
    )
    assert not (folder / "opened").exists()


def test_evaluate_refuses_another_data_set(finished, run_cli, birds):
    birds()
    done = run_cli(
        "evaluate", f"synthetic={finished}", "dataset=npz", "dataset.path=birds.npz", "pool=convnet"
    )
    assert "its 10 classes (0, 1, 2, ...) match the 3 of 'npz' (" in done.line
    assert ") neither by name nor by numbers from 0; rename them, or use the data set" in done.line


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"images": torch.full((10, 1, 8, 8), float("nan"))}, {}, "images must be finite floats"),
        (
            {"images": torch.full((10, 1, 8, 8), 1.5)},
            {},
            "pixels leave the recorded range [0.0, 1.0]",
        ),
        ({"labels": torch.full((10,), 10)}, {}, "labels must be in 0..9"),
        ({"labels": torch.zeros(9, dtype=torch.int64)}, {}, "10 images but labels (9,)"),
        ({}, {"format": "dcond/9"}, "has format 'dcond/9'; this dcond reads 'dcond/1'."),
        ({}, {"mean": "hello"}, "metadata 'mean' is missing or unreadable ('hello')."),
        (
            {},
            {"dataset": "moths"},
            "the set was made from the data set 'moths', which is not packaged; add dataset=NAME.",
        ),
    ],
)
def test_evaluate_refuses_an_artefact_that_breaks_a_rule(
    tensors, metadata, message, changed_artefact, run_cli
):
    path = changed_artefact(tensors, **metadata)
    assert message in run_cli("evaluate", f"synthetic={path}").line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "no set to evaluate; give one: dcond evaluate FILE_OR_RUN_FOLDER.",
        ),
        (
            ["synthetic=nowhere"],
            "no artefact at nowhere; give a synthetic.safetensors or the run folder that holds one.",
        ),
        (
            ["synthetic=a", "dataset=digits", "seed=x"],
            "seed='x' must be a whole number.",
        ),
    ],
)
def test_evaluate_with_wrong_arguments(arguments, message, run_cli):
    done = run_cli("evaluate", *arguments)
    assert done.code == 1
    assert done.line == message


def test_evaluating_several_needs_a_data_set(run_cli):
    done = run_cli("evaluate", "-m", "synthetic=a,b")
    assert done.code == 1
    assert "a sweep over several sets needs their data set; add dataset=NAME." in done.err
    assert "2 of 2 jobs are not done" in done.err.splitlines()[-1]

"""A stranger's own pictures, condensed, exported and trained on by the script of docs/data.md,
without dcond.

And named by the stranger: in tables, folders and results.
"""

import json
import re
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dcond
from dcond import artefact
from dcond.cli.given_sets import dataset_overrides
from dcond.errors import DcondError

SIZES = {"ant": (12, 8), "bee": (20, 8), "wasp": (7, 8)}  # images to train on and to test


@pytest.fixture
def my_images(folder):
    """Three classes of unlike size: stripes, a chequerboard and rings in colour, under noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16]
    patterns = (
        rows // 2 % 2,
        (rows // 4 + columns // 4) % 2,
        np.hypot(rows - 8, columns - 8) // 3 % 2,
    )
    for (name, counts), pattern, colour in zip(SIZES.items(), patterns, np.eye(3), strict=True):
        for split, count in zip(("train", "test"), counts, strict=True):
            (folder / "my_images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = (
                    60
                    + 120 * pattern[..., None] * (0.4 + 0.6 * colour)
                    + 25 * rng.standard_normal((16, 16, 3))
                )
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(folder / "my_images" / split / name / f"{number}.png")
    return folder / "my_images"


@pytest.mark.slow
def test_unequal_classes_are_condensed_exported_and_trained_on(
    my_images, unpack, run_cli, capsys, folder
):
    arguments = (
        "method.steps=10",
        "model.width=8",
        "evaluate=false",
        "tensorboard=false",
        "hydra.run.dir=run",
    )
    done = run_cli(
        "condense", "dataset=image_folder", f"dataset.path={my_images.name}", "ipc=2", *arguments
    )
    assert done.code == 0, done.err
    done = run_cli("export", "run", "--to", "png", "--decoded", "--out", "condensed")
    assert done.code == 0, done.err
    files = sorted(
        path.relative_to(folder / "condensed").parent.name
        for path in folder.glob("condensed/*/*.png")
    )
    assert files == [name for name in SIZES for _ in range(8)]  # two stored images of four each
    (script,) = unpack("docs/data.md")
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # torchvision's own, which are not ours to mend
        runpy.run_path(str(script))
    accuracy = float(re.fullmatch(r"test accuracy ([\d.]+) %\n", capsys.readouterr().out)[1])
    assert accuracy > 80  # chance is 33


# --- names
# --------------------------------------------------------------------------------


@pytest.fixture
def insects(my_images, condense, folder):
    """The folder of a run on images that are called insects."""
    arguments = (
        "dataset=image_folder",
        "dataset.path=my_images",
        "dataset.size=8",
        "dataset.name=insects",
    )
    done = condense(*arguments, "baselines=false")
    assert done.code == 0, done.err
    assert "dm on insects, ipc 1: 3 images" in done.err
    assert "dm on insects, 1 image(s) per class" in done.out
    (run,) = (folder / "outputs" / "condense" / "dm_insects_ipc1").iterdir()
    return run


def test_a_set_goes_by_its_own_name(insects):
    result = json.loads((insects / "result.json").read_text())
    assert result["dataset"] == "insects"
    assert result["choices"]["dataset"] == "image_folder"
    metadata = dcond.load(insects).metadata
    assert (metadata["dataset"], metadata["dataset_choice"]) == ("insects", "image_folder")


def test_its_evaluation_finds_the_data_and_the_name(insects, run_cli):
    arguments = (
        "pool=convnet",
        "pool.networks.ConvNet.width=8",
        "evaluation=quick",
        "evaluation.epochs=1",
    )
    arguments += (f"synthetic={insects}", "baselines=false", "evaluation.repeats=1")
    assert run_cli("evaluate", *arguments).line == (
        "dataset=image_folder needs dataset.path; add dataset.path=... to the command."
    )
    for more, name in (((), "insects"), (("dataset.name=bugs",), "bugs")):
        done = run_cli(
            "evaluate",
            *arguments,
            "dataset.path=my_images",
            "dataset.size=8",
            f"hydra.run.dir={name}",
            *more,
        )
        assert done.code == 0, done.err
        result = json.loads(Path(name, "result.json").read_text())
        assert (result["dataset"], result["choices"]["dataset"]) == (name, "image_folder")


def test_a_packaged_set_is_called_what_it_is_chosen_by(finished):
    assert json.loads((finished / "result.json").read_text())["dataset"] == "digits"
    assert dcond.load(finished).metadata["dataset"] == "digits"
    assert "dataset_choice" not in dcond.load(finished).metadata


@pytest.mark.parametrize("name", ["a b", "x,y=3", "../up", ""])
def test_a_name_that_somebody_else_wrote_is_no_word_of_the_command(name, finished):
    """An artefact's metadata may be anybody's."""
    synthetic = dcond.load(finished)
    synthetic.metadata |= {"dataset": name, "dataset_choice": "npz"}
    artefact.save(synthetic, finished / "synthetic.safetensors")
    assert dataset_overrides(str(finished), []) == ["dataset=npz"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], ["dataset=npz", "dataset.name='mine'", "dataset.classes=['ant','bee']"]),
        (["dataset=npz"], ["dataset.name='mine'"]),
        (["dataset=npz", "dataset.name=yours"], []),
        (["dataset=digits"], []),
        (["dataset=theirs"], []),
    ],
)
def test_the_data_set_may_be_typed_too(typed, expected, finished):
    synthetic = dcond.load(finished)
    synthetic.metadata |= {
        "dataset": "mine",
        "dataset_choice": "npz",
        "dataset_classes": '["ant", "bee"]',
    }
    artefact.save(synthetic, finished / "synthetic.safetensors")
    assert dataset_overrides(str(finished), typed) == expected


def test_a_data_set_of_the_users_own_is_found_if_it_is_typed(finished):
    synthetic = dcond.load(finished)
    synthetic.metadata |= {"dataset": "birds"}
    artefact.save(synthetic, finished / "synthetic.safetensors")
    assert dataset_overrides(str(finished), ["dataset=birds"]) == []
    with pytest.raises(DcondError, match="'birds', which is not packaged; add dataset=NAME"):
        dataset_overrides(str(finished), [])

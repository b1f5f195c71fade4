"""What is refused: code in files, unknown layouts, labels and sizes that do not fit; one line each,
nothing run.
"""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dcond.errors import ArtefactError, ConfigError, DataError, DcondError, UnsupportedError
from dcond.importers import Source
from dcond.importers.source import path_beside


class Sesame:
    """Opens when unpickled."""

    def __reduce__(self):
        return os.makedirs, ("opened",)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        Sesame(),
        {"data": [[torch.zeros(6, 1, 8, 8), Sesame()]]},
        {"data": [[torch.zeros(6, 1, 8, 8), torch.zeros(6)]], "accs_all_exps": Sesame()},
        [torch.zeros(6, 1, 8, 8), Sesame()],
        {"synthetic_images": torch.zeros(3, 2, 1, 8, 8), "init": Sesame()},
    ],
)
def test_code_in_a_torch_file_is_refused_by_name_and_not_run(content, legacy, tmp_path, load):
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ArtefactError) as error:
        load(tmp_path / "x.pt")
    assert str(error.value) == (
        f"{tmp_path / 'x.pt'} was refused: loading it would run code (os.makedirs). dcond reads "
        "tensors, lists, dicts and numbers only; if you trust the file, open it elsewhere and save "
        "images and labels as npz."
    )
    assert not (tmp_path / "opened").exists()


def test_code_in_the_files_beside(tmp_path, load, known):
    torch.save(known.normalised, tmp_path / "images_best.pt")
    torch.save(Sesame(), tmp_path / "labels_best.pt")
    with pytest.raises(ArtefactError, match=r"labels_best\.pt was refused"):
        load(tmp_path, normalised=True)
    torch.save(known.labels, tmp_path / "labels_best.pt")
    torch.save(Sesame(), tmp_path / "lr_best.pt")
    with pytest.raises(ArtefactError, match=r"lr_best\.pt was refused"):
        load(tmp_path, normalised=True)
    assert not (tmp_path / "opened").exists()


def test_code_in_a_numpy_value_is_not_run_either(tmp_path, load):
    """Numpy values are read as placeholders, so what is in them is looked at by the same rules."""
    torch.save({"data": [], "accs_all_exps": np.array([Sesame()])}, tmp_path / "x.pt")
    with pytest.raises(ArtefactError, match="was refused"):
        load(tmp_path / "x.pt")
    np.savez(tmp_path / "x.npz", images=np.array([Sesame()]), labels=np.zeros(1))
    with pytest.raises(ArtefactError, match="images holds Python objects, which are not read"):
        load(tmp_path / "x.npz")
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("name", ["x.pt", "x.npz", "x.safetensors", "x.pkl"])
def test_a_bare_pickle(name, tmp_path, load):
    (tmp_path / name).write_bytes(pickle.dumps(Sesame()))
    with pytest.raises(ArtefactError) as error:
        load(tmp_path / name)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "opened").exists()


def test_a_whole_network_is_refused_by_the_name_of_its_class(tmp_path, load):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(
        ArtefactError, match=r"would run code \(torch\.nn\.modules\.linear\.Linear\)"
    ):
        load(tmp_path / "x.pt")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "bytes"])
@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_a_damaged_file(suffix, damage, tmp_path, load, known):
    path = tmp_path / f"x{suffix}"
    if suffix == ".pt":
        torch.save([known.pixels, known.labels], path)
    else:
        np.savez(path, images=known.pixels, labels=known.labels)
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "text": b"hello",
            "bytes": bytes(range(256)),
        }[damage]
    )
    with pytest.raises(ArtefactError) as error:
        load(path, factor=1)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"weights": torch.zeros(2)},
            "holds a dict with 'weights', an unknown layout; allowed: a dcond artefact, .pt or",
        ),
        (3.0, "holds a float, an unknown layout;"),
        ({"data": []}, "holds a dict with 'data', an unknown layout;"),
        ([torch.zeros(2)], "holds a list, an unknown layout;"),
        (
            [torch.zeros(6, 8, 8), torch.zeros(6)],
            "(IDC, NCFM): images must be (n, c, h, w); got (6, 8, 8).",
        ),
        (
            [torch.zeros(6, 1, 8, 8), torch.zeros(5)],
            "6 images but labels (5,); give one label per image,",
        ),
    ],
)
def test_unknown_contents(content, message, tmp_path, load):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ArtefactError) as error:
        load(tmp_path / "x.pt")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"images": np.zeros((0, 1, 8, 8), np.float32)},
            "(npz): images must be (n, c, h, w); got (0, 1, 8, 8).",
        ),
        ({"factor": np.array("two")}, "factor is 'two'; save a whole number from 1."),
        ({"factor": np.array(np.inf)}, "factor is inf; save a whole number from 1."),
        ({"factor": np.array([2, 2])}, "factor is [2, 2]; save a whole number from 1."),
        ({"factor": np.array(0)}, "factor is 0; save a whole number from 1."),
    ],
)
def test_an_invalid_npz(changed, message, tmp_path, load, known):
    np.savez(
        tmp_path / "x.npz",
        **{"images": known.pixels.numpy(), "labels": known.labels.numpy()} | changed,
    )
    with pytest.raises(ArtefactError) as error:
        load(tmp_path / "x.npz")
    assert message in str(error.value)


def test_folders_that_hold_nothing_or_too_much(tmp_path, load, known):
    (tmp_path / "__MACOSX").mkdir()  # in archives that a Mac has made
    with pytest.raises(ArtefactError, match="holds no synthetic set; allowed: a dcond artefact,"):
        load(tmp_path)
    for name in ("data.pt", "images_best.pt"):
        torch.save(known.pixels, tmp_path / name)
    with pytest.raises(
        ArtefactError, match=r"holds images_best\.pt and data\.pt; give one of these files\.$"
    ):
        load(tmp_path)
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(ArtefactError, match=r"has an unknown type \(empty\); allowed:"):
        load(tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            torch.rand(6, 1, 9, 8),
            torch.arange(6) // 2,
            "holds images of (1, 9, 8) (channels, height, width), data set",
        ),
        (
            torch.rand(6, 3, 8, 8),
            torch.arange(6) // 2,
            "evaluate it on the data set it was made from, with the same options (dataset=NAME ",
        ),
        (
            torch.rand(6, 1, 8, 8),
            torch.arange(6),
            "has labels from 0 to 5; data set 'mnist' has 3 classes, numbered 0 to 2",
        ),
        (torch.rand(6, 1, 8, 8), torch.arange(6) // 2 - 1, "has labels from -1 to 1;"),
        (
            torch.rand(4, 1, 8, 8),
            torch.tensor([0, 0, 1, 1]),
            "has no image of 1 of the 3 classes of 'mnist' (low); add some, or choose the others by "
            "dataset.classes.",
        ),
        (torch.rand(6, 1, 8, 8), torch.rand(6), "labels (n,) must be whole numbers."),
        (torch.rand(6, 1, 8, 8), torch.eye(6), "has labels for 6 classes, data set 'mnist' has 3."),
        (
            torch.rand(4, 1, 8, 8),
            torch.ones(4, 3) / 3,
            "soft labels must be finite, and their number a multiple of 3",
        ),
        (
            torch.full((6, 1, 8, 8), torch.nan),
            torch.arange(6) // 2,
            "images must be uint8 or finite floating point;",
        ),
        (torch.ones(6, 1, 8, 8, dtype=torch.int64), torch.arange(6) // 2, "got torch.int64."),
    ],
)
def test_sets_that_do_not_fit(images, labels, message, tmp_path, load):
    torch.save([images, labels], tmp_path / "data.pt")
    with pytest.raises(DataError) as error:
        load(tmp_path, factor=1)
    assert str(error.value).startswith(str(tmp_path / "data.pt"))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 0}, "Source.factor=0 is out of range; allowed: whole numbers from 1, null."),
        ({"index": -1}, "Source.index=-1 is out of range; allowed: whole numbers from 0, null."),
        ({"mean": [0.5]}, "synthetic.mean and synthetic.std go together; give both."),
        (
            {"zca": True, "normalised": True},
            "synthetic.zca=true replaces synthetic.normalised, mean and std;",
        ),
        (
            {"normalised": False, "mean": [0.5], "std": [1]},
            "synthetic.normalised=false does not use synthetic.mean",
        ),
        ({"mean": [0.5], "option": "against"}, "against.mean and against.std go together;"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ConfigError) as error:
        Source(path="x", **options)
    assert str(error.value).startswith(message)


def test_statistics_of_another_number_of_channels(tmp_path, known, load):
    torch.save({"data": [[known.normalised, known.labels]]}, tmp_path / "x.pt")
    with pytest.raises(
        DataError, match=r"synthetic\.mean and \.std must hold 1 number\(s\) each\.$"
    ):
        load(tmp_path / "x.pt", mean=[0.1, 0.1, 0.1], std=[1, 1, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": ["a"], "std": [1]}, r"synthetic\.mean=\['a'\] must hold finite numbers\."),
        ({"mean": [None], "std": [1]}, r"synthetic\.mean=\[None\] must hold finite numbers\."),
        ({"mean": [0], "std": [float("nan")]}, r"std=\[nan\] must hold finite numbers above 0\."),
        ({"mean": [0], "std": [0]}, r"std=\[0\] must hold finite numbers above 0\."),
    ],
)
def test_a_normalisation_that_is_none_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Source(path="x.pt", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": 5}, r"synthetic\.index=5 is out of range: .*x\.pt holds one set; allowed: 0\."),
        ({"logits": True}, r"has hard labels, which excludes synthetic\.logits\."),
    ],
)
def test_options_that_the_file_has_no_use_for_are_refused(options, message, tmp_path, known, load):
    torch.save({"images": known.pixels, "labels": known.labels}, tmp_path / "x.pt")
    with pytest.raises(DcondError, match=message):
        load(tmp_path / "x.pt", normalised=False, **options)


def test_labels_of_other_types(tmp_path, load, known):
    labels = known.labels.to(torch.complex64)
    torch.save({"images": known.pixels, "labels": labels}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"labels must be real numbers; got torch\.complex64"):
        load(tmp_path / "x.pt", normalised=False)
    torch.save({"images": known.pixels, "labels": known.labels > 0}, tmp_path / "x.pt")
    with pytest.raises(DataError, match="has no image of 1 of the 3 classes"):
        load(tmp_path / "x.pt", normalised=False)


def test_some_classes_of_a_data_set_have_its_published_constants(tmp_path, known, load, mnist):
    torch.save({"images": known.normalised, "labels": known.labels}, tmp_path / "x.pt")
    options = {"normalised": True, "factor": 1}
    name = "-".join(["mnist", *mnist.class_names])
    assert known.same(load(tmp_path / "x.pt", replace(mnist, name=name), **options))
    with pytest.raises(UnsupportedError, match="no constants are published for 'mnist-rotated'"):
        load(tmp_path / "x.pt", replace(mnist, name="mnist-rotated"), **options)


@pytest.mark.parametrize("file", ["run.lock", "result.json"])
def test_a_run_without_a_set_is_called_one(file, tmp_path, load):
    """A run that was killed, or still runs."""
    (tmp_path / file).touch()
    with pytest.raises(ArtefactError) as error:
        load(tmp_path)
    assert str(error.value) == (
        f"no artefact at {tmp_path / 'synthetic.safetensors'}; give a synthetic.safetensors or the "
        "run folder that holds one."
    )


def test_what_is_made_from_a_set_is_put_where_the_set_is_read_as_before(tmp_path, monkeypatch):
    """A folder in an image folder would be a class of it."""
    run, pictures = tmp_path / "run", tmp_path / "pictures"
    for folder in (run, pictures / "ant"):
        folder.mkdir(parents=True)
    (run / "synthetic.safetensors").touch()
    assert path_beside(run, "relabelled") == run / "relabelled"
    assert path_beside(tmp_path / "data.pt", "export_png") == tmp_path / "export_png"
    assert path_beside(pictures, "export_png") == tmp_path / "pictures_export_png"
    monkeypatch.chdir(pictures)
    assert path_beside(Path(), "export_png") == tmp_path / "pictures_export_png"

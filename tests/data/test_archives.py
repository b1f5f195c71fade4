"""Archives: what their layouts hold, prepared once, unpacked whole or not at all."""

import numpy as np
import pytest
import torch

from dcond.data import Archive
from dcond.errors import DataError
from helpers.pictures import picture


@pytest.fixture
def tiny(tmp_path):
    """The layout of Tiny ImageNet: boxes beside the images, an annotated val/, a test/ without
    labels.
    """
    root = tmp_path / "tiny"
    for wnid in ("n01", "n02"):
        for i in range(2):
            picture(root / "train" / wnid / "images" / f"{i}.JPEG", size=(8, 8), seed=i)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("0\t0\t0\t1\t1\n")
    lines = []
    for i, wnid in enumerate(("n02", "n01", "n02")):
        picture(root / "val" / "images" / f"val_{i}.JPEG", size=(8, 8))
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t1\t1")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    picture(root / "test" / "images" / "test_0.JPEG", size=(8, 8))
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\ttoad\nn03\tother\n")
    return root


def archive(data_dir, **settings):
    return Archive(
        name="tiny_imagenet",
        url="https://example.org/x.zip",
        data_dir=str(data_dir),
        size=8,
        **settings,
    )


def test_tiny_imagenet_layout_is_prepared_once(tiny, tmp_path):
    real = archive(tmp_path, path=str(tiny)).load()
    assert real.class_names == ("goldfish", "toad")
    assert real.test.labels.tolist() == [1, 0, 1]
    assert real.train.images.shape == (4, 3, 8, 8)
    assert torch.equal(
        archive(tmp_path).load().train.images, real.train.images
    )  # without the folder


def test_annotation_of_an_unknown_class(tiny, tmp_path):
    with (tiny / "val" / "val_annotations.txt").open("a") as file:
        file.write("val_0.JPEG\tn99\n")
    with pytest.raises(
        DataError, match=r"val_annotations\.txt, line 4 does not name a class of train/"
    ):
        archive(tmp_path, path=str(tiny)).load()


@pytest.mark.parametrize("name", ["val/val_annotations.txt", "words.txt"])
def test_a_list_that_is_not_text(name, tiny, tmp_path):
    (tiny / name).write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError) as error:
        archive(tmp_path, path=str(tiny)).load()
    assert (
        str(error.value) == f"{tiny / name} is not a text file (byte 0 is not UTF-8); replace it."
    )


def test_archive_names_size_and_way_out(split_folder, tmp_path):
    with pytest.raises(
        DataError,
        match=r"download and unpack https://example\.org/x\.zip, then run 'dcond data prepare",
    ):
        archive(tmp_path).load()
    archive(tmp_path, path=str(split_folder), class_names={"ant": "Formica"}).prepare()
    assert archive(tmp_path).load().class_names == ("Formica", "bee")
    other = Archive(name="tiny_imagenet", url="x", data_dir=str(tmp_path), size=16)
    with pytest.raises(
        DataError, match=r"holds images of 8 x 8, but dataset\.size=16; remove the file"
    ):
        other.load()


def test_a_renamed_archive_is_prepared_under_its_option(tmp_path):
    renamed = Archive(name="tiny32", url="x", data_dir=str(tmp_path), size=32)
    with pytest.raises(DataError) as error:
        renamed.load()
    assert str(error.value).endswith(
        "run 'dcond data prepare NAME dataset.name=tiny32 dataset.path=FOLDER' (NAME and other "
        "settings as here); FOLDER holds train/ and val/."
    )


def test_archive_names_the_rule_it_was_prepared_by(split_folder, tmp_path):
    archive(tmp_path, path=str(split_folder), resize="pad").prepare()
    assert archive(tmp_path, resize="pad").load().spec.height == 8
    for verb in ("load", "prepare"):
        with pytest.raises(DataError) as error:
            getattr(archive(tmp_path), verb)()
        assert str(error.value) == (
            f"{tmp_path / 'tiny_imagenet.npz'} holds images resized by 'pad', but dataset.resize=crop; "
            "remove the file to prepare it again, or set another paths.data."
        )


@pytest.mark.parametrize(
    "said", [{}, {"resize": np.array(["pad", "crop"])}, {"resize": np.array(3)}]
)
def test_a_prepared_file_that_does_not_say_its_rule_is_read(said, split_folder, tmp_path):
    """As dcond wrote them before, or somebody else did."""
    file = archive(tmp_path, path=str(split_folder)).prepare()
    with np.load(file) as loaded:
        np.savez(file, **{key: loaded[key] for key in loaded if key != "resize"} | said)
    assert archive(tmp_path, resize="pad").load().class_names == ("ant", "bee")


def test_imagenette_is_unpacked_whole_or_not_at_all(split_folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    sizes = []

    def fetch(root, size, download):
        sizes.append(size)
        assert not list(root.iterdir())  # nothing left of the attempt before
        if len(sizes) == 1:
            picture(root / "imagenette2-160" / "train" / "ant" / "0.png")
            raise RuntimeError("Error downloading")
        split_folder.rename(root / "imagenette2-160")

    monkeypatch.setattr(datasets, "Imagenette", fetch)
    data_dir = tmp_path.parent / f"{tmp_path.name}-data"
    dataset = archive(data_dir, download=True)
    with pytest.raises(
        DataError, match=r"could not be fetched \(Error downloading\)\. Run 'dcond data prepare"
    ):
        dataset.load()
    assert len(dataset.load().train) == 8
    assert sizes == ["160px", "160px"]


@pytest.mark.parametrize("missing", ["train", "test", "both"])
def test_a_folder_without_both_splits_is_refused_and_nothing_is_written(
    missing, split_folder, tmp_path
):
    """Of class folders alone a half became the test split."""
    path = split_folder
    if missing == "both":
        path = split_folder / "train"
    else:
        (split_folder / missing).rename(tmp_path.parent / f"{tmp_path.name}-moved")
    with pytest.raises(DataError) as error:
        archive(tmp_path / "data", path=str(path)).prepare()
    assert str(error.value) == (
        f"{path} does not hold train/ and val/; give the folder that holds both: dataset.path=FOLDER."
    )
    assert not (tmp_path / "data").exists()


def test_the_parent_of_an_archive_is_refused_with_the_right_path(split_folder, tmp_path):
    inside = tmp_path / "all" / "imagewoof2-160"
    inside.mkdir(parents=True)
    for split in ("train", "test"):
        (split_folder / split).rename(inside / split)
    with pytest.raises(DataError, match=rf"did you mean dataset\.path={inside}\?$"):
        archive(tmp_path, path=str(tmp_path / "all")).load()


def test_an_empty_folder_in_place_of_an_unpacked_archive_is_named(tmp_path):
    folder = tmp_path / "raw" / "tiny_imagenet" / "160px"
    folder.mkdir(parents=True)
    with pytest.raises(DataError) as error:
        archive(tmp_path, download=True).load()
    assert str(error.value) == (
        f"{folder} holds no folder with train/; remove {folder} to fetch the archive again."
    )


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ({"ant": "Formica"}, None),
        ({"ant": "Formica", "wasp": "Vespa", "bee": "bee"}, None),  # of a folder with some classes
        ({}, None),
        ({"ant": "Ameise"}, "Ameise"),
        ({"ant": "Formica", "bee": "Apis"}, "Apis"),
    ],
)
def test_names_that_a_prepared_file_does_not_have_are_refused(
    names, missing, split_folder, tmp_path
):
    first = archive(
        tmp_path, path=str(split_folder), class_names={"ant": "Formica", "fly": "Musca"}
    )
    assert first.load().class_names == ("Formica", "bee")  # there is no fly
    again = archive(tmp_path, class_names=names)
    if missing is None:
        assert again.load().class_names == ("Formica", "bee")
        return
    with pytest.raises(DataError) as error:
        again.load()
    assert str(error.value) == (
        f"{tmp_path / 'tiny_imagenet.npz'} holds no class {missing!r} of dataset.class_names; "
        "remove the file to prepare it again, or set another paths.data."
    )

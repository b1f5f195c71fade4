"""dataset.classes: some classes of any data set, by name or number, in the given order."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dcond.data import Digits, ImageFolder, Npz
from dcond.data.class_subset import subset
from dcond.data.fingerprint import fingerprint
from dcond.data.prepared import Prepared
from dcond.errors import ConfigError


def named(*names: str) -> Prepared:
    images, labels = np.zeros((len(names), 2, 2, 1), np.uint8), np.arange(len(names))
    return Prepared(images, labels, images, labels, names)


@pytest.mark.parametrize("classes", [["7", "1"], [7, 1]])
def test_classes_are_renumbered_in_the_given_order(classes):
    whole, part = Digits().load(), Digits(classes=classes).load()
    assert part.class_names == ("7", "1")
    assert part.name == "digits-7-1"
    for split in ("train", "test"):
        all_, some = getattr(whole, split), getattr(part, split)
        for label, digit in enumerate((7, 1)):
            expected = all_.images[all_.labels == digit]
            assert torch.equal(some.images[some.labels == label], expected)
    assert part.mean != whole.mean
    assert fingerprint(part) != fingerprint(whole)
    assert fingerprint(part) != fingerprint(Digits(classes=["1", "7"]).load())


@pytest.mark.parametrize("keep", ["device", "disk"])
def test_images_of_files_and_on_disk(split_folder, npz, keep, tmp_path):
    folder = ImageFolder(path=str(split_folder), keep=keep, data_dir=str(tmp_path / "d"))
    whole = folder.load()
    part = replace(folder, classes=["bee", "ant"]).load()
    assert part.class_names == ("bee", "ant")
    assert torch.equal(part.pixels(part.class_rows[0]), whole.pixels(whole.class_rows[1]))
    whole = Npz(path=str(npz), keep=keep).load()
    part = Npz(path=str(npz), keep=keep, classes=[1, 0]).load()
    assert torch.equal(part.pixels(part.class_rows[1]), whole.pixels(whole.class_rows[0]))


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (["cta", "dog"], ("cat", "dog"), r"no class is called 'cta'; allowed: cat, dog, or numbers "
         r"from 0 to 1\. Did you mean 'cat'\?"),
        ([0, 2], ("cat", "dog"), "no class is called 2; allowed"),
        ([0, -1], ("cat", "dog"), "no class is called -1; allowed"),
        (["cat", 0], ("cat", "dog"), "has a class twice"),
        (["cat", "dog"], ("cat", "dog", "cat"), "2 classes are called 'cat'; give numbers: 0, 2"),
        ([1, 2], ("1", "2", "3"), "1 is the name of class 0 and the number of another; give 0's "
         r"name in quotes: 'dataset\.classes=\[\"1\",\.\.\.\]'\."),
    ],
)  # fmt: skip
def test_wrong_classes_are_one_line(classes, names, message):
    with pytest.raises(ConfigError, match=message) as error:
        subset("toy", named(*names), classes)
    assert "\n" not in str(error.value)


def test_classes_without_a_test_image_are_refused():
    data = named("cat", "dog", "cow")
    rows = data.test_labels == 2
    data = replace(data, test_images=data.test_images[rows], test_labels=data.test_labels[rows])
    with pytest.raises(ConfigError, match=r"dataset\.classes=.* has no test image of these\."):
        subset("toy", data, ["cat", "dog"])


def test_one_class_is_refused():
    with pytest.raises(ConfigError, match=r"dataset\.classes=\[3\] is too few"):
        Digits(classes=[3])


def test_names_that_could_be_confused_or_are_long_are_hashed():
    first, second = (
        subset("toy", named(*names, "z"), names)[0] for names in (("a-b", "c"), ("a", "b-c"))
    )
    assert first != second
    assert first.startswith("toy-2classes-")
    long = tuple(f"class{i}" for i in range(20))
    assert len(subset("toy", named(*long), long)[0]) < 40


def test_classes_called_true_and_false_are_names():  # which YAML reads as booleans
    data = named("a", "b", "true")
    assert subset("own", data, [True, "a"])[1].class_names == ("true", "a")
    with pytest.raises(ConfigError, match="no class is called 'false'"):
        subset("own", data, [True, False])

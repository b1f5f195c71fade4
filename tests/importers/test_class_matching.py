"""Classes are matched by name: equal names first, then looser ones where only one can be meant;
never by order.
"""

import re
import shlex
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from dcond import artefact
from dcond.class_matching import class_order, in_class_order
from dcond.errors import DataError
from dcond.importers import Source
from dcond.types import SyntheticSet


def order(names, own, toy) -> list[int]:
    return class_order(Path("x"), tuple(names), replace(toy, class_names=tuple(own))).tolist()


@pytest.mark.parametrize(
    ("names", "own", "expected"),
    [
        ("aAb", "aAb", [0, 1, 2]),
        ("Aba", "aAb", [1, 2, 0]),
        (["c", "c#", "c++"], ["c", "c++", "c#"], [0, 2, 1]),
        (["-1", "1"], ["1", "-1"], [1, 0]),
        (["C", "Dog pen"], ["dog_pen", "c"], [1, 0]),
        (["ant", "c", "c++"], ["c", "c++", "Ant"], [2, 0, 1]),  # each name as loosely as it takes
        (["00002", "00000", "00001"], "abc", [2, 0, 1]),
        (["new1", "new0"], ["0", "1"], [1, 0]),
    ],
)
def test_names_are_matched(names, own, expected, toy):
    assert order(names, own, toy) == expected


def test_accents_written_in_two_ways_are_one_name(toy):
    """macOS takes names of folders apart."""
    own = ("été", "ete", "abc")
    assert order([unicodedata.normalize("NFD", name) for name in own[::-1]], own, toy) == [2, 1, 0]


@pytest.mark.parametrize(
    ("names", "own"),
    [
        (["c", "c#"], ["c", "c++"]),  # loosely c# is c++, and c as well
        (["crane", "bird", "crane"], ["crane", "crane", "bird"]),
        (["0", "1", "2"], ["1", "2", "3"]),  # by number 1 would be the class that is called 2
        (["a", "x"], ["a", "b", "c"]),
        (["a", "a"], ["a", "b", "c"]),  # two classes of one name
        (["+", "a"], ["-", "a"]),
    ],
)
def test_ambiguous_names_are_refused(names, own, toy):
    with pytest.raises(DataError, match=r"by name nor by numbers from 0; rename them, or"):
        order(names, own, toy)


def test_two_classes_of_one_name_are_matched_with_their_own_data_only(tmp_path, toy):
    """As words.txt calls some; their order elsewhere may be the other one."""
    names = ("crane", "bird", "crane")
    with pytest.raises(DataError, match=r"two classes are called 'crane', in 'toy' too, .* give"):
        order(names, names, toy)
    like = replace(toy, class_names=names)
    synthetic = SyntheticSet.from_images(torch.rand(3, 1, 8, 8), like)
    assert torch.equal(in_class_order(tmp_path, synthetic, like).images, synthetic.images)
    with pytest.raises(DataError, match="two classes are called 'crane'"):
        in_class_order(tmp_path, synthetic, replace(like, mean=(0.26,)))


def test_many_names_are_shortened(toy):
    with pytest.raises(DataError) as error:
        order("abcd", ["ant", "bee"], toy)
    assert "x: its 4 classes (a, b, c, ...) match the 2 of 'toy' (ant, bee) neither by name" in str(
        error.value
    )


def test_some_of_the_classes_and_more_are_refused_with_the_way_out(toy):
    own = ["ant", "Bee", "cat", "dog"]
    with pytest.raises(DataError) as error:
        order(["cat", "bee"], own, toy)
    assert str(error.value) == (
        "x: it has 2 of the 4 classes of 'toy'; add 'dataset.classes=[cat,Bee]' to use these only."
    )
    with pytest.raises(DataError) as error:
        order(own, ["bee", "ant"], toy)
    assert str(error.value) == (
        "x: 2 of its 4 classes (cat, dog) are not in 'toy'; choose a data set with all of them "
        "(dataset=NAME)."
    )


@pytest.mark.parametrize("names", [["low", "left"], ["low", "left", "right", "ant"]])
def test_an_artefact_with_another_number_of_classes_is_refused_by_name(names, tmp_path, toy, load):
    images = torch.rand(len(names), 1, 8, 8)
    like = replace(toy, class_names=tuple(names))
    artefact.save(SyntheticSet.from_images(images, like), tmp_path / "synthetic.safetensors")
    with pytest.raises(DataError, match=r"dataset\.classes=\[low,left\]|\(ant\) are not in"):
        load(tmp_path)


def test_unmatched_names_come_first(toy):
    with pytest.raises(DataError) as error:
        order("abcde", "abcdf", toy)
    assert (
        "its 5 classes (e, a, b, ...) match the 5 of 'toy' (f, a, b, ...) neither by name"
        in str(error.value)
    )


# --- dcond's own
# --------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path, known, toy):
    """Save a set of the toy's images under other names of its classes; return what was saved."""

    def save(names, labels=known.labels) -> SyntheticSet:
        synthetic = SyntheticSet(
            known.pixels, labels, tuple(names), 2, toy.mean, toy.std, metadata={"method": "dm"}
        )
        artefact.save(synthetic, tmp_path / "synthetic.safetensors")
        return synthetic

    return save


def test_an_artefact_whose_classes_stand_in_another_order(made, tmp_path, known, load, mnist):
    made(["low", "left", "right"])
    got = load(tmp_path)
    assert got.class_names == mnist.class_names == ("left", "right", "low")
    assert torch.equal(got.labels, known.labels)
    assert torch.equal(got.images, known.pixels[[2, 3, 4, 5, 0, 1]])


def test_soft_labels_go_with_their_classes(made, tmp_path, known, load):
    soft = torch.rand(6, 3, generator=torch.Generator().manual_seed(2)).softmax(1)
    made(["low", "left", "right"], soft)
    got = load(tmp_path)
    assert torch.equal(got.labels, soft[[2, 3, 4, 5, 0, 1]][:, [1, 2, 0]])
    assert torch.equal(got.images, known.pixels[[2, 3, 4, 5, 0, 1]])


def test_no_image_is_lost_where_soft_labels_do_not_say_its_class(known, toy):
    """Seven images of three classes, such as of other code: only their labels are renumbered."""
    images = known.pixels[[0, 1, 2, 3, 4, 5, 0]]
    soft = torch.rand(7, 3, generator=torch.Generator().manual_seed(2)).softmax(1)
    like = replace(toy, class_names=("low", "left", "right"))
    given = SyntheticSet.from_images(images, like, labels=soft)
    got = in_class_order("the set", given, replace(toy, class_names=("left", "right", "low")))
    assert torch.equal(got.images, images)
    assert torch.equal(got.labels, soft[:, [1, 2, 0]])


def test_an_artefact_of_equal_names_is_returned_unchanged(made, tmp_path, mnist):
    made(mnist.class_names)
    source = Source(path=str(tmp_path))
    content = source.read()
    assert source.fitted(content, mnist) is content


def test_an_artefact_of_other_classes_is_refused(made, tmp_path, load):
    made(["ant", "bee", "wasp"])
    with pytest.raises(DataError) as error:
        load(tmp_path, option="against")
    assert str(error.value) == (
        f"{tmp_path}: its 3 classes (ant, bee, wasp) match the 3 of 'mnist' (left, right, low) "
        "neither by name nor by numbers from 0; rename them, or use the data set that it was "
        "made from (dataset=NAME)."
    )


def test_an_artefact_is_renamed_as_others_are(made, tmp_path, load, mnist):
    for names in (mnist.class_names, mnist.class_names[::-1]):
        made(names)
        assert load(tmp_path, method="mine").metadata["method"] == "mine"
        assert load(tmp_path).metadata["method"] == "dm"


@pytest.mark.parametrize("names", ["aAb", ["c", "c++", "c#"], ["-1", "1", "0"]])
def test_what_is_exported_to_npz_is_read_again(names, tmp_path, known, load, mnist):
    real = replace(mnist, class_names=tuple(names))
    np.savez(
        tmp_path / "x.npz",
        images=known.pixels,
        labels=known.labels,
        class_names=np.array(real.class_names),
    )
    got = load(tmp_path / "x.npz", real)
    assert torch.equal(got.labels, known.labels)
    assert torch.allclose(got.images, known.pixels)


def test_the_suggested_classes_can_be_pasted_into_a_shell(toy):
    names = ["Ankle boot", "T-shirt/top", "7", "null", "it's", "a,b", 'x"y', "été", "end\\"]
    with pytest.raises(DataError) as error:
        order(names, [*names, "other"], toy)
    overrides = shlex.split(re.search(r"add (.*) to use these only", str(error.value))[1])
    (override,) = OverridesParser.create().parse_overrides(overrides)
    assert override.value() == names

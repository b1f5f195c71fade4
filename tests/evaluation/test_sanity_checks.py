"""Warnings about sets that were read wrongly, and no warning about others."""

import json
from dataclasses import replace

import pytest
import torch

from dcond.data.class_subset import subset_name
from dcond.data.fingerprint import fingerprint_of_split
from dcond.evaluation import EvalResult, NetworkResult
from dcond.evaluation.sanity_checks import check_input_statistics, check_test_split, near_chance
from dcond.types import RealData, Split, SyntheticSet
from dcond.whitening import fit_whitening


def real_rows(toy, read_as="pixels", **settings) -> SyntheticSet:
    rows = torch.cat([rows[:2] for rows in toy.class_rows])
    given = {"images": toy.pixels(rows), "mean": toy.mean, "std": toy.std} | settings
    labels = toy.train.labels[rows]
    return SyntheticSet(
        labels=labels, class_names=toy.class_names, ipc=2, metadata={"read_as": read_as}, **given
    )


def test_real_images_give_no_warning(toy):
    assert check_input_statistics(real_rows(toy), toy) is None
    whitening = fit_whitening(toy.train.images)
    assert (
        check_input_statistics(
            real_rows(toy, "zca", whitening=whitening, mean=(0.0,), std=(1.0,)), toy
        )
        is None
    )


@pytest.mark.parametrize(
    ("count", "read"), [(120, 120), (1000, 1000), (1001, 501), (1999, 1000), (2001, 667)]
)
def test_at_most_a_thousand_real_images_are_read(count, read, toy, monkeypatch):
    rows = torch.arange(count) % 120
    many = replace(toy, train=toy.train.part(rows))
    seen, pixels = [], RealData.pixels
    monkeypatch.setattr(
        RealData, "pixels", lambda self, rows: seen.append(len(rows)) or pixels(self, rows)
    )
    assert check_input_statistics(real_rows(toy), many) is None
    assert seen[-1] == read


def test_the_test_split_of_a_merged_set_is_that_of_each_part(toy):
    """Also of a set with the classes in another order."""

    def made(names, split):
        labels = [toy.class_names.index(name) for name in names]
        test = torch.cat([(toy.test.labels == label).nonzero().flatten() for label in labels])
        test = test.sort().values  # the order of the data set
        number = torch.tensor([labels.index(x) for x in toy.test.labels[test].tolist()])
        test_images = fingerprint_of_split(Split(split.images[test], number))
        metadata = {"test_images": test_images, "class_names": json.dumps(names)}
        return replace(real_rows(toy), metadata=metadata)

    def merged(*parts):
        text = json.dumps([part.metadata for part in parts])
        return replace(real_rows(toy), metadata={"merged_from": text})

    brighter = Split(toy.test.images + 1, toy.test.labels)
    turned = made(["low", "left", "right"], toy.test)
    first, second = made(["right", "left"], toy.test), made(["low"], toy.test)
    for good in (turned, merged(first, second), merged(first, real_rows(toy))):
        assert check_test_split(good, toy) is None
    unknown = made(["low"], brighter)
    unknown.metadata["class_names"] = json.dumps(["other"])
    assert check_test_split(merged(first, unknown), toy) is None
    untested = replace(toy, test=toy.test.part(torch.nonzero(toy.test.labels != 2).flatten()))
    assert check_test_split(made(["low"], brighter), untested) is None
    for bad in (made(["low"], brighter), merged(first, made(["low"], brighter))):
        assert "may have been condensed from some of them" in check_test_split(bad, toy)


def test_the_whole_test_split_is_not_copied(toy, monkeypatch):
    made = replace(real_rows(toy), metadata={"test_images": fingerprint_of_split(toy.test)})
    monkeypatch.setattr(Split, "part", None)
    assert check_test_split(made, toy) is None


def test_another_test_split_gives_a_warning(toy):
    """Other images, other labels, or one image fewer; a set without a record gives no warning."""
    made = replace(real_rows(toy), metadata={"test_images": fingerprint_of_split(toy.test)})
    assert check_test_split(made, toy) is None
    assert check_test_split(real_rows(toy), replace(toy, test=toy.train)) is None
    brighter = Split(toy.test.images + 1, toy.test.labels)
    relabelled = Split(toy.test.images, toy.test.labels.flip(0))
    for test in (brighter, relabelled, toy.test.part(torch.arange(len(toy.test) - 1)), toy.train):
        assert "may have been condensed from some of them" in check_test_split(
            made, replace(toy, test=test)
        )


def test_normalised_images_read_as_pixels(toy):
    images = real_rows(toy).dataset().tensors[0]
    warning = check_input_statistics(real_rows(toy, images=images), toy)
    assert warning.startswith("the normalised images have mean -")
    assert "pass synthetic.normalised=true if they are stored as (x - mean) / std" in warning
    assert warning.endswith(".")


def test_pixels_read_as_normalised(toy):
    images = toy.spec.denormalise(real_rows(toy).images)
    warning = check_input_statistics(real_rows(toy, "normalised", images=images), toy)
    assert "pass synthetic.normalised=false if they are pixels in [0, 1]" in warning


def test_pixels_read_as_whitened(toy):
    whitening = fit_whitening(toy.train.images)
    images = whitening.undo(real_rows(toy).dataset().tensors[0] * 4)
    warning = check_input_statistics(
        real_rows(toy, "zca", images=images, whitening=whitening, mean=(0.0,), std=(1.0,)), toy
    )
    assert "omit synthetic.zca=true" in warning


def found(accuracy: float) -> EvalResult:
    return EvalResult("quick", {"MLP": NetworkResult((accuracy,), 0.01, 1, 1.0)})


@pytest.mark.parametrize(
    ("ours", "random", "warns"),
    [
        (0.34, 0.8, True),
        (0.34, None, True),
        (0.36, 0.3, False),
        (0.40, 0.8, False),
        (0.2, 0.5, True),
    ],
)
def test_near_chance(ours, random, warns, toy):
    warning = near_chance(
        found(ours), None if random is None else found(random), real_rows(toy, "normalised")
    )
    assert (warning is not None) == warns
    if warns:
        assert warning.startswith(
            f"average test accuracy {100 * ours:.1f} % is near chance (33.3 %); the images may have"
        )
        assert "synthetic.normalised=false" in warning
        assert warning.endswith(", or synthetic.factor=2 if each image holds four small ones.")


def test_a_set_of_dcond_gets_another_hint(toy):
    assert "check that it was made from this data set" in near_chance(
        found(0.3), None, real_rows(toy, "")
    )


def test_chosen_classes_are_the_same_data_set(toy):
    """An artefact names the whole set, the data are named by their classes."""
    some = replace(toy, name=subset_name("toy", toy.class_names))
    metadata = {"test_images": "others", "dataset": "toy", "dataset_classes": "…"}
    made = replace(real_rows(toy), metadata=metadata)
    assert "may have been condensed from some of them" in check_test_split(made, some)


def test_another_data_set_is_named(toy):
    metadata = {"test_images": "of mnist", "dataset": "mnist"}
    made = replace(real_rows(toy), metadata=metadata)
    assert check_test_split(made, toy) == (
        "the set was made from 'mnist' and is tested on 'toy', from which the random images are "
        "drawn too."
    )

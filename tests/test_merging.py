"""Sets of different classes are joined without a change to their images."""

import json
import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import dcond
from dcond.data.class_subset import subset
from dcond.data.digits import Digits
from dcond.data.prepared import Prepared
from dcond.errors import UnsupportedError
from dcond.merging import parts_of
from dcond.types import SyntheticSet
from dcond.whitening import fit_whitening


def part(names, ipc=2, **changed):
    """A set of random images; soft labels if ``soft``."""
    rng = torch.Generator().manual_seed(len(names))
    k, size = len(names), changed.pop("size", 8)
    labels = torch.arange(k).repeat_interleave(ipc)
    if changed.pop("soft", False):
        labels = torch.eye(k)[labels]
    fields = {
        "images": torch.rand(k * ipc, 1, size, size, generator=rng),
        "labels": labels,
        "class_names": tuple(names),
        "ipc": ipc,
        "mean": (0.25,),
        "std": (0.5,),
        "metadata": {"method": "dm", "dataset": "digits", "seed": "3"},
    }
    return SyntheticSet(**fields | changed)


def test_classes_follow_each_other_with_their_images():
    first, second = part(["a", "b"]), part(["d", "c", "e"])
    merged = dcond.merge(each for each in (first, second))
    assert merged.class_names == ("a", "b", "d", "c", "e")
    assert torch.equal(merged.by_class[:2], first.by_class)
    assert torch.equal(merged.by_class[2:], second.by_class)
    assert merged.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert (merged.mean, merged.std) == (first.mean, first.std)  # to the bit
    assert (merged.metadata["method"], merged.metadata["dataset"]) == ("dm", "digits")
    assert json.loads(merged.metadata["dataset_classes"]) == ["a", "b", "d", "c", "e"]
    assert "seed" not in merged.metadata


def test_every_part_has_the_names_of_its_classes():
    """Also of sets in memory: by them the test images are compared."""
    one, two, three = (
        part(names, metadata={"test_images": names[0]}) for names in (["a", "b"], ["d", "c"], ["e"])
    )
    merged = dcond.merge([one, two])
    assert [each.class_names for each in parts_of(merged)] == [("a", "b"), ("d", "c")]
    again = dcond.merge([merged, three])
    assert [each.class_names for each in parts_of(again)] == [("a", "b"), ("d", "c"), ("e",)]


def test_soft_labels_are_0_for_the_other_classes():
    merged = dcond.merge([part("ab", soft=True), part("cde", soft=True)])
    assert merged.labels.shape == (10, 5)
    assert torch.equal(merged.labels.argmax(1), torch.arange(5).repeat_interleave(2))
    assert torch.equal(merged.labels.sum(1), torch.ones(10))


def test_logits_are_merged_as_probabilities():
    logits, soft = part("ab", soft=True, logits=True), part("cd", soft=True)
    merged = dcond.merge([logits, soft])
    assert not merged.logits
    rows = len(logits.labels)
    torch.testing.assert_close(merged.labels[:rows, :2], logits.labels.softmax(1))
    torch.testing.assert_close(merged.labels.sum(1), torch.ones(len(merged.labels)))


def test_statistics_are_those_of_all_real_images_together():
    """Of classes of one size, as the formula assumes."""
    data = Digits().arrays()
    of_class = [data.train_images[data.train_labels == label][:100] for label in range(5)]
    tasks = [
        torch.tensor(np.concatenate(of_class[place])) / 255.0 for place in (slice(2), slice(2, 5))
    ]
    sets = [
        part(names, mean=(float(x.mean()),), std=(float(x.std(correction=0)),))
        for names, x in zip(("ab", "cde"), tasks, strict=True)
    ]
    merged = dcond.merge(sets)
    both = torch.cat(tasks)
    assert merged.mean[0] == pytest.approx(float(both.mean()), rel=1e-5)
    assert merged.std[0] == pytest.approx(float(both.std(correction=0)), rel=1e-5)


def test_merging_in_steps_is_merging_at_once():
    parts = [
        part(["a", "b"]),
        part(["c", "d", "e"], mean=(0.5,)),
        part(["f", "g"], mean=(0.1,), std=(0.3,)),
    ]
    at_once = dcond.merge(parts)
    in_steps = dcond.merge([dcond.merge(parts[:2]), parts[2]])
    assert_close(torch.tensor(in_steps.std), torch.tensor(at_once.std))
    assert torch.equal(in_steps.images, at_once.images)
    assert torch.equal(in_steps.labels, at_once.labels)
    assert in_steps.metadata == at_once.metadata
    assert [each["seed"] for each in json.loads(at_once.metadata["merged_from"])] == ["3"] * 3


def test_sets_of_two_data_sets_and_methods_name_both():
    other = part("cd", metadata={"method": "m3d", "dataset": "mnist"})
    metadata = dcond.merge([part("ab"), other]).metadata
    assert (metadata["method"], metadata["dataset"]) == ("dm+m3d", "digits+mnist")
    assert "dataset_classes" not in metadata


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], "1 set(s) cannot be merged; give two or more."),
        ([part("xy", ipc=1)], "sets 1 and 2 cannot be merged: their ipc differ (2, 1); condense"),
        (
            [part("xy"), part("uv", size=9)],
            "sets 1 and 3 cannot be merged: their size differ (1x8x8, 1x9x9)",
        ),
        ([part("xy", factor=2)], "their factor differ (1, 2)"),
        ([part("xy", align_corners=True)], "their align_corners differ (False, True)"),
        ([part("xy", soft=True)], "their kind of labels differ (hard, soft)"),
        ([part("xya")], "class 'a' is in set 1 and in set 2; merged sets have different classes"),
        ([part(["cafe\u0301"]), part(["caf\u00e9"])], "class 'caf\u00e9' is in set 2 and in set 3"),
        (
            [part("xy", whitening=fit_whitening((part("xy").images * 255).byte()))],
            "whitened sets cannot be merged: each has a whitening of its own",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(others, message):
    with pytest.raises(UnsupportedError, match=re.escape(message)) as error:
        dcond.merge([part("ab"), *others])
    assert "\n" not in str(error.value)


def test_all_classes_in_their_order_are_the_data_set():
    data = Digits().arrays()
    assert isinstance(data, Prepared)
    assert subset("digits", data, list(range(10))) == ("digits", data)
    assert subset("digits", data, [1, 0])[0] == "digits-1-0"


def test_a_learned_rate_is_kept_where_all_sets_have_it(caplog):
    alike = dcond.merge([part("ab", learned_lr=0.5), part("cd", learned_lr=torch.tensor(0.5))])
    assert alike.learned_lr == 0.5
    assert not caplog.records
    assert dcond.merge([part("ab", learned_lr=0.5), part("cd")]).learned_lr is None
    assert caplog.messages == [
        "the sets differ in their learned rate (0.5, None); the merged set has none"
    ]


def test_data_sets_of_two_names_do_not_pass_for_one():
    own = part("ab", metadata={"method": "dm", "dataset": "foo", "dataset_choice": "npz"})
    merged = dcond.merge([own, part("cd")])
    assert merged.metadata["dataset"] == "foo+digits"
    assert merged.metadata["dataset_choice"] == "npz+digits"
    assert merged.metadata["method"] == "dm"


@pytest.mark.parametrize(
    "text", ["", "x", "5", "null", "[]", '["a"]', '{"a": "b"}', '[{"seed": 3}]', "[" * 10_000]
)
def test_metadata_that_lists_no_sets_is_taken_as_text(text):
    metadata = {"method": "dm", "dataset": "digits", "merged_from": text}
    merged = dcond.merge([part("ab", metadata=metadata), part("cd")])
    assert json.loads(merged.metadata["merged_from"]) == [metadata, part("cd").metadata]
    assert merged.metadata["method"] == "dm"

"""Warnings about sets that were probably read wrongly or made from the test images."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from dcond.data.class_subset import subset_name
from dcond.data.fingerprint import fingerprint_of_split
from dcond.device import scaled_batch_size
from dcond.evaluation.results import EvalResult
from dcond.merging import parts_of
from dcond.training.accuracy import at_chance
from dcond.types import RealData, Split, SyntheticSet

MAX_STD_RATIO = 2.5  # a wrong normalisation changes the std by 1 / std: 3 to 5 for natural images
MAX_MEAN_SHIFT = 2.0  # in standard deviations of real images
SAMPLE = 1000  # real images to compare with, fewer of larger ones

HINTS = {
    "pixels": "pass synthetic.normalised=true if they are stored as (x - mean) / std, or "
    "synthetic.zca=true if they are whitened",
    "normalised": "pass synthetic.normalised=false if they are pixels in [0, 1], or "
    "synthetic.zca=true if they are whitened",
    "zca": "omit synthetic.zca=true and pass synthetic.normalised=true or false if they are not "
    "whitened",
}


def check_input_statistics(synthetic: SyntheticSet, real: RealData) -> str | None:
    """Return a warning if the normalised images differ strongly from real ones in mean or std.

    The limits are a ratio of standard deviations of 2.5 and means 2 standard deviations apart.
    """
    spec = synthetic.spec
    step = math.ceil(len(real.train) / scaled_batch_size(SAMPLE, *spec.size))
    with torch.no_grad():
        ours = spec.normalise(synthetic.images.to(real.device))
        theirs = spec.normalise(real.pixels(torch.arange(0, len(real.train), step)))
    ratio = float(ours.std() / theirs.std())
    shift = float((ours.mean() - theirs.mean()).abs() / theirs.std())
    if 1 / MAX_STD_RATIO <= ratio <= MAX_STD_RATIO and shift <= MAX_MEAN_SHIFT:
        return None
    return (
        f"the normalised images have mean {float(ours.mean()):.2f} and std {float(ours.std()):.2f},"
        f" real ones {float(theirs.mean()):.2f} and {float(theirs.std()):.2f}; they may be stored "
        f"in another form: {_hint(synthetic)}."
    )


def check_test_split(synthetic: SyntheticSet, real: RealData) -> str | None:
    """Return a warning if the set was made with another test split than that of ``real``.

    This happens if a folder without a test split has got more files since, or is split with
    another seed. Of a merged set every part is compared, in the classes that it was made of.
    """
    order = {name: label for label, name in enumerate(real.class_names)}
    for part in parts_of(synthetic):
        made_with = part.metadata.get("test_images")
        labels = [order[name] for name in part.class_names if name in order]
        if made_with is None or len(labels) < len(part.class_names):
            continue
        test = _some_classes(real.test, labels)
        if len(test) and made_with != fingerprint_of_split(test):
            break
    else:
        return None
    made_from = part.metadata.get("dataset", real.name)
    if real.name not in (made_from, subset_name(made_from, real.class_names)):
        return (
            f"the set was made from {made_from!r} and is tested on {real.name!r}, from which the "
            "random images are drawn too."
        )
    return (
        "the test images differ from those of the run that made this set, so it may have been "
        "condensed from some of them; use the same data set (dataset.split_seed and the like), or "
        "condense again."
    )


def _some_classes(test: Split, labels: Sequence[int]) -> Split:
    """Return the images of some classes, which are numbered in this order."""
    if len(labels) > int(test.labels.max()) and [*labels] == [*range(len(labels))]:
        return test  # all as they are: a copy might not fit in memory
    number = test.labels.new_full((max(int(test.labels.max()), *labels) + 1,), -1)
    number[list(labels)] = torch.arange(len(labels), device=number.device)
    part = test.part((number[test.labels] >= 0).nonzero().flatten().cpu())
    return replace(part, labels=number[part.labels])


def near_chance(ours: EvalResult, random: EvalResult | None, synthetic: SyntheticSet) -> str | None:
    """Return a warning if a set's accuracy is near chance and below that of random images."""
    classes = len(synthetic.class_names)
    worse = random is None or ours.average < random.average
    if not (at_chance(ours.average, classes) and worse):
        return None
    imported = "read_as" in synthetic.metadata
    packed = ", or synthetic.factor=2 if each image holds four small ones"
    return (
        f"average test accuracy {100 * ours.average:.1f} % is near chance ({100 / classes:.1f} %); "
        f"the images may have another normalisation: {_hint(synthetic)}"
        f"{packed if imported and synthetic.factor == 1 else ''}."
    )


def _hint(synthetic: SyntheticSet) -> str:
    default = "check that it was made from this data set (dataset=NAME), class by class"
    return HINTS.get(synthetic.metadata.get("read_as", ""), default)

"""Signs that a set was read wrongly, or is tested on what it was made from: spread, accuracy near chance, the split."""

import math

import torch

from dcond.evaluation.results import EvalResult
from dcond.evaluation.whole import fingerprint_of_test
from dcond.types import RealData, SyntheticSet

SPREAD = 2.5  # a wrong normalisation changes the spread by 1 / std, 3 to 5 for natural images
SHIFT = 2.0  # in standard deviations of real images
NEAR = 0.05  # of the way from chance to 1
SAMPLE = 1000  # real images to compare with, at most, spread over the training split

CURES = {
    "pixels": "pass synthetic.normalised=true if they are stored as (x - mean) / std, synthetic.zca=true if whitened",
    "normalised": "pass synthetic.normalised=false if they are pixels in [0, 1], synthetic.zca=true if whitened",
    "zca": "leave out synthetic.zca=true and pass synthetic.normalised=true or false if they are not whitened",
}


def check_input_statistics(synthetic: SyntheticSet, real: RealData) -> str | None:
    """Return a warning if the images, as networks see them, differ in mean or spread from real ones by far.

    Both normalised alike; ratio of standard deviations beyond 2.5, or means apart by 2 standard
    deviations.
    """
    step = math.ceil(len(real.train) / SAMPLE)
    spec = synthetic.spec
    with torch.no_grad():
        ours = spec.normalise(synthetic.images.to(real.device))
        theirs = spec.normalise(real.pixels(torch.arange(0, len(real.train), step)))
    ratio = float(ours.std() / theirs.std())
    shift = float((ours.mean() - theirs.mean()).abs() / theirs.std())
    if 1 / SPREAD <= ratio <= SPREAD and shift <= SHIFT:
        return None
    return (
        f"to networks these images have mean {float(ours.mean()):.2f} and spread {float(ours.std()):.2f}, real ones "
        f"{float(theirs.mean()):.2f} and {float(theirs.std()):.2f}; perhaps they are not stored as read: "
        f"{_cure(synthetic)}."
    )


def check_test_split(synthetic: SyntheticSet, real: RealData) -> str | None:
    """Return a warning if the set says that other test images were held back when it was made.

    As where a folder without a test split of its own has got more files since, or is split by
    another seed.
    """
    if synthetic.metadata.get("test_images") in (None, fingerprint_of_test(real)):
        return None
    return (
        "the test images are not those that were held back when this set was made, so it may have been condensed from "
        "some of them; give the data set as it was then (dataset.split_seed and the like), or condense anew."
    )


def at_chance(accuracy: float, classes: int) -> bool:
    """Tell whether an accuracy is at most a twentieth of the way from chance to 1."""
    chance = 1 / classes
    return accuracy <= chance + NEAR * (1 - chance)


def near_chance(ours: EvalResult, random: EvalResult | None, synthetic: SyntheticSet) -> str | None:
    """Return a warning if a set teaches networks next to nothing, and less than random images do."""
    classes = len(synthetic.class_names)
    if not at_chance(ours.average, classes) or (
        random is not None and ours.average >= random.average
    ):
        return None
    imported = "read_as" in synthetic.metadata
    packed = (
        ", or synthetic.factor=2 if each holds four small ones"
        if imported and synthetic.factor == 1
        else ""
    )
    return (
        f"average test accuracy {100 * ours.average:.1f} % is near chance ({100 / classes:.1f} %), as with images of "
        f"another normalisation: {_cure(synthetic)}{packed}."
    )


def _cure(synthetic: SyntheticSet) -> str:
    read_as = synthetic.metadata.get("read_as", "")
    return CURES.get(
        read_as, "check that it was made from this data set (dataset=NAME), class by class"
    )

"""Join sets of different classes into one."""

import itertools
import json
import logging
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from dcond.errors import UnsupportedError
from dcond.types import SyntheticSet

log = logging.getLogger(__name__)

SHARED = ("method", "dataset", "dataset_choice")  # metadata of which all values are named
ALIKE = ("size", "ipc", "factor", "align_corners", "kind of labels")
_PARTS, _NAMES = TypeAdapter(list[dict[str, str]]), TypeAdapter(tuple[str, ...])


def merge(sets: Iterable[SyntheticSet]) -> SyntheticSet:
    """Return one set with the classes of all sets, in the order of the sets.

    Images stay as they are. Of sets with different means and stds, the merged set has those of all
    their real images together, every class counted alike: with k_s classes, mean m_s and std s_s
    of set s, the mean is m = Σ k_s m_s / Σ k_s and the variance Σ k_s (s_s² + (m_s - m)²) / Σ k_s.
    A soft label is 0 for the classes of the other sets. A learned rate is kept if all sets have it.

    Args:
        sets: two or more, without a class in common, on one device; alike in image size, ipc,
            factor and in whether labels are soft.

    Returns:
        A set whose metadata names the methods and data sets of all, joined by "+", and has the
        metadata of every set as a list in ``merged_from``.

    Raises:
        UnsupportedError: fewer than two sets, or they differ in what must be alike, share a class,
            or are whitened.

    Example:
        >>> merged = dcond.merge([dcond.load("task1"), dcond.load("task2")])
    """
    sets = (sets,) if isinstance(sets, SyntheticSet) else tuple(sets)
    if not all(isinstance(each, SyntheticSet) for each in sets):
        raise UnsupportedError(
            "merge takes a list of SyntheticSets; read those of files with dcond.load."
        )
    if len(sets) < 2:
        raise UnsupportedError(f"{len(sets)} set(s) cannot be merged; give two or more.")
    first = sets[0]
    for number, other in enumerate(sets[1:], start=2):
        for key, ours, theirs in zip(ALIKE, _alike(first), _alike(other), strict=True):
            if ours != theirs:
                raise UnsupportedError(
                    f"sets 1 and {number} cannot be merged: their {key} differ ({ours}, {theirs}); "
                    "condense them with the same."
                )
    if any(each.whitening is not None for each in sets):
        raise UnsupportedError(
            "whitened sets cannot be merged: each has a whitening of its own; condense without it."
        )
    _refuse_shared_classes(sets)
    mean, std = _pooled(sets)
    return SyntheticSet(
        images=torch.cat([each.images for each in sets]),
        labels=_labels(sets),
        class_names=tuple(name for each in sets for name in each.class_names),
        ipc=first.ipc,
        mean=mean,
        std=std,
        factor=first.factor,
        align_corners=first.align_corners,
        learned_lr=_learned_lr(sets),
        metadata=_metadata(sets),
    )


def _alike(synthetic: SyntheticSet) -> tuple[object, ...]:
    """Return what must be alike, in the order of ``ALIKE``."""
    size = "x".join(map(str, synthetic.images.shape[1:]))
    kind = "soft" if synthetic.labels.ndim == 2 else "hard"
    return size, synthetic.ipc, synthetic.factor, synthetic.align_corners, kind


def _refuse_shared_classes(sets: Sequence[SyntheticSet]) -> None:
    seen: dict[str, int] = {}
    for number, each in enumerate(sets, start=1):
        for name in each.class_names:
            key = unicodedata.normalize("NFC", name)
            if key in seen:
                raise UnsupportedError(
                    f"class {name!r} is in set {seen[key]} and in set {number}; merged sets have "
                    "different classes (dataset.classes=[...] chooses them)."
                )
            seen[key] = number


def _labels(sets: Sequence[SyntheticSet]) -> Tensor:
    if sets[0].labels.ndim == 2:
        # As probabilities: a class of another set has 0, which a logit cannot say.
        soft: Tensor = torch.block_diag(*(each.targets for each in sets))
        return soft
    before = itertools.accumulate((len(each.class_names) for each in sets), initial=0)
    return torch.cat([each.labels + at for each, at in zip(sets, before, strict=False)])


def _pooled(sets: Sequence[SyntheticSet]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if len({(each.mean, each.std) for each in sets}) == 1:
        return sets[0].mean, sets[0].std
    mean, std = (
        torch.tensor([getattr(each, name) for each in sets], dtype=torch.float64)
        for name in ("mean", "std")
    )
    weights = torch.tensor([[len(each.class_names)] for each in sets], dtype=torch.float64)
    weights /= weights.sum()
    together = (weights * mean).sum(0)
    variance = (weights * (std**2 + (mean - together) ** 2)).sum(0)
    return tuple(together.tolist()), tuple(variance.sqrt().tolist())


def _learned_lr(sets: Sequence[SyntheticSet]) -> float | None:
    rates = [None if each.learned_lr is None else float(each.learned_lr) for each in sets]
    if len(set(rates)) == 1:
        return rates[0]
    log.warning(
        "the sets differ in their learned rate (%s); the merged set has none",
        ", ".join(map(str, rates)),
    )
    return None


class Part(NamedTuple):
    """A set that was merged into another one: its metadata and its classes in their order."""

    metadata: dict[str, str]
    class_names: tuple[str, ...]


def parts_of(synthetic: SyntheticSet) -> list[Part]:
    """Return the sets that a set was merged from, or the set itself."""
    try:
        before = _PARTS.validate_json(synthetic.metadata["merged_from"], strict=True)
    except (KeyError, ValidationError):  # not merged, or the text was edited
        before = []
    parts = []
    for metadata in before or [synthetic.metadata]:
        try:
            names = _NAMES.validate_json(metadata["class_names"])
        except (KeyError, ValidationError):  # of a set in memory, or edited
            names = synthetic.class_names
        parts.append(Part(metadata, names))
    return parts


def _metadata(sets: Sequence[SyntheticSet]) -> dict[str, str]:
    parts = []
    for part in (part for each in sets for part in parts_of(each)):
        # A set in memory has no names in its metadata; by them the test images are compared.
        own = {"class_names": json.dumps(part.class_names)}
        parts.append((own if "test_images" in part.metadata else {}) | part.metadata)
    metadata = {"merged_from": json.dumps(parts)}
    # A set without a choice was made from the data set of that name.
    named = [{"dataset_choice": part.get("dataset", "")} | part for part in parts]
    for key in SHARED:
        if joined := "+".join(dict.fromkeys(part[key] for part in named if part.get(key))):
            metadata[key] = joined
    if foreign := [each.metadata["read_as"] for each in sets if "read_as" in each.metadata]:
        metadata["read_as"] = foreign[0]  # its rows need not be class-major
    if len({each.metadata.get("dataset") for each in sets}) == 1:
        names = [name for each in sets for name in each.class_names]
        metadata["dataset_classes"] = json.dumps(names)
    return metadata

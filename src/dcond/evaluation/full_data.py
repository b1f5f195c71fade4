"""The whole real set under the protocol, kept from run to run; and the part of it that learning rates are chosen on."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dcond
from dcond.data.split import stratified_split
from dcond.distributed import current
from dcond.errors import DataError
from dcond.evaluation.protocol import EvaluationProtocol, HeldOut
from dcond.evaluation.results import EvalResult, NetworkResult
from dcond.evaluation.whole import fingerprint, whole_set
from dcond.models import Pool
from dcond.paths import write_atomically
from dcond.types import RealData, Split

log = logging.getLogger(__name__)

SHARE, MOST = 0.1, 5000  # of the training images, held out for learning rates
SPLIT_SEED = 0  # of its own: every run chooses on the same images


def hold_out(
    protocol: EvaluationProtocol, real: RealData, *, whole: bool = False
) -> HeldOut | None:
    """Return what a protocol that searches its learning rates does so on; None for any other.

    Args:
        protocol: how networks are trained.
        real: whose training images are held out.
        whole: the set to be trained on is the real one: it goes without the held-out images
            meanwhile.
    """
    if protocol.lr != "search":
        return None
    split, kept = held_out_rows(real)
    return HeldOut(split, (lambda repeat: whole_set(real, kept)) if whole else None)


def held_out_rows(real: RealData) -> tuple[Split, Tensor]:
    """Return a tenth of the training images, at most 5,000, each class with its share, and the rows of the others.

    Raises:
        DataError: there are too few for a single one.
    """
    labels = real.train.labels.cpu().numpy()
    count = min(round(SHARE * len(labels)), MOST)
    kept, held = (torch.from_numpy(rows) for rows in stratified_split(labels, count, SPLIT_SEED))
    if len(held) == 0:
        raise DataError(
            f"no training image of {real.name} can be held out: of its {len(labels)} a tenth is none, or every class "
            "would lose its last. Add images, or leave out evaluation.lr=search and test_on=held_out."
        )
    return real.train.part(held), kept


def tuning_data(real: RealData) -> RealData:
    """Return data to choose settings with: the held-out training images stand for the test set, which is left out."""
    held_out, kept = held_out_rows(real)
    return dataclasses.replace(real, train=real.train.part(kept), test=held_out)


def evaluate_whole(
    protocol: EvaluationProtocol,
    pool: Pool,
    real: RealData,
    seed: int,
    folder: Path,
    *,
    progress: Callable[[str], None] = lambda note: None,
) -> EvalResult:
    """Train the pool on the whole training set and test it; every network's figures are kept in ``folder``.

    On its hard labels, as the scores want it, whatever teacher the protocol has. A kept figure is
    taken for the same protocol, network, data set, seed and version of dcond only.
    """
    results: dict[str, NetworkResult] = {}
    data, protocol = fingerprint(real), protocol.without_teacher()
    for name, recipe in pool.networks.items():
        network = recipe.by_content()
        key = f"{dcond.__version__}/{protocol.settings('stack', 'teacher')}/{name}/{network!r}/{data}/{seed}"
        file = (
            folder / f"full_{real.name}_{name}_{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        )
        kept = _parsed(current().from_first(_read(file)))  # one decision for all processes
        if kept is not None:
            log.info("whole %s, %s: kept figure of %s", real.name, name, file)
            for repeat in range(protocol.repeats):
                progress(f"{name} {repeat + 1}/{protocol.repeats}")
            results[name] = kept
            continue
        results[name] = _train(
            protocol, Pool(networks={name: recipe}), real, seed, progress
        ).networks[name]
        if current().first:
            _write(results[name], file)
    return EvalResult(protocol.name, results)


def _train(
    protocol: EvaluationProtocol,
    pool: Pool,
    real: RealData,
    seed: int,
    progress: Callable[[str], None],
) -> EvalResult:
    whole, held_out = whole_set(real), hold_out(protocol, real, whole=True)
    return protocol.evaluate(
        lambda repeat: whole, pool, real.test, seed, progress=progress, held_out=held_out
    )


def _read(file: Path) -> str:
    """Return what a file holds; nothing where there is none."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _parsed(text: str) -> NetworkResult | None:
    """Return a kept figure; one that is missing or damaged is made again."""
    try:
        entry: dict[str, Any] = json.loads(text)
        best, searched = entry["best"], entry["searched"]
        return NetworkResult(
            tuple(map(float, entry["accuracies"])),
            float(entry["lr"]),
            int(entry["epochs"]),
            float(entry["wall_s"]),
            None if best is None else tuple(map(float, best)),
            None
            if searched is None
            else {float(lr): float(value) for lr, value in searched.items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(result: NetworkResult, file: Path) -> None:
    text = json.dumps(dataclasses.asdict(result), indent=2) + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, lambda path: _fill(path, text))
    except OSError as error:  # the figure itself is known: the next run makes it again
        log.warning(
            "the whole set's figure could not be kept in %s: %s", file, error.strerror or error
        )


def _fill(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

"""One run as the report needs it, read from its ``result.json``."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from dcond.evaluation.results import HARD, EvalResult
from dcond.report.settings_diff import network_names
from dcond.run.result import (
    EVALUATION_GROUPS,
    HELD_OUT,
    NO_EFFECT_IN_PROTOCOL,
    TEST,
    Origin,
    RunResult,
    flat_settings,
    set_settings,
    sha256,
)

# Fields of a record, the classes that are in its name, and what changes no accuracy.
NOT_COMPARED = {"seed", "ipc", "test_on", "dataset.classes"} | {
    f"evaluation.{name}" for name in NO_EFFECT_IN_PROTOCOL
}
COST_OF_EVALUATION = "evaluate_wall_s"  # all other costs are those of condensing


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run; accuracies are fractions, costs in seconds, bytes and steps.

    All texts are printable and on one line.

    Args:
        folder: the run folder.
        status: "done", "failed" or "interrupted".
        error: why the run is not done.
        method: name of the method.
        dataset: name of the data set.
        ipc: images stored per class.
        factor: multi-formation factor.
        seed: seed of the set if recorded, else that of the run.
        evaluation_seed: seed of the evaluation's networks and random images.
        set_id: equal for runs that evaluated the same set; a set of unknown origin and seed counts
            anew in every evaluation.
        external_path: path of an evaluated set whose file does not record how it was made.
        content: hash of an evaluated set's file.
        sha256: hash of the configuration.
        normalisation: normalisation of the set, if not that of the data set.
        settings: by dotted name, spelled as on the command line.
        protocol: name of the evaluation protocol.
        tested_on: "test" or "held_out" images.
        networks: mean accuracy by network.
        baselines: the same of each baseline.
        random_labels: how random images are labelled, where the set has soft labels.
        cost: see :class:`~dcond.run.result.Cost`; without the values that are null.
        scores: scores of the pool.
        device: name of the device.
        versions: of packages.
    """

    folder: Path
    status: str
    error: str
    method: str
    dataset: str
    ipc: int | None
    factor: int | None
    seed: int | None
    evaluation_seed: int | None
    set_id: str
    external_path: str
    content: str
    sha256: str
    normalisation: str
    settings: dict[str, str]
    protocol: str
    tested_on: str
    device: str
    networks: dict[str, float] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    random_labels: str = ""
    cost: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def evaluated(self) -> bool:
        """Whether the run is done and has accuracies."""
        return self.status == "done" and bool(self.networks)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a run folder's ``result.json``.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not JSON or not a result of dcond; the message is one line.
        """
        result = RunResult.read(folder)
        source, evaluation = result.source or Origin(), result.evaluation
        made_by = _line(source.config_sha256)
        made = source.config is None or bool(source.config.keys() - {"label_teacher"})
        recorded = source.seed is not None and made  # made by dcond.run: no settings
        external = result.source is not None and not made_by and not recorded
        content = "" if external else _line(source.content)
        settings = _settings(result.config, result.choices)
        for name, value in _settings(source.config, source.choices).items():
            if not name.startswith("dataset."):
                settings.setdefault(name, value)
            elif settings.get(name) != value:
                settings[f"source.{name}"] = value  # condensed from data that were read otherwise
        if (source.config or {}).get("test_on") == HELD_OUT:
            settings["source.test_on"] = HELD_OUT  # condensed without the held-out images
        if result.config is None:  # unknown settings: comparable with no other run
            settings = {"folder": _line(folder.name)}
        tested_on, random = evaluation and evaluation.tested_on, result.baselines.random
        cost, scores = asdict(result.cost), dict(result.scores or {})
        if result.source is not None:  # the set was condensed by another run
            cost = {COST_OF_EVALUATION: cost[COST_OF_EVALUATION]}
        scores.pop("networks", None)
        return cls(
            folder=folder,
            status=result.status,
            error=_line(result.error),
            method=_line(result.method),
            dataset=_line(result.dataset),
            ipc=result.ipc,
            factor=result.factor,
            seed=result.seed if external or source.seed is None else source.seed,
            evaluation_seed=result.seed,
            set_id=_set_id(result, external=external)
            or made_by
            or content
            or _line(result.config_sha256)
            or str(folder),
            external_path=_line(source.path) if external else "",
            content=_line(source.content),
            sha256=_line(result.config_sha256),
            normalisation=_line(result.normalisation),
            settings=settings,
            protocol=_line(evaluation and evaluation.protocol),
            tested_on=_line(tested_on or (result.config or {}).get("test_on") or TEST),
            device=_line(result.device),
            networks=_accuracies(evaluation),
            baselines={
                name: _accuracies(found) for name, found in vars(result.baselines).items() if found
            },
            random_labels=_line(random and random.labels).removeprefix(HARD),
            cost=_numbers("cost", cost),
            scores=_numbers("scores", scores),
            versions={name: _line(value) for name, value in (result.versions or {}).items()},
        )


def _set_id(result: RunResult, *, external: bool) -> str:
    """Return what identifies a set in a block: the settings that made it, and its seed.

    Not those of its evaluation, with which runs of the same set differ. Empty where they are not
    recorded.
    """
    made_by = result.source or result
    if external or made_by.config is None:
        return ""
    choices = {
        name: value
        for name, value in (made_by.choices or {}).items()
        if name not in EVALUATION_GROUPS
    }
    own = flat_settings(set_settings(made_by.config)) | choices
    own.pop("seed", None)
    facts = [own, made_by.seed, result.dataset, result.ipc, result.normalisation]
    return sha256(json.dumps(facts, sort_keys=True))


def _settings(config: dict[str, Any] | None, choices: dict[str, Any] | None) -> dict[str, str]:
    """Return settings by dotted name, without those that are not compared.

    An option of a comparison group that is null, such as ``teacher``, counts as absent.
    """
    present = {
        name: part
        for name, part in (config or {}).items()
        if part is not None or name not in EVALUATION_GROUPS
    }
    settings = {
        _line(name): json.dumps(value) if value is None or isinstance(value, bool) else _line(value)
        for name, value in (flat_settings(present) | (choices or {})).items()
        if name not in NOT_COMPARED
    }
    return settings | network_names(settings)


def _line(value: object) -> str:
    """Return a value as one line of printable text; the empty string for None."""
    text = "" if value is None else " ".join(str(value).split())
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _numbers(key: str, values: dict[str, Any]) -> dict[str, float]:
    """Return the values that are not null; all must be finite."""
    numbers = {name: value for name, value in values.items() if value is not None}
    for name, value in numbers.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{key}.{_line(name)}={_line(value)} is not a finite number")
    return numbers


def _accuracies(result: EvalResult | None) -> dict[str, float]:
    """Return the mean accuracy of each network.

    Raises:
        ValueError: one is not in [0, 1], such as a percentage.
    """
    accuracies = {}
    for name, network in (result.networks if result else {}).items():
        if not network.accuracies or not all(0 <= value <= 1 for value in network.accuracies):
            raise ValueError(f"the accuracies of {_line(name)} are not fractions from 0 to 1")
        accuracies[_line(name)] = network.mean
    return accuracies

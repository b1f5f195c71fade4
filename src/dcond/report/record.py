"""One run as its ``result.json`` tells it; what is not as it should be is said in words."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcond.report.settings_diff import PARTS_OF_A_BLOCK, networks
from dcond.run.result import HELD_OUT, NAME, TEST, flat_settings

STATUSES = ("done", "failed", "interrupted")
BASELINES = ("random", "random_decoded", "full")
OF_AN_EVALUATION = (
    "evaluate_wall_s"  # the one cost that is not of condensing, hence not of the set's maker
)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run, as its ``result.json`` tells it; accuracies are fractions, costs in seconds, bytes and steps."""

    folder: Path
    status: str
    error: str = ""
    method: str
    dataset: str
    ipc: int | None
    factor: int | None = None
    seed: int | None = None  # of the set, where it is known
    draws: int | None = None  # seed of the evaluation: of its networks and its random images
    sha256: str | None = None
    made_by: str | None = (
        None  # the hash of the run that made the set, where another has evaluated it
    )
    elsewhere: str = ""  # the path of an evaluated set that says nothing of its maker
    content: str = ""  # a hash of what an evaluated set holds
    normalisation: str = (
        ""  # how networks see the set and its random images, where not as the data set says
    )
    settings: dict[str, str] = field(
        default_factory=dict
    )  # dotted names; empty where the file does not say
    protocol: str = ""
    tested_on: str = TEST
    networks: dict[str, float] = field(default_factory=dict)  # mean accuracy by name
    recipes: dict[str, str] = field(default_factory=dict)  # learning rate and epochs by network
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str = ""

    @property
    def sample(self) -> str:
        """What tells its set from others: one set evaluated twice is no second sample."""
        return self.made_by or self.sha256 or str(self.folder)

    @property
    def evaluated(self) -> bool:
        """Whether there is an accuracy that counts."""
        return self.status == "done" and bool(self.networks)


def read(folder: Path) -> RunRecord:
    """Read a run folder's ``result.json``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or no result of dcond; said in words.
    """
    raw = json.loads((folder / NAME).read_text(encoding="utf-8"))
    if not isinstance(raw, dict) or raw.get("status") not in STATUSES or "method" not in raw:
        raise ValueError("not a result of dcond")
    evaluation = _mapping(raw.get("evaluation"), "evaluation")
    networks = _mapping(evaluation.get("networks"), "evaluation.networks")
    baselines = _mapping(raw.get("baselines"), "baselines")
    maker = _mapping(raw.get("source"), "source")
    cost = _numbers(raw.get("cost"), "cost")
    return RunRecord(
        folder=folder,
        status=raw["status"],
        error=_text(raw.get("error")),
        method=_text(raw["method"]),
        dataset=_text(raw.get("dataset")),
        ipc=_whole(raw.get("ipc"), "ipc"),
        factor=_whole(raw.get("factor"), "factor"),
        draws=_whole(raw.get("seed"), "seed"),
        sha256=_text(raw.get("config_sha256")) or None,
        normalisation=_text(raw["normalisation"] if "normalisation" in raw else _read_as(maker)),
        protocol=_text(evaluation.get("protocol")),
        tested_on=_text(evaluation.get("tested_on")) or _test_on(raw),
        networks=_accuracies(networks),
        recipes={
            name: f"lr {found.get('lr')}, {found.get('epochs')} epochs"
            for name, found in networks.items()
            if isinstance(found, dict)
        },
        baselines={
            name: _baseline(baselines[name], name) for name in BASELINES if baselines.get(name)
        },
        cost={name: cost[name] for name in cost if name == OF_AN_EVALUATION or not maker},
        scores=_scores(raw.get("scores")),
        device=_text(raw.get("device")),
        versions={
            name: _text(value) for name, value in _mapping(raw.get("versions"), "versions").items()
        },
        git_commit=_text(raw.get("git_commit")),
        **_set(raw, maker),
    )


def _set(raw: dict[str, Any], maker: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that tell a set from others; one that says nothing of its maker is told by where it lay."""
    content, made_by = (_text(maker.get(key)) for key in ("content", "config_sha256"))
    own, drawn = (_whole(part.get("seed"), "seed") for part in (maker, raw))
    settings = _makers_settings(maker) | _settings(raw)
    known = (
        bool(made_by) or own is not None or not settings
    )  # its folder tells a run without settings
    return {
        "seed": drawn if own is None else own,
        "made_by": (made_by or content if known else "") or None,
        "elsewhere": "" if known else _text(maker.get("path")),
        "content": content,
        "settings": settings,
    }


def _settings(raw: dict[str, Any]) -> dict[str, str]:
    """Return settings by their dotted names, choices by their group's, without what is told elsewhere.

    A part of a block that is left out is none.
    """
    config, choices = _mapping(raw.get("config"), "config"), _mapping(raw.get("choices"), "choices")
    there = {
        name: part
        for name, part in config.items()
        if part is not None or name not in PARTS_OF_A_BLOCK
    }
    given = flat_settings(there) | choices
    words = {
        _text(name): _word(value)
        for name, value in given.items()
        if name not in ("seed", "ipc", "test_on")
    }
    return words | networks(words)


def _makers_settings(maker: dict[str, Any]) -> dict[str, str]:
    """Return the settings that a set was made with; held-out images that it was made without are missing in it."""
    return _settings(maker) | ({"source.test_on": HELD_OUT} if _test_on(maker) == HELD_OUT else {})


def _read_as(maker: dict[str, Any]) -> str:
    """Return what an earlier result says of a set's normalisation."""
    found = _text(maker.get("read_as"))
    return "" if found == "pixels" else found


def _test_on(raw: dict[str, Any]) -> str:
    """Return what a run was told to test on; ``dcond evaluate`` knows the test set only."""
    return _text(_mapping(raw.get("config"), "config").get("test_on")) or TEST


def _word(value: object) -> str:
    """Write a setting as the command line takes it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else _text(value)


def _text(value: object) -> str:
    """Write any value as one line that a terminal and a file can take."""
    words = "" if value is None else " ".join(str(value).split())
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in words)


def _mapping(value: object, what: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"its {what} is no object")
    return {_text(key): part for key, part in (value or {}).items()}


def _whole(value: object, what: str) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"its {what} is no whole number")
    return value


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"its {what} is no number")
    return float(value)


def _numbers(value: object, what: str) -> dict[str, float]:
    """Return the numbers of an object, without those that are null."""
    given = {name: part for name, part in _mapping(value, what).items() if part is not None}
    return {name: _number(part, f"{what}.{name}") for name, part in given.items()}


def _scores(value: object) -> dict[str, float]:
    """Return the scores over the pool; those of each network stay in the file."""
    return _numbers(
        {name: part for name, part in _mapping(value, "scores").items() if name != "networks"},
        "scores",
    )


def _baseline(value: object, name: str) -> dict[str, float]:
    what = f"baselines.{name}"
    return _accuracies(_mapping(_mapping(value, what).get("networks"), f"{what}.networks"))


def _accuracies(networks: dict[str, Any]) -> dict[str, float]:
    """Return the mean accuracy of each network.

    Raises:
        ValueError: one is not in [0, 1], such as a per cent.
    """
    found = {}
    for name, network in networks.items():
        mean = _number(_mapping(network, name).get("mean"), f"accuracy of {name}")
        if not 0 <= mean <= 1:
            raise ValueError(f"its accuracy of {name} is {mean:g}, no fraction")
        found[name] = mean
    return found

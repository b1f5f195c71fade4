"""Options and fixtures of all tests: ``--runslow``, one CPU thread, a toy data set."""

import json
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from dcond.types import RealData, Split

ENVIRONMENT = ("DCOND_DATA", "DCOND_OUTPUTS", "HYDRA_FULL_ERROR", "COMP_LINE")
# PyTorch learns of a pretend device before the first backward pass of a process, or never.
ON_PRETEND_DEVICE = "test_pretend_device.py"
collect_ignore_glob = [] if "DCOND_PRETEND_DEVICE" in os.environ else [f"*/{ON_PRETEND_DEVICE}"]


def pytest_addoption(parser):
    parser.addoption(
        "--runslow", action="store_true", default=False, help="also run the tests marked slow"
    )
    parser.addoption(
        "--kills",
        type=int,
        default=3,
        help="random moments, sizes and the like per slow test of faults",
    )
    parser.addoption(
        "--faults-csv", help="write what tests/faults tried, and what failed, to this file"
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--runslow"):
        return
    skip = pytest.mark.skip(reason="slow: give --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors run faster on one thread, and sums do not depend on how many cores there are."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_environment():
    """Nothing that dcond reads comes from the environment of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ENVIRONMENT:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def terminal():
    """SIGHUP as in a terminal: heard under ``nohup pytest`` too, and again after a run that took
    it.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def _set(run: dict[str, Any], settings: dict[str, Any]) -> None:
    """Put settings where a run records them, by their dotted names: among its choices, or in its
    configuration.
    """
    for name, value in settings.items():
        *parents, last = name.split(".")
        node = run["choices"] if not parents and name in run["choices"] else run["config"]
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value


def _hand_over(run: dict[str, Any]) -> None:
    """Leave a set that is evaluated by itself the settings of the evaluation; the others are its
    source's.
    """
    kinds = {kind: run[kind] for kind in ("choices", "config")}
    ours = {"dataset", "pool", "evaluation"}
    run |= {kind: {name: kinds[kind][name] for name in ours & kinds[kind].keys()} for kind in kinds}
    if "config_sha256" in run["source"]:  # a set of dcond's own
        run["source"] = {
            kind: {name: kinds[kind][name] for name in kinds[kind].keys() - ours} for kind in kinds
        } | run["source"]


@pytest.fixture
def write_result(tmp_path) -> Callable[..., Path]:
    """Write one run's ``result.json`` into its own folder; settings are given by dotted names."""
    from dcond.run import result

    def write(
        folder: str,
        accuracies: dict[str, float] | None = None,
        *,
        baselines: dict[str, dict[str, float]] | None = None,
        cost: dict[str, float] | None = None,
        settings: dict[str, Any] | None = None,
        pool: Iterable[str] = ("A", "B"),
        recorded: bool = True,
        tested_on: str | None = None,
        random_labels: str | None = None,
        **known: Any,
    ) -> Path:
        def networks(means: dict[str, float]) -> dict[str, Any]:
            return {
                name: {"accuracies": [mean], "lr": 0.01, "epochs": 5, "wall_s": 1.0}
                for name, mean in means.items()
            }

        run = result.RunResult().as_dict()
        run |= {"status": "done", "method": "dm", "dataset": "digits", "ipc": 1, "seed": 0} | known
        run["cost"] |= cost or {}
        run.update({"config_sha256": known.get("config_sha256", result.sha256(folder))})
        if recorded:
            run["choices"] = {
                "method": run["method"],
                "dataset": run["dataset"],
                "init": "real",
                "pool": "tiny",
            }
            run["config"] = {
                "ipc": run["ipc"],
                "seed": run["seed"],
                "method": {"lr": 1.0, "steps": 10},
            }
            run["config"] |= {
                "pool": {"networks": {name: {"width": 8} for name in accuracies or pool}}
            }
            run["config"] |= {"evaluation": {"name": "quick"}}
            _set(run, settings or {})
        if accuracies is not None:
            run["evaluation"] = {"protocol": "quick", "networks": networks(accuracies)}
            run["evaluation"] |= {} if tested_on is None else {"tested_on": tested_on}
        if run["source"] is not None:
            _hand_over(run)
        for name, means in (baselines or {}).items():
            run["baselines"][name] = {"protocol": "quick", "networks": networks(means)}
            run["baselines"][name] |= {"labels": random_labels} if random_labels else {}
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "result.json").write_text(json.dumps(run))
        return tmp_path / folder

    return write


@pytest.fixture
def toy() -> RealData:
    """Three classes of 8 x 8 grey images: a bright quadrant each, under noise; unequal class sizes."""
    rng = torch.Generator().manual_seed(0)

    def split(sizes: tuple[int, ...]) -> Split:
        labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        images = 60 * torch.rand(len(labels), 1, 8, 8, generator=rng)
        for c, (row, col) in enumerate([(0, 0), (0, 4), (4, 2)]):
            images[labels == c, :, row : row + 4, col : col + 4] += 120
        order = torch.randperm(len(labels), generator=rng)
        return Split(images.to(torch.uint8)[order], labels[order])

    return RealData(
        "toy", split((40, 30, 50)), split((20, 20, 20)), ("left", "right", "low"), (0.25,), (0.22,)
    )

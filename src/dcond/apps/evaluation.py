"""Evaluation as both ``condense`` and ``evaluate`` do it: the set, the baselines, the table, the result's fields."""

import functools
import logging
import time
from typing import Any

from rich.console import Console

from dcond.engine.progress import Reporter, reporter
from dcond.errors import DataError
from dcond.evaluate import EvalResult, Protocol, random_subset
from dcond.evaluate.doubts import near_chance, odd_inputs
from dcond.evaluate.protocol import Sets, check_fits
from dcond.init.start import check_ipc
from dcond.models import Pool
from dcond.report.table import cross_architecture, percent
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)


def evaluate_with_baselines(
    protocol: Protocol,
    pool: Pool,
    real: RealData,
    synthetic: SyntheticSet,
    seed: int,
    result: dict[str, Any],
    *,
    title: str,
    baselines: bool,
    doubt: bool = False,
) -> float:
    """Train the pool on the set and on random real images in the same storage; print the table, fill ``result``.

    Args:
        protocol: how networks are trained.
        pool: which networks.
        real: the data the set is tested on.
        synthetic: the set.
        seed: of the run.
        result: the object of ``result.json``.
        title: of the table.
        baselines: whether random images are trained on too.
        doubt: whether to warn of signs that the set was read wrongly.

    Returns:
        The average test accuracy of the set.
    """
    check_fits(synthetic, real)
    if doubt and (warning := odd_inputs(synthetic, real)):
        log.warning("%s", warning)
    sets: dict[str, Sets] = {"condensed": lambda repeat: synthetic}
    if baselines and _enough(real, synthetic.ipc):
        for name, factor in {"random": 1, "random_decoded": synthetic.factor}.items():
            if name == "random" or factor > 1:
                draw = functools.partial(random_subset, real, synthetic, seed, factor=factor)
                sets[name] = functools.cache(draw)  # every network of a repeat trains on the same draw
    start = time.perf_counter()
    found: dict[str, EvalResult] = {}
    with reporter("evaluate", len(sets) * len(pool.networks) * protocol.repeats) as bar:
        count = _Counter(bar)
        for name, which in sets.items():
            count.what = name
            found[name] = protocol.evaluate(which, pool, real.test, seed, progress=count)
    result["cost"]["evaluate_wall_s"] = time.perf_counter() - start
    ours = found.pop("condensed")
    result["evaluation"] = ours.as_dict()
    for name, baseline in found.items():
        result["baselines"][name] = baseline.as_dict()
    Console().print(cross_architecture(title, ours, found))
    if doubt and (warning := near_chance(ours, found.get("random"), synthetic)):
        log.warning("%s", warning)
    each = ", ".join(f"{name} {percent(network)}" for name, network in ours.networks.items())
    print(f"average test accuracy {100 * ours.average:.1f} % ({each})")
    return ours.average


def _enough(real: RealData, ipc: int) -> bool:
    """Tell whether every class has ``ipc`` real images to draw; a set made from noise may hold more."""
    try:
        check_ipc(real, ipc)
    except DataError:
        log.warning("no random baselines: some class of %s has fewer than ipc=%d real images", real.name, ipc)
        return False
    return True


class _Counter:
    """Counts finished trainings for the progress display."""

    def __init__(self, bar: Reporter):
        self.bar, self.done, self.what = bar, 0, ""

    def __call__(self, note: str) -> None:
        self.done += 1
        self.bar.update(self.done, f"{self.what}: {note}")

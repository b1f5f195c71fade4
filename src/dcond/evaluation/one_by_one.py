"""Train and test the networks of a pool one by one, and keep each result in a file."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from dcond.cache import read_entry, write_entry
from dcond.distributed import current
from dcond.evaluation.results import EvalResult
from dcond.models import Pool, Recipe
from dcond.paths import relative_to_cwd

log = logging.getLogger(__name__)

Progress = Callable[[str], None]  # called with the network and repeat that just ended
Training = Callable[[Pool, Progress], EvalResult]

_ENTRY = TypeAdapter(EvalResult)  # of a pool with one network


def train_one_by_one(
    training: Training,
    pool: Pool,
    progress: Progress,
    file: Callable[[str, Recipe], Path],
    *,
    what: str,
    on_read: Callable[[EvalResult], None] = lambda found: None,
) -> EvalResult:
    """Train the networks of which no file has the result, and return the results of all.

    Args:
        training: trains and tests a pool.
        pool: the networks; none depends on another.
        progress: also called for the networks that are not trained.
        file: the file of a network, whose name stands for all that its result depends on
            (:func:`~dcond.cache.cache_file`).
        what: names the results in messages.
        on_read: called with each result that a file had.
    """
    parts = []
    for name, recipe in pool.networks.items():
        entry = file(name, recipe)
        own = read_entry(entry, lambda path: path.read_text(encoding="utf-8")) or ""
        found = read_entry(current().from_first(own), _ENTRY.validate_json)  # that of rank 0
        if found is None:
            found = training(Pool(networks={name: recipe}), progress)
            if current().first:
                write_entry(entry, json.dumps(found.as_dict(), indent=2) + "\n", what)
        else:
            log.info("%s, %s: cached result of %s", what, name, relative_to_cwd(entry))
            repeats = len(found.networks[name].accuracies)
            for repeat in range(repeats):
                progress(f"{name} {repeat + 1}/{repeats}")
            on_read(found)
        parts.append(found)
    networks = {name: each for part in parts for name, each in part.networks.items()}
    return replace(parts[0], networks=networks)

"""What gave a set its soft labels, found again from its metadata, to label random images alike."""

import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dcond.cli.instantiate import build, cache_folder
from dcond.cli.resume import foreign_targets
from dcond.cli.run_config import parse_provenance
from dcond.distributed import current
from dcond.errors import DataError, DcondError
from dcond.methods.datm import DATM
from dcond.run.evaluation import Label
from dcond.run.result import sha256
from dcond.training.teacher import Teacher
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)

TEACHER = "label_teacher"  # key of the teacher's settings among those that made a set
UNKNOWN = "its file does not say what labelled it"


def add_teacher(metadata: Mapping[str, str], settings: Any) -> dict[str, str]:
    """Return the metadata of a set with the settings of the teacher that labelled it.

    They are part of what made the set: reports tell sets by their teachers.
    """
    made_with = parse_provenance(metadata)
    parts = {kind: made_with[kind] or {} for kind in ("choices", "config")}
    parts["config"] |= {TEACHER: settings}
    added = {"made_with": json.dumps(parts)}
    if own := metadata.get("config_sha256"):
        added["config_sha256"] = sha256(own + json.dumps(settings, sort_keys=True))
    return {**metadata, **added}


def find_label(synthetic: SyntheticSet, real: RealData, cfg: DictConfig) -> Label | None:
    """Return what labels images as those of a set with soft labels were.

    The teacher of ``dcond relabel``, or the experts of DATM. They are read from the cache: an
    evaluation trains neither.

    Args:
        synthetic: the set, with the metadata of its artefact.
        real: the data that it is evaluated on.
        cfg: of the evaluation; gives the cache folder and what the set's settings refer to.

    Returns:
        None for hard labels; and, with a warning, where the networks are unknown or not cached.
    """
    if synthetic.labels.ndim == 1:
        return None
    around: dict[str, Any] = {
        name: OmegaConf.to_container(cfg[name], resolve=True) for name in ("dataset", "paths")
    }
    try:
        made_with = parse_provenance(synthetic.metadata)["config"] or {}
        if isinstance(data := made_with.get("dataset"), dict):  # which has no places
            around["dataset"] |= {key: data[key] for key in data if not key.startswith("_")}
        saved = OmegaConf.create(made_with | around)  # the root of its interpolations
        if foreign := foreign_targets(saved, cfg):
            raise DataError(
                f"its file names code that is not dcond's: {', '.join(sorted(foreign))}"
            )
        if TEACHER in saved:
            return _of_teacher(build(saved[TEACHER], TEACHER), real, cache_folder(cfg))
        if "method" in saved:
            return _of_method(build(saved.method, "method"), synthetic, real)
        reason = UNKNOWN
    except (DcondError, OmegaConfBaseException, ValueError) as error:
        reason = str(error).splitlines()[0]
    log.warning("random images get hard labels although the set has soft ones: %s", reason)
    return None


def _found(cached: bool) -> bool:
    """Return whether all ranks have found a file: another machine may have another cache."""
    return current().largest(float(not cached))[0] == 0


def _of_teacher(teacher: Any, real: RealData, cache: Path) -> Label:
    if not isinstance(teacher, Teacher):
        raise DataError(UNKNOWN)
    if not _found(teacher.is_cached(real, cache)):
        raise DataError(f"its teacher is not in {cache}")
    return teacher.load_or_train(real, cache).relabelled


def _of_method(method: Any, synthetic: SyntheticSet, real: RealData) -> Label:
    if not isinstance(method, DATM):
        raise DataError(UNKNOWN)
    as_seen = real.normalised_as(synthetic)
    if not _found(method.experts.is_cached(as_seen)):
        raise DataError(f"its experts are not in {method.experts.folder}")
    return partial(method.labelled, as_seen)

"""What a run keeps of its configuration: in its result, in its checkpoints and in TensorBoard."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from dcond.cli.trust import check_trusted_targets
from dcond.errors import CheckpointError
from dcond.run.result import flat

if TYPE_CHECKING:
    from dcond.run.checkpoint import Checkpoint
    from dcond.types import SyntheticSet

OF_THE_EVALUATION = ("dataset", "pool", "evaluation", "teacher")


def result_affecting_config(cfg: DictConfig) -> DictConfig:
    """Return what of the configuration can change a number: not where, how often logged, nor on what."""
    where_and_when = {
        "paths",
        "name",
        "resume",
        "device",
        "threads",
        "tensorboard",
        "checkpoint",
        "loop",
    }
    aside = where_and_when | {"evaluate", "baselines", "scores"}
    return parts_of(cfg, [str(key) for key in cfg if key not in aside])


def parts_of(cfg: DictConfig, names: Sequence[str]) -> DictConfig:
    """Return a copy of some parts of the configuration, without what cannot change a number in them."""
    parts = OmegaConf.masked_copy(cfg, [name for name in names if name in cfg])
    with open_dict(parts):
        if isinstance(parts.dataset, DictConfig):
            parts.dataset.pop("keep", None)  # where the images stay
    return parts


def extras(cfg: DictConfig) -> dict[str, Any]:
    """Return what is asked for beside the set's own accuracies: it changes none of them, hence no configuration."""
    return {
        name: OmegaConf.select(cfg, name) is True
        for name in ("baselines", "scores.full", "scores.unaugmented")
    }


def selected_options(numbers: DictConfig, choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the names chosen for the parts of a configuration, those that are left out left out."""
    names = {
        place.rpartition("@")[2]: name for place, name in choices.items()
    }  # pool@learners is that of learners
    names |= choices
    return {part: names[part] for part in map(str, numbers) if names.get(part)}


def dataset_name(cfg: DictConfig, choice: str) -> str:
    """Return how tables, folders and results call the data set: by its own name; by the choice where it has none."""
    name = OmegaConf.select(cfg, "dataset.name")
    return choice if name is None else str(name)


def dump_provenance(result: Mapping[str, Any]) -> str:
    """Write the settings that made a set, for its metadata: not on what it was evaluated, nor where the data lies."""
    kept = {
        kind: {key: value for key, value in result[kind].items() if key not in OF_THE_EVALUATION}
        for kind in ("choices", "config")
    }
    return json.dumps(kept)


def storage_stats(synthetic: "SyntheticSet") -> dict[str, int]:
    """Return the fields of ``result.json`` that tell how much a set holds."""
    stored = len(synthetic.images)
    return {
        "factor": synthetic.factor,
        "images_stored": stored,
        "images_decoded": stored * synthetic.factor**2,
        "bytes_stored": synthetic.images.numel() * synthetic.images.element_size(),
    }


def parse_provenance(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return seed, hash, choices and settings of the run that made a set, null where its metadata does not say."""
    known = {name: _parsed(metadata.get(name)) for name in ("seed", "made_with")}
    seed, kept = known["seed"], known["made_with"] if isinstance(known["made_with"], dict) else {}
    parts = {
        kind: part if isinstance(part := kept.get(kind), dict) else None
        for kind in ("choices", "config")
    }
    return {
        "seed": seed if type(seed) is int else None,
        "config_sha256": metadata.get("config_sha256"),
        **parts,
    }


def learned_lr(metadata: Mapping[str, str]) -> float | None:
    """Return the learning rate that was learnt along with a set; null where its metadata names none that can be."""
    rate = _parsed(metadata.get("learned_lr"))
    return rate if isinstance(rate, float) and rate > 0 else None


def _parsed(text: str | None) -> Any:
    """Parse what an artefact says of itself; null where it is no JSON, since anybody may have written it.

    What is no finite number is text.
    """
    try:
        return json.loads(text or "null", parse_constant=str, parse_float=_number)
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> float | str:
    return number if math.isfinite(number := float(text)) else text


def to_jsonable(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration as JSON can hold it, interpolations as written; ``.inf`` and ``.nan`` become words."""
    content: dict[str, Any] = _plain(OmegaConf.to_container(cfg))
    return content


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    fits = (
        value is None
        or isinstance(value, bool | int | str)
        or (isinstance(value, float) and math.isfinite(value))
    )
    return value if fits else str(value)


def tensorboard_hparams(result: dict[str, Any]) -> dict[str, str | int | float | bool]:
    """Return what TensorBoard's hyper-parameter view shows of a run: its choices and its method's own values."""
    own = flat({"method": result["config"]["method"]})
    shown = {
        name: value
        for name, value in own.items()
        if value is not None
        and not name.rpartition(".")[2].startswith("_")
        and not str(value).startswith("${")
    }
    return {**result["choices"], **shown, "ipc": result["ipc"], "seed": result["seed"]}


def dump_config(cfg: DictConfig, choices: dict[str, str]) -> str:
    """Return the configuration and the names chosen in it, as kept in a checkpoint."""
    return OmegaConf.to_yaml(OmegaConf.create({"config": cfg, "choices": choices}))


def load_resume_config(
    cfg: DictConfig, choices: Mapping[str, Any], words: Sequence[str], folder: Path
) -> tuple[DictConfig, dict[str, str], "Checkpoint"]:
    """Return the configuration saved in a run's checkpoint, its choices, and the checkpoint.

    Args:
        cfg: that of the command line.
        choices: likewise.
        words: the command line's own.
        folder: the run's.

    Raises:
        CheckpointError: there is no checkpoint, it wants code that neither dcond nor the command
            line names, or a word on the command line contradicts the saved configuration.
    """
    from dcond.run import checkpoint

    moment = checkpoint.load(folder)
    saved = OmegaConf.create(moment.config)
    config = OmegaConf.create(saved.config)  # a root of its own, for interpolations start there
    check_trusted_targets(config, cfg, folder)
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if key == "resume":
            continue
        is_choice = key in saved.choices
        before = saved.choices[key] if is_choice else OmegaConf.select(config, key)
        now = choices.get(key) if is_choice else OmegaConf.select(cfg, key)
        if before != now:
            raise CheckpointError(
                f"{folder} was started with {key}={before}, the command line says {key}={now}; "
                "leave the word out to go on, or start a new run."
            )
    config.resume = cfg.resume
    OmegaConf.set_struct(config, True)
    return config, dict(saved.choices), moment

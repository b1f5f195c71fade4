"""What a run keeps of its configuration: in its result, in its checkpoints and in TensorBoard."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from dcond.apps.trust import check_code
from dcond.errors import CheckpointError
from dcond.report.result import flat

if TYPE_CHECKING:
    from dcond.engine.checkpoint import Checkpoint


def numbers_of(cfg: DictConfig) -> DictConfig:
    """Return what of the configuration can change a number: not where, how often logged, nor on what."""
    where_and_when = {"paths", "name", "resume", "device", "threads", "tensorboard", "checkpoint", "loop"}
    aside = where_and_when | {"evaluate", "baselines", "scores"}
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in aside])


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration as JSON can hold it, interpolations as written; ``.inf`` and ``.nan`` become words."""
    content: dict[str, Any] = _plain(OmegaConf.to_container(cfg))
    return content


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    fits = value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
    return value if fits else str(value)


def shown_settings(result: dict[str, Any]) -> dict[str, str | int | float | bool]:
    """Return what TensorBoard's hyper-parameter view shows of a run: its choices and its method's own values."""
    own = flat({"method": result["config"]["method"]})
    shown = {
        name: value
        for name, value in own.items()
        if value is not None and not name.rpartition(".")[2].startswith("_") and not str(value).startswith("${")
    }
    return {**result["choices"], **shown, "ipc": result["ipc"], "seed": result["seed"]}


def frozen(cfg: DictConfig, choices: dict[str, str]) -> str:
    """Return the configuration and the names chosen in it, as kept in a checkpoint."""
    return OmegaConf.to_yaml(OmegaConf.create({"config": cfg, "choices": choices}))


def resumed(cfg: DictConfig, folder: Path, words: list[str]) -> tuple[DictConfig, dict[str, str], "Checkpoint"]:
    """Return the configuration saved in a run's checkpoint, its choices, and the checkpoint.

    Raises:
        CheckpointError: there is no checkpoint, it wants code that neither dcond nor the command line names, or a word
            on the command line contradicts the saved configuration.
    """
    from dcond.engine import checkpoint

    moment = checkpoint.load(folder)
    saved = OmegaConf.create(moment.config)
    check_code(saved.config, cfg, folder)
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if key == "resume":
            continue
        is_choice = key in saved.choices
        before = saved.choices[key] if is_choice else OmegaConf.select(saved.config, key)
        now = word.partition("=")[2] if is_choice else OmegaConf.select(cfg, key)
        if before != now:
            raise CheckpointError(
                f"{folder} was started with {key}={before}, the command line says {key}={now}; "
                "leave the word out to go on, or start a new run."
            )
    config = OmegaConf.create(saved.config)  # a root of its own, for interpolations start there
    config.resume = cfg.resume
    OmegaConf.set_struct(config, True)
    return config, dict(saved.choices), moment

"""Which code a run folder may ask for: what is packaged, and what the command line names."""

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.cli.instantiate import relative_to_cwd
from dcond.errors import CheckpointError
from dcond.paths import conf_dir


def check_trusted_targets(saved: DictConfig, said: DictConfig, folder: Path) -> None:
    """Refuse a run folder that names code of its own choice: it may come from anywhere, and ``_target_`` runs it.

    Args:
        saved: the configuration in the folder's checkpoint.
        said: that of the command line.
        folder: for the error.

    Raises:
        CheckpointError: a ``_target_`` of the first that neither the second nor a packaged file
            has.
    """
    foreign = _targets(saved) - _targets(said) - _packaged()
    if foreign:
        raise CheckpointError(
            f"{relative_to_cwd(folder)} asks to run code that is not dcond's: {', '.join(sorted(foreign))}. Where you trust it, "
            "say so by the words that name it beside resume=, such as --config-dir DIR method=class_mean."
        )


def _targets(cfg: DictConfig) -> set[str]:
    """Return every ``_target_`` in a configuration, as written."""

    def found(node: Any) -> set[str]:
        parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        own = {str(node["_target_"])} if isinstance(node, dict) and "_target_" in node else set()
        return own.union(*map(found, parts))

    return found(OmegaConf.to_container(cfg))


def _packaged() -> set[str]:
    """Return every ``_target_`` in the packaged files."""
    texts = (file.read_text(encoding="utf-8") for file in conf_dir().rglob("*.yaml"))
    return {target for text in texts for target in re.findall(r"\b_target_: *([\w.]+)", text)}

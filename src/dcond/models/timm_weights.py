"""Published weights: which networks of timm have them, and reading them without running what they hold."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dcond.errors import ConfigError, did_you_mean, require

FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # PyTorch's own switch


def check_architecture(name: str, architecture: str, published: bool) -> None:
    """Raise :class:`ConfigError` unless timm has the network, and, where asked for, published weights of it."""
    import timm

    plain, _, tag = architecture.partition(".")
    require(
        timm.is_model(plain),
        f"{name}: architecture={architecture!r} is unknown to timm {timm.__version__}; "
        f"timm.list_models() names them all.{did_you_mean(plain, timm.list_models())}",
    )
    weights = timm.list_models(f"{plain}*", pretrained=True) if published else []
    known = [full for full in weights if full.partition(".")[0] == plain]
    require(
        not published or (architecture in known if tag else bool(known)),
        f"{name}: timm has no pretrained weights {architecture!r}; allowed: {', '.join(known) or 'none'}. "
        f"Take one of these or set pretrained=false.",
    )


def published(name: str, architecture: str, *, classes: int, checkpoint: str | None) -> Any:
    """Return a timm network with published weights and a new head, downloaded once or read from a file.

    Args:
        name: how tables call the network, for errors.
        architecture: timm's name, with the tag of the weights after a dot.
        classes: outputs of the new head.
        checkpoint: the file of weights, or None to download them.

    Raises:
        ConfigError: the weights cannot be had or read, or hold more than tensors.
    """
    import timm

    overlay = {"file": checkpoint} if checkpoint else None
    try:
        with (
            silenced("timm", "huggingface_hub"),
            tensors_only(),
        ):  # what they have to say is in our one line
            return timm.create_model(
                architecture, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay
            )
    except (
        Exception
    ) as error:  # timm, its hub client and the network raise errors of a dozen families
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ConfigError(
            f"{name}: the pretrained weights of {architecture!r} could not be read ({reason}); "
            f"fetch them once where there is a network, name their file in checkpoint, or set pretrained=false."
        ) from error


@contextmanager
def silenced(*names: str) -> Iterator[None]:
    """Let these loggers say nothing for a block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def tensors_only() -> Iterator[None]:
    """Let ``torch.load`` run no code for a block, whatever its caller asks for: some versions of timm ask for all."""
    before = os.environ.get(FORCE)
    os.environ[FORCE] = "1"
    try:
        yield
    finally:
        os.environ.pop(FORCE)
        if before is not None:
            os.environ[FORCE] = before

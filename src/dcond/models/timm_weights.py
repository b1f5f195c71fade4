"""Published weights of timm's networks, read without running code."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dcond.environment import environment
from dcond.errors import ConfigError, did_you_mean, first_line, require
from dcond.paths import expand_home

FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # PyTorch's own switch


def check_architecture(name: str, architecture: str, published: bool) -> None:
    """Raise :class:`ConfigError` unless timm has the network, and its weights if ``published``."""
    import timm

    base, _, tag = architecture.partition(".")
    require(
        timm.is_model(base),
        f"{name}: architecture={architecture!r} is unknown to timm {timm.__version__}; "
        f"timm.list_models() lists all.{did_you_mean(base, timm.list_models())}",
    )
    if published:
        models = timm.list_models(f"{base}*", pretrained=True)
        known = [model for model in models if model.partition(".")[0] == base]
        require(
            architecture in known if tag else bool(known),
            f"{name}: timm has no pretrained weights {architecture!r}; "
            f"allowed: {', '.join(known) or 'none'}. Use one of these or set pretrained=false.",
        )


def published_network(name: str, architecture: str, classes: int, checkpoint: str | None) -> Any:
    """Return a timm network with published weights and a new head, downloaded or read from a file.

    Args:
        name: of the network, for messages.
        architecture: timm's name, with the tag of the weights after a dot.
        classes: outputs of the new head.
        checkpoint: the file of weights, or None to download them.

    Raises:
        ConfigError: the weights cannot be fetched or read, or hold more than tensors.
    """
    import timm

    overlay = {"file": str(expand_home(checkpoint))} if checkpoint else None
    try:
        # some versions of timm ask torch.load to run code
        with silenced("timm", "huggingface_hub"), environment(FORCE, "1"):
            return timm.create_model(
                architecture, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay
            )
    except Exception as error:  # timm, its hub client and the network raise many kinds of errors
        raise ConfigError(
            f"{name}: the pretrained weights of {architecture!r} cannot be read "
            f"({first_line(error)}); fetch them once on a machine with a network, give their file "
            "as checkpoint, set pretrained=false, or choose a pool without them (pool=cross_arch)."
        ) from error


@contextmanager
def silenced(*names: str) -> Iterator[None]:
    """Silence these loggers for a block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Initial weights from a user's file."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dcond.errors import ArtefactError, ConfigError, require
from dcond.paths import expand_home
from dcond.safe_load import read_tensors

_SAVE = "torch.save(network.state_dict(), FILE)"
# Where training code puts the weights in a checkpoint; averages only if there is nothing else.
NESTED = (
    *("state_dict", "model_state_dict", "model", "module", "network", "net"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
)
WRAPPERS = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning
_COUNTER = "n_averaged"  # of torch's AveragedModel


def read_weights(name: str, file: str) -> dict[str, Tensor]:
    """Return the tensors of a ``state_dict``, or of one in a checkpoint, on the CPU.

    No code in the file is run.

    Args:
        name: of the network, for messages.
        file: as ``torch.save`` writes it.

    Raises:
        ConfigError: the file is missing or damaged, or holds something else.
    """
    try:
        content = read_tensors(expand_home(file), f"the weights alone: {_SAVE}")
    except ArtefactError as error:
        raise ConfigError(f"{name}: weights={error}") from error
    weights = _state_dict(content)
    if weights is None:
        raise ConfigError(
            f"{name}: weights={file} is not a state_dict of tensors, nor a checkpoint with one "
            f"under {', '.join(NESTED[:3])} or the like; save it with {_SAVE}, or set weights=null."
        )
    return {key: tensor for key, tensor in weights.items() if key != _COUNTER}


def _state_dict(content: Any) -> dict[str, Tensor] | None:
    """Return the tensors of a ``state_dict``, which may be inside of checkpoints."""
    for _ in range(3):  # {"model": {"state_dict": ...}}
        if not isinstance(content, dict) or not content:
            return None
        if all(isinstance(value, Tensor) for value in content.values()):
            return {str(key): tensor for key, tensor in content.items()}
        content = next((content[key] for key in NESTED if isinstance(content.get(key), dict)), None)
    return None


def digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of every tensor's name, type, shape and bytes, in order of name."""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], name: str, file: str) -> str:
    """Copy weights into a network, except the last linear layer, whose classes may differ.

    Names of tensors may have the prefixes of ``WRAPPERS`` before them. A network of timm takes
    timm's own names.

    Args:
        network: is changed in place.
        weights: see :func:`read_weights`.
        name: of the network, for messages.
        file: path of the weights, for messages.

    Returns:
        What became of the last layer, for the log.

    Raises:
        ConfigError: a tensor is missing, unexpected, or of another shape.
    """
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    head = {f"{linear[-1]}.{part}" for part in ("weight", "bias")} if linear else set()
    own = network.state_dict()
    weights = _renamed(weights, own)
    for key in sorted((own.keys() | weights.keys()) - head):
        there, here = (tensors[key].shape if key in tensors else None for tensors in (weights, own))
        require(
            there == here,
            f"{name}: weights={file} belongs to another network ({key}: {_shape(there)} in the "
            f"file, {_shape(here)} in {name}); use the settings that the network was trained with.",
        )
    with torch.no_grad():
        for key in own.keys() - head:
            own[key].copy_(weights[key])
    given = [len(weights[key]) for key in head & weights.keys() if weights[key].ndim > 0]
    held = f"the file's, for {given[0]} classes, is omitted" if given else "the file has none"
    return f"{name}: starts from {file}; its last linear layer is drawn ({held})"


def _renamed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return weights with the network's names, as far as prefixes tell them apart."""
    while not weights.keys() & own.keys():
        wrapper = next((each for each in WRAPPERS if _all_begin_with(each, weights)), None)
        if wrapper is None:
            break
        weights = {key.removeprefix(wrapper): tensor for key, tensor in weights.items()}
    inner = f"{next(iter(own), '').partition('.')[0]}."  # of an adapter to another library
    if not weights.keys() & own.keys() and _all_begin_with(inner, own):
        return {inner + key: tensor for key, tensor in weights.items()}
    return weights


def _all_begin_with(prefix: str, weights: Mapping[str, Tensor]) -> bool:
    return bool(weights) and all(key.startswith(prefix) for key in weights)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else " x ".join(map(str, shape)) or "a number"

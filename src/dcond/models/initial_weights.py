"""Initial weights from a user's file."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dcond.errors import ConfigError, first_line, require

_HOW = "save it with torch.save(network.state_dict(), FILE), or set weights=null."


def read_weights(name: str, file: str) -> dict[str, Tensor]:
    """Return the tensors of a ``state_dict`` file on the CPU; no code in it is run.

    Args:
        name: of the network, for messages.
        file: as ``torch.save`` writes it.

    Raises:
        ConfigError: the file is missing or damaged, or holds something else.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and the system raise many kinds of errors
        reason = first_line(error)
        raise ConfigError(f"{name}: weights={file} cannot be read ({reason}); {_HOW}") from error
    valid = isinstance(content, dict) and all(isinstance(x, Tensor) for x in content.values())
    require(
        valid and len(content) > 0,
        f"{name}: weights={file} is not a state_dict of tensors; {_HOW}",
    )
    return dict(content)


def digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of every tensor's name, type, shape and bytes, in order of name."""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], name: str, file: str) -> None:
    """Copy weights into a network, except the last linear layer, whose classes may differ.

    Args:
        network: is changed in place.
        weights: see :func:`read_weights`.
        name: of the network, for messages.
        file: path of the weights, for messages.

    Raises:
        ConfigError: a tensor is missing, unexpected, or of another shape.
    """
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    head = {f"{linear[-1]}.{part}" for part in ("weight", "bias")} if linear else set()
    own = network.state_dict()
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


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else " x ".join(map(str, shape)) or "a number"

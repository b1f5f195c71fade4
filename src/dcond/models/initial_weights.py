"""Weights to start from, in a file of the user's."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dcond.errors import ConfigError, first_line, require

_HOW = "save it with torch.save(network.state_dict(), FILE), or set weights=null."


def read_weights(name: str, file: str) -> dict[str, Tensor]:
    """Return the tensors of a ``state_dict`` file, on the CPU; nothing in it is run.

    Args:
        name: how tables call the network, for errors.
        file: as ``torch.save`` writes it.

    Raises:
        ConfigError: no such file, damaged, or it holds something else.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and the system raise errors of a dozen families
        reason = first_line(error)
        raise ConfigError(f"{name}: weights={file} cannot be read ({reason}); {_HOW}") from error
    good = isinstance(found, dict) and all(isinstance(tensor, Tensor) for tensor in found.values())
    require(good and len(found) > 0, f"{name}: weights={file} is no state_dict of tensors; {_HOW}")
    return dict(found)


def digest(given: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of every tensor's name, type, shape and bytes, in order of name."""
    found = hashlib.sha256()
    for name, tensor in sorted(given.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def start_from(network: nn.Module, given: Mapping[str, Tensor], name: str, file: str) -> None:
    """Copy weights into a network, but for the last linear layer, whose classes may be others.

    Args:
        network: what starts.
        given: its weights, see :func:`read_weights`.
        name: as there.
        file: where they are from, for errors.

    Raises:
        ConfigError: a tensor is missing, left over, or of another shape.
    """
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    head = {f"{linear[-1]}.{part}" for part in ("weight", "bias")} if linear else set()
    own = network.state_dict()
    for key in sorted((own.keys() | given.keys()) - head):
        shapes = [tuple(tensors[key].shape) if key in tensors else None for tensors in (given, own)]
        require(
            shapes[0] == shapes[1],
            f"{name}: weights={file} is of another network ({key}: {_shape(shapes[0])} in the file, "
            f"{_shape(shapes[1])} in {name}); give the network the settings that it was trained with.",
        )
    with torch.no_grad():
        for key in own.keys() - head:
            own[key].copy_(given[key])


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else " x ".join(map(str, shape)) or "a number"

"""Reading ``.pt`` files without running what they hold: tensors, lists, dicts, numbers and text, nothing else."""

import re
import struct
import warnings
from pathlib import Path
from typing import Any

import torch

from dcond.data.prepared import READ_ERRORS
from dcond.errors import ArtefactError, first_line

_ERRORS = (*READ_ERRORS, KeyError, AttributeError, TypeError, IndexError, struct.error, MemoryError)


class _Dropped:
    """Stands in for numpy values (the public code keeps accuracies as such): nothing of numpy is called."""

    def __init__(self, *_: object):
        """Take whatever the pickle says, and keep nothing."""

    def __setstate__(self, state: object) -> None:
        """As above."""


_NUMPY = [
    "numpy.dtype",
    "numpy.ndarray",
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
]


def read_tensors(path: Path) -> Any:
    """Return the content of a ``torch.save`` file, tensors on the CPU; numpy values in it come back as placeholders.

    Raises:
        ArtefactError: it names code to run, or is damaged, or no such file.
    """
    try:
        with (
            torch.serialization.safe_globals([(_Dropped, name) for name in _NUMPY]),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of unusual pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except _ERRORS as error:
        named = re.search(r"GLOBAL ([\w.]+)|(?:global|class|function) ([\w.]+\.[\w.]+)", str(error))
        if named is not None:
            raise ArtefactError(
                f"{path} was refused: to load it would run code from outside ({named[1] or named[2]}). "
                "dcond reads tensors, lists, dicts and numbers only; where you trust the file, open it elsewhere and "
                "save images and labels as npz."
            ) from error
        reason = first_line(error)[:120]
        raise ArtefactError(
            f"{path} cannot be read as a torch file ({reason}); copy it again."
        ) from error


def tensor_pair(value: Any) -> bool:
    """Tell whether a value is a list or tuple of two tensors: images and labels."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(x, torch.Tensor) for x in value)
    )

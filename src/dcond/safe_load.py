"""Reading ``.pt`` files without running code: tensors, lists, dicts, numbers and text only."""

import re
import warnings
from pathlib import Path
from typing import Any

import torch

from dcond.device import is_out_of_memory
from dcond.errors import READ_ERRORS, ArtefactError, first_line
from dcond.paths import file_kind

HOW_TO_SAVE = 'torch.save({"images": x, "labels": y}, FILE)'
_ERRORS = (*READ_ERRORS, KeyError, TypeError, IndexError)


class ForeignValue:
    """Replaces what is read with the tensors and not used: accuracies, arguments; runs nothing."""

    def __init__(self, *_: object):
        """Ignore all arguments."""

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""


_IGNORED = ["argparse.Namespace", "numpy.dtype", "numpy.ndarray"]
_IGNORED += [
    f"numpy.{core}.multiarray.{name}"
    for core in ("core", "_core")
    for name in ("scalar", "_reconstruct")
]


def read_tensors(path: Path, wanted: str = "images and labels as npz") -> Any:
    """Return the content of a ``torch.save`` file on the CPU, with placeholders for other values.

    Args:
        path: the file.
        wanted: what to save instead of a file that would run code, for the message.

    Raises:
        ArtefactError: the file is missing or damaged, or would run code.
    """
    try:
        with (
            torch.serialization.safe_globals([(ForeignValue, name) for name in _IGNORED]),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of unusual pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except _ERRORS as error:
        if is_out_of_memory(error):
            raise
        code = re.search(r"GLOBAL ([\w.]+)|(?:global|class|function) ([\w.]+\.[\w.]+)", str(error))
        if code is not None:
            raise ArtefactError(
                f"{path} was refused: loading it would run code ({code[1] or code[2]}). dcond "
                "reads tensors, lists, dicts and numbers only; if you trust the file, open it "
                f"elsewhere and save {wanted}."
            ) from error
        kind = file_kind(path)
        reason = f"it is {kind}" if kind not in ("", "a zip archive") else first_line(error)[:120]
        raise ArtefactError(
            f"{path} cannot be read as a torch file ({reason}); copy it again."
        ) from error


def tensor_pair(value: Any) -> bool:
    """Return whether a value is a list or tuple of two tensors: images and labels."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(x, torch.Tensor) for x in value)
    )

"""Checkpoints: a resumed run ends in the same bytes as one that was never stopped."""

import errno
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcond.device import is_out_of_memory
from dcond.errors import CheckpointError, first_line
from dcond.paths import write_atomically
from dcond.run.result import CHECKPOINT

FORMAT = "dcond-checkpoint/1"
NAME = CHECKPOINT


@dataclass
class Checkpoint:
    """The state of a run after a step."""

    step: int  # steps done
    config: str  # the composed configuration, YAML
    images: Tensor  # (n, c, h, w), pixel space
    state: dict[str, Any]  # the method's
    rng: dict[str, Tensor]
    wall_s: float  # seconds spent in steps so far
    start_wall_s: float = 0.0  # and before the first
    step_s_median: float | None = None
    data: str | None = None  # hash of the real images; None in files that lack it


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the folder's checkpoint, replacing the one before only when the new one is complete.

    Raises:
        CheckpointError: it cannot be written; the one before stays.
    """
    content = {"format": FORMAT, **vars(checkpoint)}
    try:
        write_atomically(folder / NAME, lambda file: torch.save(content, file))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        exists = (folder / NAME).exists()
        earlier = "the last good checkpoint stays" if exists else "there is none before it"
        resume = shlex.quote(f"resume={folder}")
        raise CheckpointError(
            f"cannot write {folder / NAME} at step {checkpoint.step}: {first_line(error)}; "
            f"{earlier}. Free some space, then resume with: dcond condense {resume}"
        ) from error


def load(folder: Path) -> Checkpoint:
    """Read a run folder's checkpoint.

    Raises:
        CheckpointError: there is none, it cannot be read, or its bytes have changed.
    """
    path = folder / NAME
    try:
        if path.is_file():
            _check_sums(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content.pop("format") != FORMAT:
                raise KeyError("format")
            return Checkpoint(**content)
    except Exception as error:  # damaged bytes can fail in any way
        # EINVAL: a damaged archive points to a place before its start.
        broken_seek = isinstance(error, OSError) and error.errno == errno.EINVAL
        if is_out_of_memory(error):
            raise CheckpointError(
                f"cannot read {path}: out of memory; free some, then resume again."
            ) from error
        if isinstance(error, OSError) and not broken_seek:
            reason = error.strerror or first_line(error)
            raise CheckpointError(
                f"cannot read {path}: {reason}; make it readable, then resume again."
            ) from error
        raise CheckpointError(
            f"{path} is damaged or not a dcond checkpoint ({first_line(error)}). Start the run "
            "again."
        ) from error
    raise CheckpointError(f"nothing to resume: {path} does not exist; give the folder that has it.")


def _check_sums(path: Path) -> None:
    """Check the CRC-32 of every part of the archive: torch writes these sums, but ignores them."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"the checksum of {damaged} is wrong")

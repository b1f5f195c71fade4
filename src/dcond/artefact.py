"""The artefact: one safetensors file that says by itself how it must be used.

Nothing in it is ever unpickled. Written to a temporary name, flushed, renamed.
"""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import dcond
from dcond.errors import ArtefactError
from dcond.paths import write_atomically
from dcond.types import SyntheticSet

FORMAT = "dcond/1"


def save(synthetic: SyntheticSet, path: Path | str) -> Path:
    """Write a synthetic set; ``synthetic.metadata`` is kept and completed.

    Raises:
        ArtefactError: the file cannot be written (read-only folder, disk full).
    """
    path = Path(path)
    images = synthetic.images.detach().cpu().float().contiguous()
    low, high = (float(x) for x in images.aminmax())
    metadata = synthetic.metadata | {
        "format": FORMAT,
        "class_names": json.dumps(list(synthetic.class_names)),
        "ipc": str(synthetic.ipc),
        "factor": str(synthetic.factor),
        "align_corners": json.dumps(synthetic.align_corners),
        "mean": json.dumps(list(synthetic.mean)),
        "std": json.dumps(list(synthetic.std)),
        "size": json.dumps(list(images.shape[-2:])),
        "dcond_version": dcond.__version__,
        "torch_version": str(torch.__version__),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if low < 0 or high > 1:  # a method left the pixel box on purpose
        metadata["pixel_range"] = json.dumps([low, high])
    tensors = {"images": images, "labels": synthetic.labels.detach().cpu().contiguous()}
    try:
        write_atomically(path, lambda file: save_file(tensors, file, metadata=metadata))
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"cannot write {path}: {error}. Free some space or choose another folder.") from error
    return path


def load(path: Path | str) -> SyntheticSet:
    """Read a synthetic set; a run folder stands for the artefact in it.

    Raises:
        ArtefactError: the file is missing, unreadable, truncated, not one of ours, or holds values that cannot be.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "synthetic.safetensors"
    if not path.is_file():
        raise ArtefactError(f"no artefact at {path}; give a synthetic.safetensors or the run folder that holds one.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"cannot read {path}: {error}. It is damaged or no safetensors file.") from error
    return _checked(path, metadata, tensors)


def _checked(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> SyntheticSet:
    if metadata.get("format") != FORMAT:
        raise ArtefactError(f"{path} has format {metadata.get('format')!r}; this dcond reads {FORMAT!r}.")
    if missing := {"images", "labels"} - tensors.keys():
        raise ArtefactError(f"{path} lacks the tensor(s) {', '.join(sorted(missing))}.")
    images, labels = tensors["images"], tensors["labels"]
    names = tuple(_field(path, metadata, "class_names", _strings))
    low, high = _field(path, metadata, "pixel_range", _floats) if "pixel_range" in metadata else (0.0, 1.0)
    if images.ndim != 4 or not images.is_floating_point() or not bool(torch.isfinite(images).all()):
        raise ArtefactError(f"{path}: images must be finite floats (n, c, h, w); got {tuple(images.shape)}.")
    if images.numel() and (float(images.min()) < low or float(images.max()) > high):
        raise ArtefactError(f"{path}: pixels leave the recorded range [{low}, {high}].")
    if len(labels) != len(images):
        raise ArtefactError(f"{path}: {len(images)} images but {len(labels)} labels.")
    hard = labels.ndim == 1 and not labels.is_floating_point()
    if hard and labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < len(names)):
        raise ArtefactError(f"{path}: labels must lie in 0..{len(names) - 1}.")
    if not hard and labels.shape != (len(images), len(names)):
        raise ArtefactError(f"{path}: soft labels must be (n, {len(names)}); got {tuple(labels.shape)}.")
    return SyntheticSet(
        images=images.float(),
        labels=labels.long() if hard else labels.float(),
        class_names=names,
        ipc=_field(path, metadata, "ipc", int),
        factor=_field(path, metadata, "factor", int),
        align_corners=bool(_field(path, metadata, "align_corners", json.loads)),
        mean=tuple(_field(path, metadata, "mean", _floats)),
        std=tuple(_field(path, metadata, "std", _floats)),
        metadata=metadata,
    )


def _field(path: Path, metadata: dict[str, str], key: str, parse: Callable[[str], Any]) -> Any:
    """Parse one metadata entry."""
    try:
        return parse(metadata[key])
    except (KeyError, ValueError, TypeError) as error:
        raise ArtefactError(f"{path}: metadata {key!r} is missing or unreadable ({metadata.get(key)!r}).") from error


def _floats(text: str) -> list[float]:
    return [float(x) for x in json.loads(text)]


def _strings(text: str) -> list[str]:
    return [str(x) for x in json.loads(text)]

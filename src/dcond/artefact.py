"""The artefact: a safetensors file with a synthetic set and all that its use requires.

Nothing in it is unpickled. It is written atomically, with a checksum of what networks see.
"""

import datetime
import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import FiniteFloat, Json, PositiveInt, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import dcond
from dcond.errors import ArtefactError, UnsupportedError
from dcond.paths import expand_home, file_kind, write_atomically
from dcond.types import SyntheticSet
from dcond.whitening import Whitening, restored

NAME = "synthetic.safetensors"  # in a run folder
FORMAT = "dcond/1"
CHECKSUM = "sha256"  # key of the metadata
LABELS = "labels"  # key of the kind of labels
RATE = "learned_lr"  # a tensor: the learning rate that was learned with the images
# Metadata in the checksum: all that decides how pixels reach a network. Descriptions may be edited.
GUARDED = ("class_names", "ipc", "factor", "align_corners", "mean", "std", "size", "pixel_range")


@dataclass(frozen=True)
class _Metadata:
    """The metadata that decides how pixels are used; JSON in the file."""

    class_names: Json[tuple[str, ...]]
    ipc: Json[PositiveInt]
    factor: Json[PositiveInt]
    align_corners: Json[bool]
    mean: Json[tuple[FiniteFloat, ...]]
    std: Json[tuple[FiniteFloat, ...]]
    pixel_range: Json[tuple[FiniteFloat, FiniteFloat]] = (0.0, 1.0)
    labels: Literal["hard", "probabilities", "logits"] | None = None


_METADATA = TypeAdapter(_Metadata)


def save(synthetic: SyntheticSet, path: Path | str) -> Path:
    """Write a synthetic set with its metadata, to which format, versions and date are added.

    Raises:
        ArtefactError: the file cannot be written (read-only folder, disk full).
        UnsupportedError: see :func:`check_counts`.
    """
    path = expand_home(path)
    check_counts(synthetic)
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
        LABELS: _kind_of_labels(synthetic),
        "dcond_version": dcond.__version__,
        "torch_version": str(torch.__version__),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    for key in ("pixel_range", RATE):  # of a set that was loaded
        metadata.pop(key, None)
    if low < 0 or high > 1:  # some methods leave [0, 1] on purpose
        metadata["pixel_range"] = json.dumps([low, high])
    tensors = {"images": images, "labels": synthetic.labels.detach().cpu().contiguous()}
    if synthetic.whitening is not None:
        tensors["zca_mean"] = synthetic.whitening.mean.cpu()
        tensors["zca_matrix"] = synthetic.whitening.matrix.cpu()
    if synthetic.learned_lr is not None:
        tensors[RATE] = torch.tensor(float(synthetic.learned_lr), dtype=torch.float64)
    metadata[CHECKSUM] = checksum(metadata, tensors)
    try:
        write_atomically(path, lambda file: save_file(tensors, file, metadata=metadata))
    except (OSError, SafetensorError) as error:
        raise ArtefactError(
            f"cannot write {path}: {error}. Free some space or choose another folder."
        ) from error
    return path


def _kind_of_labels(synthetic: SyntheticSet) -> str:
    if synthetic.logits:
        return "logits"
    return "hard" if synthetic.labels.ndim == 1 else "probabilities"


def check_counts(synthetic: SyntheticSet) -> None:
    """Check that an artefact can hold a set.

    Raises:
        UnsupportedError: its classes differ in their number of images, or do not add up.
    """
    if synthetic.counts.unique().numel() > 1:
        low, high = (int(x) for x in synthetic.counts.aminmax())
        raise UnsupportedError(
            f"an artefact of dcond has one number of images per class, this set {low} to {high}; "
            "export to npz."
        )
    if len(synthetic.images) != len(synthetic.class_names) * synthetic.ipc:
        raise UnsupportedError(
            "an artefact of dcond has one number of images per class, this set "
            f"{len(synthetic.images)} images of {len(synthetic.class_names)} classes; export to "
            "npz."
        )


def save_in(synthetic: SyntheticSet, folder: Path) -> Path:
    """Write a set as that of a folder, which is made where it is missing; see :func:`save`."""
    make_folder(folder)
    return save(synthetic, folder / NAME)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        ArtefactError: it cannot be made, or it is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(
            f"cannot write {folder}: {error.strerror}. Choose another folder."
        ) from error


def load(path: Path | str) -> SyntheticSet:
    """Read a synthetic set from a file, or from the run folder that holds it.

    Raises:
        ArtefactError: the file is missing, damaged or not an artefact, holds invalid values, or its
            content differs from its checksum.

    Example:
        >>> images, labels = dcond.load("outputs/condense/RUN").dataset().tensors
    """
    if not isinstance(path, str | Path):
        kind = type(path).__name__
        raise ArtefactError(f"cannot load a value of type {kind}; give the path of an artefact.")
    path = expand_home(path)
    if path.is_dir():
        path = path / NAME
    if not path.is_file():
        raise ArtefactError(
            f"no artefact at {path}; give a synthetic.safetensors or the run folder that holds one."
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        kind = file_kind(path) or "damaged or not a safetensors file"
        raise ArtefactError(f"cannot read {path}: {error}; it is {kind}.") from error
    synthetic = _parse(path, metadata, tensors)
    intact = metadata.get(CHECKSUM) == checksum(metadata, tensors)
    _require(intact, path, "content and sha256 checksum differ; copy or create the file again.")
    return synthetic


def checked(synthetic: SyntheticSet, where: str) -> SyntheticSet:
    """Return a set made in memory with the types of one that is loaded.

    Raises:
        ArtefactError: invalid images or labels; ``where`` names the set.
    """
    images, labels = synthetic.images, synthetic.labels
    _check_images(where, images, -math.inf, math.inf)
    _check_labels(where, labels, len(images), len(synthetic.class_names))
    return replace(synthetic, images=images.float(), labels=_as_labels(labels))


def checksum(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of the ``GUARDED`` metadata, the kind of labels and all tensors.

    A tensor counts with its name, type, shape and bytes, in order of name.
    """
    guarded = [*GUARDED, *([LABELS] if LABELS in metadata else [])]
    digest = hashlib.sha256(json.dumps([metadata.get(key) for key in guarded]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def content_hash(content: Any) -> str:
    """Return 16 hex digits that stand for images, labels and how both are used.

    Args:
        content: a set, or a :class:`~dcond.importers.raw_set.RawSet`.
    """
    metadata = {name: repr(getattr(content, name, None)) for name in GUARDED}
    if (statistics := getattr(content, "statistics", None)) is not None:
        metadata |= {"mean": repr(statistics[0]), "std": repr(statistics[1])}
    if getattr(content, "logits", False):
        metadata[LABELS] = "logits"
    tensors = {"images": content.images, "labels": content.labels}
    if (rate := content.learned_lr) is not None:
        tensors[RATE] = torch.tensor(float(rate))
    if whitening := getattr(content, "whitening", None):
        tensors |= {"zca_mean": whitening.mean, "zca_matrix": whitening.matrix}
    return checksum(metadata, tensors)[:16]


def _parse(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> SyntheticSet:
    if metadata.get("format") != FORMAT:
        raise ArtefactError(
            f"{path} has format {metadata.get('format')!r}; this dcond reads {FORMAT!r}."
        )
    if missing := {"images", "labels"} - tensors.keys():
        raise ArtefactError(f"{path} lacks the tensor(s) {', '.join(sorted(missing))}.")
    try:
        read = _METADATA.validate_python(metadata)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        raise ArtefactError(
            f"{path}: metadata {key!r} is missing or unreadable ({metadata.get(key)!r})."
        ) from error
    old = "its learned rate is text, as dcond wrote it before 0.1.0; create the file again."
    _require(RATE not in metadata, path, old)
    images, labels, names = tensors["images"], tensors["labels"], read.class_names
    _check_images(path, images, *read.pixel_range)
    _check_labels(path, labels, len(images), len(names))
    kind, known = ("soft", ("probabilities", "logits")) if labels.ndim == 2 else ("hard", ("hard",))
    _require(read.labels in (None, *known), path, f"{kind} labels are not {read.labels}.")
    n, (channels, height, width) = len(images), images.shape[1:]
    fits = n == len(names) * read.ipc
    _require(fits, path, f"{n} images are not {len(names)} classes of ipc={read.ipc}.")
    good = len(read.mean) == len(read.std) == channels and min(read.std, default=0) > 0
    got = f"got {read.mean} and {read.std}"
    _require(good, path, f"mean and std must give {channels} numbers, std above 0; {got}.")
    fits = read.factor <= min(height, width)
    _require(fits, path, f"factor={read.factor} does not fit images of {height}x{width}.")
    return SyntheticSet(
        images=images.float(),
        labels=_as_labels(labels),
        class_names=names,
        ipc=read.ipc,
        factor=read.factor,
        align_corners=read.align_corners,
        mean=read.mean,
        std=read.std,
        whitening=_whitening(path, tensors, channels * height * width),
        logits=read.labels == "logits",
        learned_lr=_learned_lr(path, tensors.get(RATE)),
        metadata=metadata,
    )


def _learned_lr(path: Path, rate: Tensor | None) -> float | None:
    if rate is None:
        return None
    good = rate.shape == () and rate.is_floating_point() and 0 < float(rate) < math.inf
    _require(good, path, f"{RATE} must be a finite number above 0.")
    return float(rate)


def _whitening(path: Path, tensors: dict[str, Tensor], d: int) -> Whitening | None:
    mean, matrix = tensors.get("zca_mean"), tensors.get("zca_matrix")
    if mean is None or matrix is None:
        _require(mean is matrix, path, "zca_mean and zca_matrix go together.")
        return None
    finite = bool(mean.isfinite().all() and matrix.isfinite().all())
    good = mean.shape == (d,) and matrix.shape == (d, d) and finite
    _require(good, path, f"zca_mean and zca_matrix must be finite, of {d} and {d} x {d} numbers.")
    try:
        return restored(mean, matrix)
    except RuntimeError as error:  # of linalg
        raise ArtefactError(f"{path}: zca_matrix has no inverse.") from error


def _as_labels(labels: Tensor) -> Tensor:
    return labels.float() if labels.is_floating_point() else labels.long()


def _check_images(path: Path | str, images: Tensor, low: float, high: float) -> None:
    good = images.ndim == 4 and images.is_floating_point() and images.numel() > 0
    good = good and bool(torch.isfinite(images).all())
    _require(good, path, f"images must be finite floats (n, c, h, w); got {tuple(images.shape)}.")
    inside = float(images.min()) >= low and float(images.max()) <= high
    _require(inside, path, f"pixels leave the recorded range [{low}, {high}].")


def _check_labels(path: Path | str, labels: Tensor, n: int, k: int) -> None:
    shape = tuple(labels.shape)
    _require(labels.ndim > 0 and len(labels) == n, path, f"{n} images but labels {shape}.")
    if labels.ndim == 1 and not labels.is_floating_point():
        inside = int(labels.min()) >= 0 and int(labels.max()) < k
        _require(inside, path, f"labels must be in 0..{k - 1}.")
    else:
        good = shape == (n, k) and labels.is_floating_point() and bool(torch.isfinite(labels).all())
        _require(good, path, f"soft labels must be finite floats (n, {k}); got {shape}.")


def _require(condition: bool, path: Path | str, message: str) -> None:
    if not condition:
        raise ArtefactError(f"{path}: {message}")

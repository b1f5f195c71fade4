"""The set that ``dcond export`` reads, and the formats in which it writes it."""

import logging
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dcond import artefact
from dcond.cli.compose import composed
from dcond.cli.instantiate import build, make_dataset
from dcond.cli.path_values import quote_path, quote_paths
from dcond.data.statistics import LEGACY
from dcond.errors import ConfigError, UnsupportedError
from dcond.importers.image_folder import png_texts
from dcond.importers.source import is_artefact
from dcond.paths import write_atomically
from dcond.types import ImageSpec, SyntheticSet

log = logging.getLogger(__name__)


def read_set(path: Path, settings: list[str]) -> SyntheticSet:
    """Read an artefact, or a set in a public layout with the data set that it was made from."""
    if is_artefact(path) and not settings:
        return artefact.load(path)
    names = [text.partition("=")[2] for text in settings if text.startswith("dataset=")]
    if not names:
        what = "with settings" if is_artefact(path) else "which is not an artefact of dcond"
        raise ConfigError(
            f"{path}, {what}, needs the data set that it was made from; add dataset=NAME."
        )
    options = [text for text in settings if text.startswith("synthetic.")]
    others = [text for text in settings if not text.startswith(("dataset=", "synthetic."))]
    dataset = make_dataset(names[-1], others)
    overrides = [f"synthetic.path={quote_path(str(path))}", *quote_paths(options)]
    with composed("evaluate", overrides) as (cfg, _):
        source = build(cfg.synthetic, "synthetic")
    synthetic: SyntheticSet = source.fitted(source.read(), dataset.load())
    return synthetic


def write_png(synthetic: SyntheticSet, out: Path, decoded: bool) -> str:
    """Write ``CLASS/ROW.png`` for every image, 8 bits, clipped to [0, 1]; return a summary.

    The summary names the share of pixel values that were clipped, if there are any. Each file
    stores a factor that is still to be decoded, for :mod:`dcond.importers.image_folder`.

    Raises:
        UnsupportedError: the images have neither one channel nor three.
    """
    images = synthetic.decoded()[0] if decoded else synthetic.images
    if images.shape[1] not in (1, 3):
        raise UnsupportedError(
            f"PNG files have 1 or 3 channels, these images {images.shape[1]}; export to npz."
        )
    classes = synthetic.classes.repeat(len(images) // len(synthetic.images)).tolist()
    folders = class_folders(synthetic.class_names)
    packing = (1, False) if decoded else (synthetic.factor, synthetic.align_corners)
    classes_of = zip(folders, synthetic.class_names, strict=True)
    texts = [png_texts(*each, *packing) for each in classes_of]
    exact = (images * 255).round()
    clipped = exact.clamp(0, 255)
    share = 100 * float((clipped != exact).double().mean())
    levels = clipped.byte().permute(0, 2, 3, 1).numpy()

    def fill(folder: Path) -> None:
        for row, (pixels, label) in enumerate(zip(levels, classes, strict=True)):
            file = folder / folders[label] / f"{row:05d}.png"
            file.parent.mkdir(exist_ok=True)
            image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
            image.save(file, pnginfo=texts[label])

    _write_folder(out, fill)
    written = f"{len(levels)} images{_packed(synthetic, decoded)}"
    note = f", {share:.3g} % of pixel values clipped to [0, 1]" if share else ""
    hard = ", without the soft labels" if synthetic.labels.ndim == 2 else ""
    if sorted(folders) != folders:
        log.warning(
            "the order of the folders' names is not that of the classes: match labels by name"
        )
    return f"{written} in {len(set(classes))} class folders{hard}{note}"


def write_npz(synthetic: SyntheticSet, out: Path, decoded: bool) -> str:
    """Write float32 images (n, h, w, c) and what their use requires; return a summary.

    Pixels are written as they are: some sets leave [0, 1] (``pixel_box: free``, read with ZCA).
    """
    images, labels = synthetic.decoded() if decoded else (synthetic.images, synthetic.targets)
    arrays: dict[str, Any] = {
        "images": images.permute(0, 2, 3, 1).contiguous().numpy(),
        "labels": labels.numpy(),
        "class_names": np.array(synthetic.class_names, dtype=np.str_),
        "factor": np.array(1 if decoded else synthetic.factor),
        "align_corners": np.array(synthetic.align_corners and not decoded),
    }
    if synthetic.whitening is None:  # else they do not describe the networks' input
        arrays |= {name: np.array(getattr(synthetic, name)) for name in ("mean", "std")}

    def fill(path: Path) -> None:
        with path.open("wb") as file:  # savez would add a suffix to a name
            np.savez(file, **arrays)

    write_atomically(out, fill)
    return f"{len(images)} images{_packed(synthetic, decoded)}"


def _packed(synthetic: SyntheticSet, decoded: bool) -> str:
    if decoded or synthetic.factor == 1:
        return ""
    return f", each holding {synthetic.factor**2} (--decoded unpacks)"


def write_pt(synthetic: SyntheticSet, out: Path, decoded: bool) -> str:
    """Write images, always decoded, normalised by :func:`dc_spec`, labels, and what they mean."""
    images, labels = synthetic.decoded()
    spec, whose = dc_spec(synthetic)
    content: dict[str, Any] = {
        "images": spec.normalise(images).contiguous(),
        "labels": labels,
        "class_names": [*synthetic.class_names],
    }
    if spec.whitening is None:
        content |= {"mean": [*spec.mean], "std": [*spec.std]}
    write_atomically(out, lambda path: torch.save(content, path))
    return f"{len(images)} images, normalised by {whose} mean and std"


def write_dcond(synthetic: SyntheticSet, out: Path, decoded: bool) -> str:
    """Write an artefact; images stay packed, since it stores how to decode them."""
    artefact.save(synthetic, out)
    return f"{len(synthetic.images)} images{_packed(synthetic, False)}"


def dc_spec(synthetic: SyntheticSet) -> tuple[ImageSpec, str]:
    """Return the spec with the DC code's mean and std, and whose mean and std they are.

    A whitened set, and one of a data set that the DC code does not have, keep their own.
    """
    if synthetic.whitening is not None:  # the DC code's images are not whitened
        return synthetic.spec, "the set's own whitening,"
    name = synthetic.metadata.get("dataset", "")
    mean, std = LEGACY.get(name, ((), ()))
    if len(mean) != synthetic.spec.channels:  # unknown, or another set with that name
        return synthetic.spec, "the set's own"
    return replace(synthetic.spec, mean=mean, std=std), f"the public DC code's {name}"


def class_folders(class_names: tuple[str, ...]) -> list[str]:
    """Return distinct folder names for the classes that are valid on all file systems."""
    folders: list[str] = []
    taken: set[str] = set()
    for label, name in enumerate(class_names):
        folder = re.sub(r"[^\w .+-]", "_", unicodedata.normalize("NFC", name))[:50].strip(" .")
        folder = folder or "class"
        if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", folder):  # devices on Windows
            folder = f"_{folder}"
        while _folded(folder) in taken:
            folder = f"{folder}_{label}"
        taken.add(_folded(folder))
        folders.append(folder)
    return folders


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _write_folder(out: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` fill a temporary folder beside ``out`` and rename it; a failure removes it."""
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        fill(temporary)
        temporary.chmod(0o755)
        temporary.replace(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


WRITERS = {"png": write_png, "npz": write_npz, "pt": write_pt, "dcond": write_dcond}

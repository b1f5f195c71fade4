"""Which image files of a folder belong to which split and class."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcond.data.split import stratified_split
from dcond.errors import DataError

log = logging.getLogger(__name__)

SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
}
# Tiny ImageNet: test images lie in one folder, this file names their classes
ANNOTATIONS = "val_annotations.txt"


@dataclass(frozen=True, eq=False)
class Files:
    """File names below a folder: as bytes of one width, for a million paths would take more memory than a batch."""

    root: Path
    names: NDArray[np.bytes_]  # (n,)

    @classmethod
    def of(cls, root: Path, names: Sequence[str]) -> "Files":
        """Return the files of these names, relative to the folder."""
        return cls(root, np.array([os.fsencode(name) for name in names], dtype=np.bytes_))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> Path:
        return self.root / os.fsdecode(bytes(self.names[row]))

    def __iter__(self) -> Iterator[Path]:
        return (self[row] for row in range(len(self)))

    def part(self, rows: NDArray[np.int64]) -> "Files":
        """Return some of them."""
        return Files(self.root, self.names[rows])


@dataclass
class Listing:
    """Image files of both splits with their class indices (n,), and one name per class."""

    train_files: Files
    train_labels: NDArray[np.int64]
    test_files: Files
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]


def list_folder(root: Path, test_fraction: float, split_seed: int) -> Listing:
    """List a folder with ``train/`` and ``test/`` (or ``val/``), or one folder of class folders, which is split.

    Every class is a folder; its images may lie in folders of their own, hidden ones aside. Classes
    are numbered in the order of their names. Tiny ImageNet's ``val/`` with an annotation file is
    understood, and its ``words.txt`` gives the names.

    Args:
        root: the folder.
        test_fraction: share of the images of every class that a single folder gives to the test
            split.
        split_seed: seed of that split.

    Raises:
        DataError: no such folder, a split or class without images, or splits with unlike classes.
    """
    if not root.is_dir():
        raise DataError(
            f"dataset.path={str(root)!r} is not a folder; give one with train/ and test/, or class folders."
        )
    if not (root / "train").is_dir():
        if (root / "test").is_dir() or (root / "val").is_dir():
            raise DataError(f"{root} has a test split but no train/ folder; add it.")
        files, labels, names = list_classes(root)
        train, test = stratified_split(labels, round(test_fraction * len(files)), split_seed)
        if len(test) == 0:
            raise DataError(
                f"{root} holds {len(files)} images, too few to split; add images or a test/ folder."
            )
        return Listing(files.part(train), labels[train], files.part(test), labels[test], names)
    train_files, train_labels, names = list_classes(root / "train")
    test_files, test_labels = _test_split(root, names)
    return Listing(train_files, train_labels, test_files, test_labels, _readable_names(root, names))


def _test_split(root: Path, names: tuple[str, ...]) -> tuple[Files, NDArray[np.int64]]:
    if (root / "val" / ANNOTATIONS).is_file():
        return _annotated(root / "val", names)  # before test/, which has no labels in that set
    for folder in (root / "test", root / "val"):
        if folder.is_dir():
            files, labels, found = list_classes(folder)
            unlike = sorted(set(found) ^ set(names))
            if unlike:
                raise DataError(
                    f"{root / 'train'} and {folder} must have the same class folders; only one of them has: "
                    f"{', '.join(unlike[:5])}{' ...' if len(unlike) > 5 else ''}."
                )
            return files, labels
    raise DataError(
        f"{root} has train/ but neither test/ nor val/; add one, or give the class folders themselves: "
        f"dataset.path={root / 'train'}."
    )


def list_classes(root: Path) -> tuple[Files, NDArray[np.int64], tuple[str, ...]]:
    """Return the image files of a folder of class folders, their class indices (n,), and the folders' names in order.

    Raises:
        DataError: no class folder, or one without images.
    """
    folders = sorted(
        entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if not folders:
        raise DataError(
            f"{root} holds no class folders; expected {root / 'CLASS' / 'image.png'} and so on."
        )
    names: list[str] = []
    counts, ignored = [], 0
    for folder in folders:
        images, others = _images_inside(folder)
        if not images:
            raise DataError(f"class folder {folder} holds no image; add some or remove the folder.")
        names += images
        counts.append(len(images))
        ignored += others
    if ignored:
        log.info("%s: ignored %d file(s) that are not images, or in hidden folders", root, ignored)
    labels = np.repeat(np.arange(len(folders), dtype=np.int64), counts)
    return Files.of(root, names), labels, tuple(folder.name for folder in folders)


def _images_inside(folder: Path) -> tuple[list[str], int]:
    """Return the images below a class folder, named from the folder around it and in order; and how many others."""
    images, others = [], 0
    for inside, _, names in os.walk(folder):
        below = inside[len(str(folder)) :]
        chosen = [
            name
            for name in names
            if os.path.splitext(name)[1].lower() in SUFFIXES and name[0] != "."
        ]
        if f"{os.sep}." in below:  # a hidden folder, such as .ipynb_checkpoints: it holds copies
            chosen = []
        images += [os.path.join(folder.name + below, name) for name in chosen]
        others += len(names) - len(chosen)
    return sorted(images, key=lambda name: name.split(os.sep)), others


def _annotated(folder: Path, names: tuple[str, ...]) -> tuple[Files, NDArray[np.int64]]:
    index = {name: label for label, name in enumerate(names)}
    files, labels = [], []
    for number, line in enumerate(_lines(folder / ANNOTATIONS), 1):
        words = line.split("\t")
        if len(words) < 2 or words[1] not in index:
            raise DataError(
                f"{folder / ANNOTATIONS}, line {number} does not name a class of train/: {line[:60]!r}."
            )
        if words[0] in ("", "..") or Path(words[0]).name != words[0]:
            raise DataError(
                f"{folder / ANNOTATIONS}, line {number} names {words[0]!r}, which is no file of {folder / 'images'}; "
                "name each image by its file alone."
            )
        files.append(os.path.join("images", words[0]))
        labels.append(index[words[1]])
    return Files.of(folder, files), np.array(labels, dtype=np.int64)


def _readable_names(root: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    if not (root / "words.txt").is_file():
        return names
    lines = (line.split("\t") for line in _lines(root / "words.txt"))
    words = {entry[0]: entry[1].split(",")[0].strip() for entry in lines if len(entry) > 1}
    return tuple(words.get(name, name) for name in names)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is no text (byte {error.start} is no UTF-8); replace it."
        ) from error

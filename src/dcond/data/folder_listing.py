"""Which image files of a folder belong to which split and class."""

import itertools
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from dcond.data.split import stratified_split
from dcond.errors import DataError
from dcond.paths import file_kind

log = logging.getLogger(__name__)

SUFFIXES = {f".{end}" for end in ("png", "jpg", "jpeg", "jpe", "jfif", "bmp", "gif", "webp")}
SUFFIXES |= {f".{end}" for end in ("tif", "tiff", "ppm", "pgm", "pbm")}
# Of macOS, Windows, Synology and ext4: they hold no images, or copies in another size.
SYSTEM_FOLDERS = ("__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found")
TRAIN = ("train", "training")  # names of splits
TEST = ("test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation")
# Tiny ImageNet: test images are in one folder, this file names their classes.
ANNOTATIONS = "val_annotations.txt"


@dataclass(frozen=True, eq=False)
class Files:
    """File names below a folder, as bytes of one width: a million paths take more memory."""

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
        """Return the files of some rows."""
        return Files(self.root, self.names[rows])


@dataclass
class Listing:
    """Image files of both splits with their class indices (n,), and one name per class."""

    train_files: Files
    train_labels: NDArray[np.int64]
    test_files: Files
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]


def list_folder(
    root: Path, test_fraction: float | None, split_seed: int = 0, *, some_classes: bool = False
) -> Listing:
    """List a folder with ``train/`` and ``test/`` (or ``val/``), or class folders, which are split.

    Every class is a folder; its images may be in subfolders, except hidden ones and those of
    operating systems. Symbolic links are followed, each folder once. The name of a class is that of
    its folder in Unicode's NFC form, without spaces at its ends. Classes are numbered in the order
    of their names. Tiny ImageNet's ``val/`` with an annotation file is
    supported, and its ``words.txt`` gives the class names.

    Args:
        root: the folder.
        test_fraction: share of every class that becomes the test split if there are only class
            folders; None refuses these.
        split_seed: seed of that split.
        some_classes: only some classes will be used: others may be in one split only.

    Raises:
        DataError: no such folder, a split or class without images, or splits with different
            classes.
    """
    if not root.is_dir():
        kind = file_kind(root) if root.is_file() else ""
        unpack = f" ({kind}; unpack it)" if kind else ""
        if root.suffix == ".npz":
            unpack = " (use dataset=npz)"
        raise DataError(
            f"dataset.path={str(root)!r} is not a folder{unpack}; give one with train/ and test/, "
            "or with class folders."
        )
    train_folder, test_folder = _find(root, TRAIN), _find(root, TEST, with_classes=True)
    if test_fraction is None and not (train_folder and test_folder):
        if not (train_folder or test_folder):
            _check_depth(root)
        raise DataError(
            f"{root} does not hold train/ and val/; give the folder that holds both: "
            "dataset.path=FOLDER."
        )
    if train_folder is None or (test_folder is None and _is_class(train_folder)):
        if test_folder is not None and test_folder.name in ("test", "val"):
            raise DataError(f"{root} has a test split but no train/ folder; add it.")
        _check_depth(root)
        assert test_fraction is not None  # refused above
        files, labels, names = list_classes(root, some_classes=some_classes)
        train, test = stratified_split(labels, round(test_fraction * len(files)), split_seed)
        if len(test) == 0:
            raise DataError(
                f"{root} holds {len(files)} images, too few to split with "
                f"dataset.test_fraction={test_fraction:g}; add images or a test/ folder, or set a "
                "larger fraction."
            )
        return Listing(files.part(train), labels[train], files.part(test), labels[test], names)
    train_files, train_labels, names = list_classes(train_folder, some_classes=some_classes)
    test_files, test_labels, test_names = _test_split(
        train_folder, test_folder, names, some_classes=some_classes
    )
    different = sorted({*names} ^ {*test_names})
    if different and not some_classes:
        raise DataError(
            f"{train_folder} and {test_folder} must have the same class folders; only one of them "
            f"has: {', '.join(map(repr, different[:5]))}{' ...' if len(different) > 5 else ''}."
        )
    both = tuple(sorted({*names, *test_names}))  # each is in this order too
    train_labels = np.searchsorted(both, names)[train_labels]
    test_labels = np.searchsorted(both, test_names)[test_labels]
    return Listing(train_files, train_labels, test_files, test_labels, _readable_names(root, both))


def _find(root: Path, names: tuple[str, ...], *, with_classes: bool = False) -> Path | None:
    """Return the first subfolder of one of these names, in any case; lower case is preferred.

    Args:
        root: the folder.
        names: in order of preference.
        with_classes: prefer one that holds folders: a ``test/`` without labels may be beside it.
    """
    folders = {folder.name.lower(): folder for folder in subfolders(root)}
    found = [folders[name] for name in names if name in folders]
    labelled = filter(subfolders, found) if with_classes else ()
    return next(iter((*labelled, *found)), None)


def _is_class(train: Path) -> bool:
    """Return whether a folder ``train``, beside no test split, is a class: a picture of a train."""
    folders = subfolders(train.parent)
    flat = len(folders) > 1 and not any(map(subfolders, folders))
    return train.name != "train" or flat


def _check_depth(root: Path) -> None:
    """Raise :class:`DataError` if class folders, or both splits, are one level further down."""
    folders = subfolders(root)
    for folder in folders:
        if (_find(folder, TRAIN) and _find(folder, TEST)) or (
            len(folders) == 1 and subfolders(folder)
        ):
            raise DataError(
                f"{folder} holds folders itself, so it is not a class of {root}; did you mean "
                f"dataset.path={folder}?"
            )


def _test_split(
    train: Path, folder: Path | None, names: tuple[str, ...], *, some_classes: bool
) -> tuple[Files, NDArray[np.int64], tuple[str, ...]]:
    root = train.parent
    if (root / "val" / ANNOTATIONS).is_file():
        return *_annotated(
            root / "val", names
        ), names  # before test/, which has no labels in that set
    if folder is None:
        raise DataError(
            f"{root} has train/ but neither test/ nor val/; add one, or give the class folders: "
            f"dataset.path={train}."
        )
    if folder.name not in ("test", "val") or folder != _find(root, TEST):
        log.info("%s: %s/ is the test split", root, folder.name)
    return list_classes(folder, some_classes=some_classes)


def list_classes(
    root: Path, *, some_classes: bool = False
) -> tuple[Files, NDArray[np.int64], tuple[str, ...]]:
    """Return the image files below class folders, their class indices (n,), and the class names.

    Args:
        root: the folder that holds them.
        some_classes: see :func:`list_folder`; a class may be empty.

    Raises:
        DataError: no class folder, or one without images.
    """
    folders = subfolders(root)
    if not folders:
        count = sum(entry.suffix.lower() in SUFFIXES for entry in root.iterdir())
        table = f" If a table has the labels of its {count:,} images, docs/data.md sorts them."
        raise DataError(
            f"{root} holds no class folders; expected {root / 'CLASS' / 'image.png'} and so on."
            f"{table if count else ''}"
        )
    class_names = tuple(_class_name(folder) for folder in folders)
    for (one, name), (other, following) in itertools.pairwise(
        zip(folders, class_names, strict=True)
    ):
        if name == following:
            raise DataError(
                f"the names of {str(one)!r} and {str(other)!r} differ only in their Unicode form "
                "or in spaces around them; rename one of them."
            )
    names: list[str] = []
    counts, ignored = [], Counter[str]()
    for folder in folders:
        images, others = _images_in(folder)
        if not images and not some_classes:
            kinds = "".join(f"; it holds {count} {reason}" for reason, count in others.items())
            raise DataError(
                f"class folder {folder} holds no image{kinds}. Add some, or remove the folder from "
                "every split."
            )
        names += images
        counts.append(len(images))
        ignored += others
    if ignored:
        reasons = ", ".join(f"{count} {reason}" for reason, count in ignored.most_common())
        log.info("%s: ignored %d file(s): %s", root, ignored.total(), reasons)
    labels = np.repeat(np.arange(len(folders), dtype=np.int64), counts)
    return Files.of(root, names), labels, class_names


def subfolders(root: Path) -> list[Path]:
    """Return the folders in a folder, but those of the system, sorted by the name of the class."""
    folders = [entry for entry in root.iterdir() if entry.is_dir() and not _is_hidden(entry.name)]
    return sorted(sorted(folders), key=_class_name)


def _class_name(folder: Path) -> str:
    """Return the name of a class; macOS writes accents as characters of their own.

    Bytes that are not UTF-8 become U+FFFD: JSON cannot hold them.
    """
    name = os.fsencode(folder.name).decode(errors="replace")
    return unicodedata.normalize("NFC", name).strip()


def _is_hidden(folder: str) -> bool:
    return folder.startswith(".") or folder.lower() in SYSTEM_FOLDERS


def _images_in(folder: Path) -> tuple[list[str], Counter[str]]:
    """Return the image files of a class, sorted, relative to its parent; count others by reason."""
    images, ignored = [], Counter[str]()
    whole = os.path.realpath(folder)
    seen = {whole}
    for inside, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        folders[:] = [name for name in sorted(folders) if _is_new(inside, name, whole, seen)]
        below = inside[len(str(folder)) :]
        hidden = any(map(_is_hidden, below.split(os.sep)))
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if hidden:  # such as .ipynb_checkpoints, which holds copies
                ignored["in hidden folders"] += 1
            elif name[0] == ".":
                ignored["hidden"] += 1
            elif suffix not in SUFFIXES:
                ignored[f"of type {suffix}, not an image type" if suffix else "without a type"] += 1
            else:
                images.append(os.path.join(folder.name + below, name))
    return sorted(images, key=lambda name: name.split(os.sep)), ignored


def _refuse(error: OSError) -> NoReturn:
    raise DataError(
        f"{error.filename} cannot be read ({error.strerror}); change its permissions or remove it."
    ) from error


def _is_new(inside: str, name: str, whole: str, seen: set[str]) -> bool:
    """Return whether a folder is visited for the first time, and is not around the class."""
    target = os.path.realpath(os.path.join(inside, name))
    new = target not in seen and not whole.startswith(os.path.join(target, ""))
    seen.add(target)
    return new


def survey(root: Path) -> tuple[Files, Counter[str]]:
    """Return all image files below a folder, and how many others there are, by reason."""
    root = root.absolute()  # the current folder, ".", has no name
    names, others = _images_in(root)
    return Files.of(root.parent, names), others


def _annotated(folder: Path, names: tuple[str, ...]) -> tuple[Files, NDArray[np.int64]]:
    index = {name: label for label, name in enumerate(names)}
    files, labels = [], []
    for number, line in enumerate(_lines(folder / ANNOTATIONS), 1):
        file, label, *_ = [*line.split("\t"), ""]
        if label not in index:
            raise DataError(
                f"{folder / ANNOTATIONS}, line {number} does not name a class of train/: "
                f"{line[:60]!r}."
            )
        if file in ("", "..") or Path(file).name != file:
            raise DataError(
                f"{folder / ANNOTATIONS}, line {number} names {file!r}, which is not a file in "
                f"{folder / 'images'}; give file names without folders."
            )
        files.append(os.path.join("images", file))
        labels.append(index[label])
    return Files.of(folder, files), np.array(labels, dtype=np.int64)


def _readable_names(root: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    if not (root / "words.txt").is_file():
        return names
    lines = (line.split("\t") for line in _lines(root / "words.txt"))
    readable = {fields[0]: fields[1].split(",")[0].strip() for fields in lines if len(fields) > 1}
    return tuple(readable.get(name, name) for name in names)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not a text file (byte {error.start} is not UTF-8); replace it."
        ) from error

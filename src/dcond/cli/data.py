"""``dcond data``: prepare a data set for use without a network, or show what it holds."""

import argparse
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dcond.cli.list import entries
from dcond.cli.parser import add_settings, make_parser
from dcond.errors import ConfigError
from dcond.log import log_plainly
from dcond.paths import conf_dir

if TYPE_CHECKING:  # torch is slow to import, and --help does not need it
    from dcond.data import Dataset
    from dcond.types import RealData

EPILOG = """\
examples:
  dcond data prepare cifar10                         fetch it and write data/cifar10.npz
  DCOND_DATA=/mnt/data dcond data prepare cifar10    the same in another folder
  dcond data info digits                             sizes, classes, mean and std
  dcond data info npz dataset.path=birds.npz         check a file of your own
  dcond data info image_folder dataset.path=birds/ dataset.size=64

`dcond list datasets` shows every NAME; KEY=VALUE are overrides as `dcond condense` takes them.
"""
VERBS = {
    "prepare": "download the data set if needed and write it to <data folder>/NAME.npz",
    "info": "load the data set, check it, and show its sizes, classes, mean and standard deviation",
}
LIST_UP_TO = 20  # classes shown one by one


def main(argv: list[str]) -> int:
    """Run ``dcond data`` with its arguments and return the exit code.

    Raises:
        DcondError: an unknown data set or setting, or data that cannot be fetched or used.
    """
    arguments = _parser().parse_args(argv)
    log_plainly()
    from dcond.cli.instantiate import make_dataset  # torch, which --help does not need

    dataset = make_dataset(arguments.name, arguments.settings)
    if arguments.verb == "prepare":
        _prepare(dataset, arguments.name)
    else:
        _show(dataset.load(), dataset.remarks())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("data", "Prepare a data set, or show it.", EPILOG)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="|".join(VERBS))
    for verb, text in VERBS.items():
        description = f"{text[0].upper()}{text[1:]}."
        part = verbs.add_parser(
            verb,
            help=text,
            description=description,
            epilog=EPILOG,
            formatter_class=parser.formatter_class,
        )
        part.add_argument("name", metavar="NAME", help="a data set of `dcond list datasets`")
        add_settings(part, "such as dataset.size=64")
    return parser


def _prepare(dataset: "Dataset", choice: str) -> None:
    packaged = [entry.name for entry in entries(conf_dir() / "dataset")]
    if dataset.name != choice and dataset.name in packaged:
        raise ConfigError(
            f"dataset.name={dataset.name} is the name of another data set of dcond, which reads "
            f"{dataset.name}.npz; choose another name."
        )
    if dataset.classes is not None:
        raise ConfigError(
            "dataset.classes has no effect on prepare, which writes all classes; omit it."
        )
    file: Path | None = dataset.prepare()
    if file is None:
        print(f"{dataset.name}: nothing to prepare, it is read as it is")
    else:
        print(f"{dataset.name}: prepared {file} ({file.stat().st_size / 1e6:,.1f} MB)")


def _show(real: "RealData", remarks: dict[str, str]) -> None:
    names = real.class_names
    train_counts = [len(rows) for rows in real.class_rows]
    test_counts = real.test.labels.bincount(minlength=len(names)).tolist()
    console = Console(highlight=False)
    facts = Table(show_header=False, box=None, pad_edge=False)
    for what, value in (_facts(real, train_counts, test_counts) | remarks).items():
        facts.add_row(what, Text(value))
    console.print(facts)
    if len(names) <= LIST_UP_TO:
        classes = Table("label", "class", "train", "test", box=None, pad_edge=False)
        for column in (0, 2, 3):
            classes.columns[column].justify = "right"
        rows = zip(names, train_counts, test_counts, strict=True)
        for label, (name, train, test) in enumerate(rows):
            classes.add_row(str(label), Text(name), f"{train:,}", f"{test:,}")
        console.print()
        console.print(classes)


def _facts(real: "RealData", train_counts: list[int], test_counts: list[int]) -> dict[str, str]:
    from torch import Tensor  # slow to import

    spec = real.spec
    colours = "1 channel (grey)" if spec.channels == 1 else "3 channels (colour)"
    place = "in memory" if isinstance(real.train.images, Tensor) else "on disk"
    size_bytes = sum(math.prod(split.images.shape) for split in (real.train, real.test))
    return {
        "name": real.name,
        "images": f"{len(real.train):,} train, {len(real.test):,} test",
        "size": f"{spec.height} x {spec.width} pixels (height x width), {colours}",
        "classes": f"{len(real.class_names)}",
        "train per class": _range(train_counts),
        "test per class": _range(test_counts),
        "mean": " ".join(f"{value:.4f}" for value in real.mean),
        "std": " ".join(f"{value:.4f}" for value in real.std),
        place: f"{size_bytes / 1e6:,.1f} MB of 8-bit pixels",
    }


def _range(counts: list[int]) -> str:
    return f"min {min(counts):,}, median {statistics.median(counts):,g}, max {max(counts):,}"

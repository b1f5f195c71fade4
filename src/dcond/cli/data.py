"""``dcond data``: prepare a data set for use without a network, or show what it holds."""

import argparse
import logging
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from dcond.errors import ConfigError, one_of
from dcond.paths import conf_dir

if TYPE_CHECKING:  # torch takes seconds to import, and --help does not need it
    from dcond.data import Dataset, Summary

EPILOG = """\
examples:
  dcond data prepare cifar10                         fetch it and write data/cifar10.npz
  DCOND_DATA=/mnt/data dcond data prepare cifar10    the same in another folder
  dcond data info digits                             sizes, classes, mean and std
  dcond data info npz dataset.path=birds.npz         check a file of your own
  dcond data info image_folder dataset.path=birds/ dataset.size=64

`dcond list datasets` shows every NAME; KEY=VALUE are the words that `dcond condense` takes for its data set.
"""
READ = ("dataset", "paths", "hydra")  # the parts of a configuration that count here
LIST_UP_TO = 20  # classes shown one by one


def main(argv: list[str]) -> int:
    """Run ``dcond data`` with the words after it and return the exit code.

    Raises:
        DcondError: an unknown data set or setting, or data that cannot be had or used.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    dataset = make_dataset(arguments.name, arguments.settings)
    if arguments.verb == "prepare":
        _prepare(dataset, arguments.name)
    else:
        from dcond.data import summarise

        _show(summarise(dataset.load()))
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="dcond data",
        description="Prepare a data set, or show it.",
        epilog=EPILOG,
        formatter_class=raw,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="prepare|info")
    for verb, text in (
        ("prepare", "write its prepared form <data folder>/NAME.npz, fetching it if need be"),
        ("info", "load it, check it and show what it holds"),
    ):
        part = verbs.add_parser(
            verb, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EPILOG
        )
        part.formatter_class = raw
        part.add_argument(
            "name", metavar="NAME", help="a data set, as dcond list datasets shows it"
        )
        # argparse would call what may be left out required, where it has no default
        part.add_argument(
            "settings",
            metavar="KEY=VALUE",
            nargs="*",
            default=[],
            help="settings, as dataset.size=64",
        )
    return parser


def make_dataset(name: str, settings: list[str]) -> "Dataset":
    """Compose ``conf/dataset/<name>.yaml`` with Hydra and make the data set it describes.

    Raises:
        ConfigError: no such data set, or a setting that it does not have or that is out of range.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from dcond.cli.instantiate import build
    from dcond.cli.overrides import check_override_syntax, hydra_error_message, quote_paths

    check_override_syntax(settings)
    if not any(
        word.startswith("hydra.searchpath=") for word in settings
    ):  # which may add data sets
        one_of("data set", name, _packaged())
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            node = compose(
                config_name="data", overrides=[f"dataset={name}", *quote_paths(settings)]
            ).dataset
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(hydra_error_message(error)) from error
    for word in settings:
        if word.lstrip("+~").partition("=")[0].split(".")[0] not in READ:
            raise ConfigError(
                f"{word} is no setting of a data set; allowed: dataset.KEY=VALUE, paths.data=FOLDER."
            )
    dataset: Dataset = build(node, f"dataset={name}")
    return dataset


def _packaged() -> list[str]:
    return sorted(file.stem for file in (conf_dir() / "dataset").glob("*.yaml"))


def _prepare(dataset: "Dataset", choice: str) -> None:
    if dataset.name != choice and dataset.name in _packaged():
        raise ConfigError(
            f"dataset.name={dataset.name} is another data set of dcond's, which reads {dataset.name}.npz; "
            "give a name of its own."
        )
    file: Path | None = dataset.prepare()
    if file is None:
        print(f"{dataset.name}: nothing to prepare, it is read as it is")
    else:
        print(f"{dataset.name}: prepared {file} ({file.stat().st_size / 1e6:,.1f} MB)")


def _show(summary: "Summary") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    facts = Table(show_header=False, box=None, pad_edge=False)
    for what, value in _facts(summary):
        facts.add_row(what, value)
    console.print(facts)
    if len(summary.class_names) <= LIST_UP_TO:
        classes = Table("label", "class", "train", "test", box=None, pad_edge=False)
        for column in (0, 2, 3):
            classes.columns[column].justify = "right"
        for label, name in enumerate(summary.class_names):
            train, test = summary.train_counts[label], summary.test_counts[label]
            classes.add_row(str(label), Text(name), f"{train:,}", f"{test:,}")
        console.print()
        console.print(classes)


def _facts(summary: "Summary") -> list[tuple[str, str]]:
    colours = "1 channel (grey)" if summary.channels == 1 else "3 channels (colour)"
    return [
        ("name", summary.name),
        ("images", f"{summary.train:,} train, {summary.test:,} test"),
        ("size", f"{summary.height} x {summary.width} pixels (height x width), {colours}"),
        ("classes", f"{len(summary.class_names)}"),
        ("train per class", _spread(summary.train_counts)),
        ("test per class", _spread(summary.test_counts)),
        ("mean", " ".join(f"{value:.4f}" for value in summary.mean)),
        ("std", " ".join(f"{value:.4f}" for value in summary.std)),
        (
            "in memory" if summary.in_memory else "on disk",
            f"{summary.size_bytes / 1e6:,.1f} MB of 8-bit pixels",
        ),
    ]


def _spread(counts: tuple[int, ...]) -> str:
    return f"min {min(counts):,}, median {statistics.median(counts):,g}, max {max(counts):,}"

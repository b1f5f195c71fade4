"""Helpers of the benchmarks: random data, methods built from conf/, times, and CSV files."""

import csv
import datetime
import platform
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dcond.augment import DiffAug
from dcond.matching.batches import class_chunks
from dcond.methods.base import Method
from dcond.models import Network
from dcond.rng import generator
from dcond.types import RealData, Split, SyntheticSet

AUGMENT = DiffAug(["color", "crop", "cutout", "flip", "scale", "rotate"])  # of DSA


def made_up(classes: int, per_class: int, size: int = 32, channels: int = 3) -> RealData:
    """Return random square images; the cost of a step does not depend on the content."""
    shape = (classes * per_class, channels, size, size)
    images = torch.randint(0, 256, shape, generator=generator(0, "bench"), dtype=torch.uint8)
    split = Split(images, torch.arange(classes).repeat_interleave(per_class))
    names = tuple(str(c) for c in range(classes))
    return RealData("made up", split, split, names, (0.5,) * channels, (0.3,) * channels)


def synthetic_set(real: RealData, ipc: int, factor: int = 1) -> SyntheticSet:
    """Return a set of the first ``ipc`` images of every class."""
    rows = torch.cat([rows[:ipc] for rows in real.class_rows])
    return SyntheticSet.from_images(
        real.pixels(rows).requires_grad_(), real, ipc=ipc, factor=factor
    )


def made_method(name: str, overrides: list[str]) -> Method:
    """Build a method from its configuration with overrides."""
    from hydra import compose, initialize_config_dir

    from dcond.cli import hydra_app as launch  # noqa: F401 - registers resolvers
    from dcond.cli.instantiate import build
    from dcond.paths import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("condense", [f"method={name}", "dataset=cifar10", *overrides])
    return build(cfg.method, f"method={name}")


def embedded(network: Network, images: Tensor, chunk: int) -> Tensor:
    """Embed (k, n, c, h, w) into (k, n, d), at most ``chunk`` images at a time."""
    parts = class_chunks(network, images, chunk)
    return torch.cat([network.embed(part) for part in parts]).view(*images.shape[:2], -1)


def medians(
    seconds: Callable[[str, int], float], ways: Collection[str], repeats: int
) -> dict[str, float]:
    """Return the median ``seconds(way, repeat)`` of every way over alternating repeats."""
    times = [{way: seconds(way, repeat) for way in ways} for repeat in range(repeats)]
    return {way: statistics.median(each[way] for each in times) for way in ways}


def where_and_when(threads: int) -> dict[str, str]:
    """Return the columns for version, machine and date."""
    return {
        "torch": torch.__version__.partition("+")[0],
        "machine": f"{platform.machine()}, {threads} thread{'s' * (threads > 1)}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def read_rows(table: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; none if it does not exist."""
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def append_row(table: Path, row: Mapping[str, object]) -> None:
    """Append a row to a CSV file; to a new one with a header."""
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, row.keys(), lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def write_rows(table: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the same keys, and a header."""
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows -> {table}")


def write(
    table: Path, rows: list[tuple[str, float, str]], earlier: Sequence[Sequence[str]] = ()
) -> None:
    """Print rows of (what, value, unit) and write them with machine, version and date.

    Lines of ``earlier`` come first.
    """
    table.parent.mkdir(parents=True, exist_ok=True)
    where = (
        f"{platform.machine()}, {torch.get_num_threads()} threads",
        torch.__version__,
        datetime.date.today(),
    )
    with table.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["what", "value", "unit", "machine", "torch", "date"])
        writer.writerows(earlier)
        writer.writerows([what, f"{value:.4g}", unit, *where] for what, value, unit in rows)
    for what, value, unit in rows:
        print(f"{value:10.4g} {unit:9} {what}")

"""Count the operators that a step of each method launches, at 10 and 100 classes.

    python benchmarks/launches.py [--out FILE.csv]    # no GPU needed; minutes

What a small step costs on a GPU is the launching of its operators. They are counted on the pretend
device of the tests: operators that start a kernel, not views and allocations; the mean over STEPS
steps, with the settings of ``conf/tuned`` for digits, 32 random images of 8 x 8 per class, ipc 1.

- one by one: classes one after another (``engine.classes=1``).
- at once: as many as the data has, the way a GPU takes them if they fit.

A repeated command counts only the missing rows.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from made_up import where_and_when

from dcond.cli.instantiate import build
from dcond.paths import conf_dir
from dcond.rng import Streams, generator
from dcond.types import RealData, Split, SyntheticSet

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from helpers.pretend_device import PretendDevice, pretend_device

TABLE = Path("benchmarks/cpu/launches.csv")
METHODS = ("dm", "m3d", "dc", "dsa", "degm", "idc", "hmdc")
CLASSES = (10, 100)
STEPS = 4  # on one network of HMDC


def digits_like(classes: int) -> RealData:
    """Return random images of 8 x 8, 40 of every class."""
    count = classes * 40
    rng = generator(0, "launches")
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=rng, dtype=torch.uint8)
    split = Split(images, torch.arange(classes).repeat_interleave(40))
    names = tuple(str(c) for c in range(classes))
    return RealData("random", split, split, names, (0.5,), (0.3,))


def launches(
    device: PretendDevice, method: str, classes: int, at_once: int, steps: int = STEPS
) -> float:
    """Return the operators per step."""
    words = [
        f"method={method}",
        "method.batch_real=32",
        f"engine.classes={at_once}",
        "engine.chunk=2048",
        "engine.compile=false",
        "engine.precision=float32",
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("condense", words)
    made = build(cfg.method, f"method={method}")
    real, rng = digits_like(classes).to(device.name), Streams(0)
    rows = torch.cat([rows[:1] for rows in real.class_rows])
    images = real.pixels(rows).requires_grad_()
    labels = torch.arange(classes).to(device.name)
    synthetic = SyntheticSet(images, labels, real.class_names, 1, real.mean, real.std, made.factor)
    state = made.init(real, synthetic, rng)

    device.reset()
    for _ in range(steps):
        made.step(real, synthetic, state)
    return device.launches.total() / steps


@contextmanager
def table(path: Path) -> Iterator[tuple[list[dict[str, str]], Any]]:
    """Read the rows of a table, and append to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    with path.open("a", newline="") as file:

        def add(row: dict[str, object]) -> None:
            writer = csv.DictWriter(file, row.keys(), lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
            file.flush()

        yield rows, add


def main() -> None:
    """Count every method at every number of classes, both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--methods", default=",".join(METHODS))
    arguments = parser.parse_args()
    with table(arguments.out) as (rows, add):
        done = {(row["method"], row["classes"], row["way"]) for row in rows}
        for way in ("at once", "one by one"):
            for classes in CLASSES:
                for method in arguments.methods.split(","):
                    at_once = classes if way == "at once" else 1
                    if (method, str(classes), way) in done:
                        continue
                    with pretend_device() as device:
                        count = launches(device, method, classes, at_once)
                    row = {"method": method, "classes": classes, "way": way}
                    add({**row, "launches": f"{count:.0f}", **where_and_when(1)})
                    print(row, round(count), flush=True)


if __name__ == "__main__":
    main()

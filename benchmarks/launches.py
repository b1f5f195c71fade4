"""Count the operators that a step of each method launches, at 10 to 100 classes.

    python benchmarks/launches.py [--out FILE.csv] [--picture FILE.svg]    # no GPU; half an hour

What a small step costs on a GPU is the launching of its operators. They are counted on the pretend
device of the tests: operators that start a kernel, not views and allocations; the mean over STEPS
steps, with the settings of ``conf/tuned`` for digits, 32 random images of 8 x 8 per class, ipc 1.

- at once: as many classes as the data has, the way a GPU takes them if they fit.
- one by one: classes one after another (``engine.classes=1``).
- plain loop: :func:`plain.class_loop`, the step as the public code writes it.

A repeated command counts only the missing rows.
"""

import argparse
import functools
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib
from hydra import compose, initialize_config_dir
from made_up import append_row, made_up, read_rows, synthetic_set, where_and_when
from matplotlib.figure import Figure
from plain import class_loop

from dcond.cli.instantiate import build
from dcond.paths import conf_dir
from dcond.report.figure_style import COLOURS, MARKERS, STYLE
from dcond.rng import Streams

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from helpers.pretend_device import PretendDevice, pretend_device

TABLE = Path("benchmarks/cpu/launches.csv")
AT_ONCE, ONE_BY_ONE, PLAIN = "at once", "one by one", "plain loop"
METHODS = ("dm", "m3d", "dc", "dsa", "degm", "idc", "hmdc")
TRAINED = ("idm", "ncfm", "mtt")  # match under trained networks; only at 10 classes
LOOPS = ("dm", "dc", "dsa")  # of plain.class_loop
CLASSES = (10, 20, 50, 100)
ENDS = (10, 100)  # of the ways whose operators grow in proportion
STEPS = 4  # on one network of HMDC
TICKS = (100, 1_000, 10_000, 100_000)


def launches(device: PretendDevice, method: str, classes: int, way: str, folder: str) -> float:
    """Return the operators per step; ``folder`` caches trained networks."""
    words = [
        f"method={method}",
        f"engine.classes={classes if way == AT_ONCE else 1}",
        "engine.chunk=2048",
        "engine.compile=false",
        "engine.precision=float32",
    ]
    if method != "mtt":
        words.append("method.batch_real=32")
    if method in ("ncfm", "mtt"):  # a step takes one expert, however many there are
        words += [f"method.experts.folder={folder}", "method.experts.count=1"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("condense", words)
    made = build(cfg.method, f"method={method}")
    real, rng = made_up(classes, 40, 8, channels=1).to(device.name), Streams(0)
    synthetic = synthetic_set(real, 1, made.factor)
    if way == PLAIN:
        step = class_loop(made, real, synthetic, rng)
    else:
        step = functools.partial(made.step, real, synthetic, made.init(real, synthetic, rng))

    device.reset()
    for _ in range(STEPS):
        step()
    return device.launches.total() / STEPS


def cases(methods: Iterable[str]) -> Iterator[tuple[str, int, str]]:
    """Yield every method, number of classes and way that is counted."""
    for method in methods:
        counted = {
            AT_ONCE: CLASSES if method in METHODS else (10,),
            PLAIN: ENDS if method in LOOPS else (),
            ONE_BY_ONE: () if method in TRAINED else ENDS,
        }
        if method == "hmdc":  # takes too long at 100 classes
            counted[ONE_BY_ONE] = (10,)
        yield from ((method, classes, way) for way, row in counted.items() for classes in row)


def draw(rows: list[dict[str, str]], picture: Path) -> None:
    """Draw the operators over the number of classes, one panel per way."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.5, 3.6), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        for panel, way in zip(panels, (AT_ONCE, ONE_BY_ONE, PLAIN), strict=True):
            for method, colour, marker in zip(METHODS, COLOURS, MARKERS, strict=False):
                counts = {
                    int(row["classes"]): int(row["launches"])
                    for row in rows
                    if (row["method"], row["way"]) == (method, way)
                }
                x = sorted(counts)
                y = [counts[classes] for classes in x]
                label = method.upper() if way == AT_ONCE else None
                panel.plot(x, y, color=colour, marker=marker, label=label)
            panel.set(xscale="log", yscale="log", title=way, xlabel="classes")
            panel.set_xticks(CLASSES, [str(value) for value in CLASSES])
            panel.set_yticks(TICKS, [f"{value:,}" for value in TICKS])
            panel.set_ylim(TICKS[0], TICKS[-1])
            panel.minorticks_off()
            panel.grid(True)
        panels[0].set_ylabel("operators per step")
        figure.legend(loc="outside right center")
        figure.savefig(picture, metadata={"Date": None})


def main() -> None:
    """Count what the table lacks, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--methods", default=",".join((*METHODS, *TRAINED)))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    rows = read_rows(arguments.out)
    done = {(row["method"], int(row["classes"]), row["way"]) for row in rows}
    for case in cases(arguments.methods.split(",")):
        if case in done:
            continue
        with pretend_device() as device, tempfile.TemporaryDirectory() as folder:
            count = launches(device, *case, folder)
        method, classes, way = case
        row = {"method": method, "classes": classes, "way": way}
        append_row(arguments.out, {**row, "launches": f"{count:.0f}", **where_and_when(1)})
        print(row, round(count), flush=True)
    if arguments.picture:
        draw(read_rows(arguments.out), arguments.picture)


if __name__ == "__main__":
    main()

"""Accuracy over seconds of condensing: with and without a bank of real targets, and public code.

    DCOND_DATA=DIR python benchmarks/time_to_accuracy.py run [--public PUBLIC] [CURVE ...]
    python benchmarks/time_to_accuracy.py draw      # docs/images/time_to_accuracy.png

The clock runs in image steps only. Snapshots of all codes are evaluated by ``dcond evaluate`` under
one short protocol with two networks: the figure compares speeds, and its accuracies are not those
of the published protocol. One process at a time, on a quiet machine. PUBLIC is a checkout of github
VICO-UoE/DatasetCondensation, commit 53f63a6, unchanged: the script adds what current packages need
(public_evaluator.py), the data, and a clock in its optimiser.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from made_up import read_rows, where_and_when, write_rows
from public_dsa import fashion_mnist
from public_evaluator import public_code

TABLE = Path("benchmarks/cpu/time_to_accuracy.csv")
FIGURE = Path("docs/images/time_to_accuracy.png")
PROTOCOL = (
    "evaluation=dsa1000 evaluation.epochs=301 evaluation.lr_milestones=[0.505] "
    "evaluation.repeats=2 pool=convnet"
)
M3D = "experiment=m3d dataset=cifar10 ipc=1 method.steps=100000"
DM = "experiment=dm/parity_fashion_mnist method.steps=100000"
DSA = "experiment=dsa/parity_fashion_mnist ipc=1 method.steps_per_network=1 method.steps=100000"
CURVES = {  # overrides, seconds of steps, steps between two evaluations
    "M3D, new targets": (M3D, 600, 100),
    "M3D, 300 targets": (f"{M3D} method.targets=300", 600, 600),
    "DM, new targets": (DM, 120, 100),
    "DM, 100 targets": (f"{DM} method.targets=100", 120, 200),
    "DSA, new targets": (DSA, 120, 10),
    "DSA, 30 targets": (f"{DSA} method.targets=30", 120, 25),
}
PUBLIC_SECONDS, PUBLIC_EVERY = 120, 20
PUBLIC_LOOPS = {  # script and its method, ipc, learning rate of the images
    "DM, public code": ("main_DM.py", 10, 1.0),
    "DSA, public code": ("main.py --method DSA", 1, 0.1),
}
PUBLIC_OPTIONS = (
    "--dataset FashionMNIST --model ConvNetW32 --ipc {ipc} --init real "
    "--Iteration 100000 --num_exp 1 --num_eval 0 --lr_img {lr:g} "
    "--dsa_strategy color_crop_cutout_flip_scale_rotate"
)


class _TimeIsUpError(Exception):
    """The public loop has had its time."""


def curve_of_dcond(name: str) -> tuple[str, list[tuple[float, float]]]:
    """Run a curve of dcond; return its command, and seconds and accuracy of its evaluations."""
    overrides, seconds, every = CURVES[name]
    command = (
        f"{overrides} {PROTOCOL} max_seconds={seconds} loop.evaluate_every={every} "
        f"loop.record_every={every} evaluate=false baselines=false tensorboard=false"
    )
    with tempfile.TemporaryDirectory() as place:
        _dcond("condense", *command.split(), f"hydra.run.dir={place}/run")
        lines = (Path(place) / "run" / "metrics.jsonl").read_text().splitlines()
    clock: dict[int, float] = {}
    found = []
    for record in map(json.loads, lines):
        if "condense/wall_s" in record:
            clock[record["step"]] = record["condense/wall_s"]
        if "evaluate/average" in record:
            found.append((clock[record["step"]], record["evaluate/average"]))
    return f"dcond condense {command}", found


def curve_of_public(name: str, folder: Path) -> tuple[str, list[tuple[float, float]]]:
    """Run a public loop with a clock; return its command, and seconds and accuracy."""
    script, ipc, lr = PUBLIC_LOOPS[name]
    command = f"{script} {PUBLIC_OPTIONS.format(ipc=ipc, lr=lr)}"
    utils = public_code(folder)
    utils.get_dataset = fashion_mnist
    snapshots: list[tuple[float, torch.Tensor]] = []
    started, plain = 0.0, torch.optim.SGD.step

    def timed(optimiser: torch.optim.SGD, *args: Any) -> Any:
        nonlocal started
        (group,) = optimiser.param_groups
        if group["lr"] != lr:  # of a network
            return plain(optimiser, *args)
        now = time.perf_counter()
        started = started or now
        if now - started >= PUBLIC_EVERY * len(snapshots):
            snapshots.append((now - started, group["params"][0].detach().clone()))
        if now - started > PUBLIC_SECONDS:
            raise _TimeIsUpError
        return plain(optimiser, *args)

    torch.optim.SGD.step = timed
    try:
        with tempfile.TemporaryDirectory() as place:
            sys.argv = [*command.split(), "--save_path", place, "--data_path", place]
            public = importlib.import_module(sys.argv[0].removesuffix(".py"))
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(_TimeIsUpError):
                public.main()
    finally:
        torch.optim.SGD.step = plain
    found = [(seconds, _accuracy(images, ipc)) for seconds, images in snapshots[1:]]
    return command, found


def _accuracy(images: torch.Tensor, ipc: int) -> float:
    """Evaluate images of the public code, normalised as there."""
    with tempfile.TemporaryDirectory() as place:
        file, out = Path(place) / "set.pt", Path(place) / "run"
        torch.save({"images": images, "labels": torch.arange(10).repeat_interleave(ipc)}, file)
        _dcond(
            "evaluate",
            f"synthetic={file}",
            "dataset=fashion_mnist",
            "dataset.stats=legacy",
            "synthetic.normalised=true",
            *PROTOCOL.split(),
            "pool.networks.ConvNet.width=32",
            "baselines=false",
            f"hydra.run.dir={out}",
        )
        result = json.loads((out / "result.json").read_text())
        return float(result["evaluation"]["average"])


def _dcond(*arguments: str) -> None:
    data = f"dataset.data_dir={os.environ['DCOND_DATA']}"
    subprocess.run(
        [sys.executable, "-m", "dcond", *arguments, data], check=True, capture_output=True
    )


def run(names: list[str], public: Path | None) -> None:
    """Run curves and replace their rows in the table."""
    for name in names:
        if name in PUBLIC_LOOPS:
            if public is None:
                sys.exit(f"{name}: give --public, a checkout of the public code.")
            command, found = curve_of_public(name, public)
        else:
            command, found = curve_of_dcond(name)
        if not found:
            sys.exit(f"{name}: no step was evaluated within its time; is the machine busy?")
        where = where_and_when(torch.get_num_threads())
        rows = [row for row in read_rows(TABLE) if row["curve"] != name]
        rows += [
            {
                "curve": name,
                "seconds": f"{seconds:.1f}",
                "accuracy": f"{accuracy:.4f}",
                **where,
                "command": command,
            }
            for seconds, accuracy in found
        ]
        write_rows(TABLE, rows)
        print(f"{name}: {100 * found[-1][1]:.1f} % after {found[-1][0]:.0f} s", flush=True)


def draw() -> None:
    """Draw the table: a panel per method, accuracy in per cent over seconds of steps."""
    import matplotlib.pyplot as plt

    rows = read_rows(TABLE)
    methods = list(dict.fromkeys(row["curve"].partition(",")[0] for row in rows))
    figure, panels = plt.subplots(1, len(methods), figsize=(4 * len(methods), 3), squeeze=False)
    for panel, method in zip(panels[0], methods, strict=True):
        own = [row for row in rows if row["curve"].startswith(f"{method},")]
        for name in dict.fromkeys(row["curve"] for row in own):
            points = [row for row in own if row["curve"] == name]
            panel.plot(
                [float(row["seconds"]) for row in points],
                [100 * float(row["accuracy"]) for row in points],
                marker="o",
                markersize=3,
                label=name.partition(", ")[2],
            )
        panel.set(title=method, xlabel="seconds of image steps", ylabel="test accuracy, %")
        panel.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=130)


def main() -> None:
    """Parse the command line and run or draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "draw"))
    parser.add_argument("curves", nargs="*", metavar="CURVE", help="run only these")
    parser.add_argument("--public", type=Path, help="a checkout of the public code")
    options = parser.parse_intermixed_args()
    known = [*CURVES, *PUBLIC_LOOPS]
    if unknown := set(options.curves) - set(known):
        parser.error(f"{', '.join(sorted(unknown))} unknown; allowed: {', '.join(known)}")
    if options.what == "draw":
        draw()
    else:
        run(options.curves or known, options.public)


if __name__ == "__main__":
    main()

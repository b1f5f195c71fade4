"""Time a step of each method on this machine, against the plain loop, as the data grow.

    python benchmarks/bench.py [--device cuda] [--out FILE.csv]   # quiet machine, an hour
    python benchmarks/growth.py FILE.csv PICTURE.png              # the figure
    python benchmarks/bench.py --methods dm,dsa --set model.width=128 --out other.csv

From a base point (ConvNet 3x16, 10 classes, ipc 1, 32 real images of 32 x 32 per class) one of
classes, ipc, real batch and image size grows at a time. Images are random; each point has a
process of its own, in which both forms run. A row is written as soon as its point is measured; a
repeated command measures only the missing points.

- seconds: median over steps after the first, as ``dcond condense`` takes them, freed memory kept.
- plain_seconds: the same for the plain form. DM, M3D: class by class, whole classes through the
  network. Others: the method with ``engine=exact`` (class by class, float32, eager).
- images_per_s: real images of the class batches per second.
- peak_bytes: CUDA: peak of allocated memory. CPU: peak of resident memory in a step, above that
  before it.
- flops: of convolutions and matrix products in a step of the plain form, forward and backward
  (torch's flop counter).
- share: flops / seconds / attainable, the measured rate of a large matrix product in this process,
  in float32, or in bfloat16 if the device supports it and it is faster. Empty if torch cannot
  count.
"""

import argparse
import datetime
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

BASE = {"classes": 10, "ipc": 1, "batch_real": 32, "size": 32}
SERIES = {
    "ipc": (1, 10, 50),
    "batch_real": (32, 128, 512),
    "size": (32, 64, 128),
    "classes": (10, 100, 1000),
}
METHODS = ("dm", "m3d", "dc", "dsa", "degm", "idc", "hmdc")
KEY = ("method", *BASE, "device", "words")
FIGURES = (
    "seconds",
    "plain_seconds",
    "images_per_s",
    "peak_bytes",
    "flops",
    "attainable_flops",
    "share",
)
FIELDS = (*KEY, "status", *FIGURES, "machine", "threads", "torch", "dcond", "date")
FEATURES = ("dm", "m3d")  # their plain form is class by class
OVERRIDES = ("model.width=16", "pool@learners=convnet_vit_small", "engine.compile=false")
STEPS, SECONDS = 5, 8.0  # limits of the timed steps
LIMIT_S = 1200  # of a point; HMDC at 1,000 classes needs more than 240 on two cores


def points(methods: list[str]) -> list[dict[str, Any]]:
    """Return every point of every series once, the base point first."""
    result: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, values in SERIES.items():
        for value in values:
            for method in methods:
                point = {"method": method, **BASE, name: value}
                result.setdefault(tuple(point.values()), point)
    return list(result.values())


class Point:
    """A method at a point, in both forms."""

    def __init__(self, point: dict[str, Any]):
        from made_up import made_method, made_up, synthetic_set

        from dcond.device import resolve_device, wait_for
        from dcond.rng import Streams

        self.point, self.device = point, resolve_device(point["device"])
        self.wait = functools.partial(wait_for, self.device)
        overrides = [*point["words"].split(), f"method.batch_real={point['batch_real']}"]
        self.real = made_up(
            point["classes"], max(point["batch_real"], point["ipc"]), point["size"]
        ).to(self.device)
        self.ours = made_method(point["method"], overrides)
        self.separable = point["method"] in FEATURES
        self.plain = (
            self.ours
            if self.separable
            else made_method(point["method"], [*overrides, "engine=exact"])
        )
        self.synthetic = synthetic_set(self.real, point["ipc"], self.ours.factor)
        self.streams = Streams

    def form(self, name: str) -> Callable[[], object]:
        """Return a function that runs one step of a form and updates the images."""
        method, rng = (self.ours if name == "ours" else self.plain), self.streams(0)
        state = method.init(self.real, self.synthetic, rng)
        if name == "plain" and self.separable:
            from plain import class_by_class

            return lambda: class_by_class(method, self.real, self.synthetic, state)
        return lambda: method.step(self.real, self.synthetic, state)

    def seconds(self, step: Callable[[], object]) -> float:
        """Return the median seconds of a step after the first."""
        durations: list[float] = []
        while len(durations) < STEPS + 1 and (len(durations) < 2 or sum(durations[1:]) < SECONDS):
            start = time.perf_counter()
            step()
            self.wait()
            durations.append(time.perf_counter() - start)
        return statistics.median(durations[1:])

    def peak(self, step: Callable[[], object]) -> int:
        """Return the peak memory of a step in bytes; on a CPU above that before it."""
        import torch

        from dcond.device import peak_memory_bytes

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            step()
            return peak_memory_bytes(self.device)
        before = peak_memory_bytes(self.device)
        step()
        return peak_memory_bytes(self.device) - before

    def attainable(self, dtype: Any) -> float:
        """Return the best rate of a large matrix product, in FLOP/s."""
        import torch

        n = 8192 if self.device.type == "cuda" else 2048
        a, b = (torch.ones(n, n, dtype=dtype, device=self.device) for _ in range(2))
        best = float("inf")
        for _ in range(6):
            start = time.perf_counter()
            torch.mm(a, b)
            self.wait()
            best = min(best, time.perf_counter() - start)
        return 2 * n**3 / best


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Measure a point in this process."""
    import torch

    from dcond.device import tune_malloc
    from dcond.matching.fast_forward import has_fast_bfloat16

    tune_malloc()
    point = Point(settings)
    ours, plain = point.form("ours"), point.form("plain")
    ours()  # warm-up
    peak = point.peak(ours)
    seconds, plain_seconds = point.seconds(ours), point.seconds(plain)
    flops = flops_of(plain)
    half = has_fast_bfloat16(point.device)
    rates = [point.attainable(dtype) for dtype in (torch.float32, *[torch.bfloat16] * half)]
    return {
        "seconds": seconds,
        "plain_seconds": plain_seconds,
        "images_per_s": settings["classes"] * settings["batch_real"] / seconds,
        "peak_bytes": peak,
        "flops": "" if flops is None else flops,
        "attainable_flops": max(rates),
        "share": "" if flops is None else flops / seconds / max(rates),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name(point.device)
        if point.device.type == "cuda"
        else processor(),
    }


def flops_of(step: Callable[[], object]) -> int | None:
    """Return the operations of a step; None if torch cannot count them, as for HMDC."""
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with FlopCounterMode(display=False) as counter:
            step()
    except RuntimeError as error:
        if "leaf node" not in str(error):
            raise
        return None
    return counter.get_total_flops()


def processor() -> str:
    """Return the model of the CPU and its number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores"


def row(point: dict[str, Any]) -> dict[str, str]:
    """Measure a point in a process of its own and return its row with its status."""
    known = {**point, "dcond": version("dcond"), "date": datetime.date.today(), "status": "done"}
    command = [sys.executable, __file__, "--point", json.dumps(point)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
        known |= json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        known["status"] = f"longer than {LIMIT_S} s"
    except subprocess.CalledProcessError as error:
        known["status"] = f"exit {error.returncode}: {(error.stderr.splitlines() or [''])[-1][:80]}"
    return {
        name: f"{value:.4g}" if isinstance(value, float) else str(value)
        for name, value in known.items()
    }


def main() -> None:
    """Measure the missing points; with --point, be the process of one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an override of dcond condense",
    )
    parser.add_argument("--out", type=Path, help="the CSV (default: benchmarks/DEVICE/bench.csv)")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        print(json.dumps(measure(options.point)))
        return
    from made_up import append_row, read_rows

    table = options.out or Path("benchmarks") / options.device.partition(":")[0] / "bench.csv"
    known = read_rows(table)
    done = {tuple(each[name] for name in KEY) for each in known if each["status"] == "done"}
    for point in points(options.methods.split(",")):
        point |= {"device": options.device, "words": " ".join([*OVERRIDES, *options.set])}
        if tuple(str(point[name]) for name in KEY) in done:
            continue
        measured = row(point)
        append_row(table, {name: measured.get(name, "") for name in FIELDS})
        print(
            " ".join(measured[name] for name in ("method", *BASE)),
            measured.get("seconds", measured["status"]),
            flush=True,
        )


if __name__ == "__main__":
    main()

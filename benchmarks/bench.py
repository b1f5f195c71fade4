"""What a step of each method costs on this machine, against the plain per-class loop, and how that grows.

    python benchmarks/bench.py [--device cuda] [--out FILE.csv]     # quiet machine, an hour on two cores
    python benchmarks/growth.py FILE.csv PICTURE.png                # the figure
    python benchmarks/bench.py --methods dm,dsa --set model.width=128 --set engine.compile=true --out other.csv

From a base point (ConvNet 3x16, 10 classes, ipc 1, 32 real images of 32 x 32 per class) one of
classes, ipc, real batch and image size grows at a time. Images are made up; each point has a
process of its own, in which both forms run. A row is written as soon as its point is measured;
repeated, the command measures only the points that the file lacks.

- seconds: median over steps after the first, as ``dcond condense`` takes them, freed memory kept.
- plain_seconds: the same for the plain form. DM, M3D: one class after the other, each class through
  the network whole. Others: the method with ``engine=exact`` (class after class, float32, eager).
- images_per_s: real images of the class batches per second.
- peak_bytes: CUDA: peak of allocated memory. CPU: peak of resident memory in a step above what
    stood before it.
- flops: of convolutions and matrix products in a step of the plain form, forward and backward
    (torch's flop counter).
- share: flops / seconds / attainable, the measured rate of a large matrix product in this process:
  in float32, or in bfloat16 where the device has that and it is faster. Empty where torch cannot
  count.
"""

import argparse
import csv
import dataclasses
import datetime
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
FEATURES = ("dm", "m3d")  # the plain form of these is one class after the other
WORDS = ("model.width=16", "pool@learners=convnet_vit_small", "engine.compile=false")
STEPS, SECONDS = 5, 8.0  # steps timed at most, and seconds after which no further one is
LIMIT_S = 1200  # of a point; 240 were too few for HMDC at 1,000 classes on two cores


def points(methods: list[str]) -> list[dict[str, Any]]:
    """Return every point of every series once, the base first."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, values in SERIES.items():
        for value in values:
            for method in methods:
                point = {"method": method, **BASE, name: value}
                found.setdefault(tuple(point.values()), point)
    return list(found.values())


class Point:
    """One method at one point, in both forms."""

    def __init__(self, point: dict[str, Any]):
        from made_up import made_method, made_up, synthetic_set

        from dcond.device import resolve_device
        from dcond.rng import Streams

        self.point, self.device = point, resolve_device(point["device"])
        words = [*point["words"].split(), f"method.batch_real={point['batch_real']}"]
        self.real = made_up(
            point["classes"], max(point["batch_real"], point["ipc"]), point["size"]
        ).to(self.device)
        self.ours = made_method(point["method"], words)
        self.separable = point["method"] in FEATURES
        self.plain = (
            self.ours if self.separable else made_method(point["method"], [*words, "engine=exact"])
        )
        self.synthetic = dataclasses.replace(
            synthetic_set(self.real, point["ipc"]), factor=self.ours.factor
        )
        self.streams = Streams

    def form(self, name: str) -> Callable[[], object]:
        """Return what does one step of a form; the images are moved on."""
        method, rng = (self.ours if name == "ours" else self.plain), self.streams(0)
        state = method.init(self.real, self.synthetic, rng)
        if name == "plain" and self.separable:
            from plain import class_by_class

            return lambda: class_by_class(method, self.real, self.synthetic, state)
        return lambda: method.step(self.real, self.synthetic, state)

    def seconds(self, step: Callable[[], object]) -> float:
        """Return the median seconds of a step after the first."""
        took: list[float] = []
        while len(took) < STEPS + 1 and (len(took) < 2 or sum(took[1:]) < SECONDS):
            start = time.perf_counter()
            step()
            self.wait()
            took.append(time.perf_counter() - start)
        return statistics.median(took[1:])

    def wait(self) -> None:
        """Let the device finish."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak(self, step: Callable[[], object]) -> int:
        """Return the peak memory of a step, bytes: above what stood before it on a CPU."""
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
        """Return the rate of a large matrix product, FLOP/s: the best of several."""
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


def measured(given: dict[str, Any]) -> dict[str, Any]:
    """Measure a point in this process."""
    import torch

    from dcond.device import tune_malloc
    from dcond.matching.fast_forward import has_fast_bfloat16

    tune_malloc()
    point = Point(given)
    ours, plain = point.form("ours"), point.form("plain")
    ours()  # warms up, and builds what is built once
    peak = point.peak(ours)
    seconds, plain_seconds = point.seconds(ours), point.seconds(plain)
    flops = flops_of(plain)
    half = has_fast_bfloat16(point.device)
    rates = [point.attainable(dtype) for dtype in (torch.float32, *[torch.bfloat16] * half)]
    return {
        "seconds": seconds,
        "plain_seconds": plain_seconds,
        "images_per_s": given["classes"] * given["batch_real"] / seconds,
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
    """Return the operations of a step; None where torch's counter cannot follow it, as HMDC's gradients of features."""
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
    """Measure a point in a process of its own and return its row; what stopped it is its status."""
    known = {**point, "dcond": version("dcond"), "date": datetime.date.today(), "status": "done"}
    words = [sys.executable, __file__, "--point", json.dumps(point)]
    try:
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=LIMIT_S)
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
        help="a setting of dcond condense",
    )
    parser.add_argument("--out", type=Path, help="the CSV (default: benchmarks/DEVICE/bench.csv)")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.point is not None:
        print(json.dumps(measured(given.point)))
        return
    table = given.out or Path("benchmarks") / given.device.partition(":")[0] / "bench.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    known = []
    if table.exists():
        with table.open() as file:
            known = list(csv.DictReader(file))
    there = {tuple(each[name] for name in KEY) for each in known if each["status"] == "done"}
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if not known:
            writer.writeheader()
        for point in points(given.methods.split(",")):
            point |= {"device": given.device, "words": " ".join([*WORDS, *given.set])}
            if tuple(str(point[name]) for name in KEY) in there:
                continue
            found = row(point)
            writer.writerow(found)
            file.flush()
            print(
                " ".join(found[name] for name in ("method", *BASE)),
                found.get("seconds", found["status"]),
                flush=True,
            )


if __name__ == "__main__":
    main()

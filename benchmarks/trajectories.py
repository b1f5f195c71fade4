"""Measure a step of trajectory matching by student steps, segments and gradient.

    python benchmarks/trajectories.py     # write benchmarks/cpu/trajectories.csv

ConvNet-3 of width 32, ten classes of 32 x 32 colour images at random, ten images per class, DSA;
the last rows have the size of CIFAR-100 at ipc 10, as published: 100 classes, width 128, with few
student steps, since memory depends on the segment alone. Every row has a process of its own with
one thread: the CPU seconds of the second of two steps, and the peak of resident memory above that
before the steps. The heap is returned to the system before each step, so the seconds include its
growth. CPU seconds do not need a quiet machine.
"""

import csv
import subprocess
import sys
import time
from pathlib import Path

import torch

from dcond.augment import DiffAug
from dcond.device import peak_memory_bytes, reset_peak_memory
from dcond.matching.trajectories import draw_batches, match_trajectory, student_loss
from dcond.models import ConvNet
from dcond.types import ImageSpec

TABLE = Path("benchmarks/cpu/trajectories.csv")
CLASSES, IPC, SIDE, WIDTH = 10, 10, 32, 32
ROWS = [  # student steps, segment (0: the full graph), gradient, classes, width
    *((steps, 0, "exact", CLASSES, WIDTH) for steps in (5, 10, 30)),
    *((30, segment, "exact", CLASSES, WIDTH) for segment in (15, 5, 1)),
    (30, 1, "tesla", CLASSES, WIDTH),
    (80, 5, "exact", CLASSES, WIDTH),  # DATM's number of steps, in the segments of its experiment
    (2, 1, "exact", 100, 128),
    (5, 5, "exact", 100, 128),  # the segment of the experiments
]


def measure(
    steps: int,
    segment: int,
    gradient: str,
    classes: int = CLASSES,
    width: int = WIDTH,
    ipc: int = IPC,
    side: int = SIDE,
) -> tuple[float, float]:
    """Return CPU seconds and MiB of a step; segment 0 is the full graph."""
    rng = torch.Generator().manual_seed(0)
    augment = DiffAug(["color", "crop", "cutout", "flip", "scale", "rotate"])
    spec = ImageSpec(3, side, side, classes, (0.0,) * 3, (1.0,) * 3)
    network = ConvNet(name="ConvNet", width=width).build(spec, rng)
    names = [name for name, _ in network.named_parameters()]
    start = [p.detach() for p in network.parameters()]
    target = [p + 0.01 * torch.randn(p.shape, generator=rng) for p in start]
    images = torch.randn(classes * ipc, 3, side, side, generator=rng).requires_grad_()
    labels = torch.arange(classes).repeat_interleave(ipc)
    before = peak_memory_bytes(images.device)
    seconds = 0.0
    for _ in range(2):
        batches = draw_batches(len(images), (side, side), steps, len(images), augment, rng, rng)
        loss = student_loss(network, names, {}, images, labels, batches, augment)
        reset_peak_memory(images.device)
        begin = time.process_time()
        match_trajectory(
            loss,
            start,
            target,
            torch.tensor(0.01),
            [images],
            steps,
            segment=segment or None,
            direct=gradient == "tesla",
        )
        seconds = time.process_time() - begin
    return seconds, (peak_memory_bytes(images.device) - before) / 2**20


def main() -> None:
    """Measure every row in a process of its own."""
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        steps, segment, gradient, *size = sys.argv[1:]
        print(*measure(int(steps), int(segment), gradient, *map(int, size)))
        return
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            ["student_steps", "segment", "gradient", "classes", "width", "cpu_s", "peak_mib"]
        )
        for row in ROWS:
            command = [sys.executable, __file__, *map(str, row)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, memory = map(float, done.stdout.split())
            table.writerow([*row, f"{seconds:.2f}", f"{memory:.0f}"])
            print(*row, f"{seconds:.2f} s {memory:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()

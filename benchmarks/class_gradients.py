"""Time a complete DSA step: the engine of gradient matching against the loop of the public code.

    python benchmarks/class_gradients.py    # quiet machine, 15 minutes

Writes benchmarks/cpu/class_gradients.csv. The loop is written as in the public code: class by
class, all graphs in memory, one backward pass at the end, the network eager in float32. ConvNet
3x128, 256 random real images of 32 x 32 per class. A step samples the real images, augments both
sides, computes the image gradient and applies it. Each time is the median over repeats in which
the ways alternate, measured twice; each memory peak is that of a process of its own above its
data.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from made_up import AUGMENT, made_up, medians, synthetic_set, write
from torch import Tensor

from dcond.device import peak_memory_bytes, tune_malloc
from dcond.matching.batches import decoded_by_class, real_by_class, siamese_augment
from dcond.matching.distances import rowwise
from dcond.matching.engine import Engine
from dcond.models import ConvNet
from dcond.rng import generator

TABLE = Path("benchmarks/cpu/class_gradients.csv")
LOOP = "public loop"
ENGINES = {
    "engine, float32, eager": Engine(precision="float32", compile=False),
    "engine, float32": Engine(precision="float32", compile=True),
    "engine, mixed": Engine(precision="bfloat16", compile=True),
}
BATCH_REAL = 256


class Step:
    """A DSA step on random data."""

    def __init__(self, classes: int, ipc: int):
        self.name = f"DSA step, {classes} classes, ipc {ipc}"
        self.real = made_up(classes, BATCH_REAL)
        self.synthetic = synthetic_set(self.real, ipc)
        self.network = ConvNet(name="ConvNet", width=128).build(
            self.real.spec, generator(0, "networks")
        )
        self.bound = {
            name: engine.bind(self.network, self.real.spec, 1) for name, engine in ENGINES.items()
        }

    def seconds(self, way: str, repeat: int) -> float:
        """Time a step; the same repeat samples the same images and augmentations."""
        start = time.perf_counter()
        gradient = self.gradient(way, repeat)
        with torch.no_grad():
            self.synthetic.images -= 0.0 * gradient  # an update that changes nothing
        return time.perf_counter() - start

    def gradient(self, way: str, repeat: int) -> Tensor:
        """Return the gradient of the loss with respect to the stored images."""
        rng = generator(repeat, "step")
        compute: Callable[[torch.Generator], Tensor] = (
            self._loop if way.startswith(LOOP) else self._engine(way)
        )
        return compute(rng)

    def _engine(self, way: str) -> Callable[[torch.Generator], Tensor]:
        def compute(rng: torch.Generator) -> Tensor:
            batch = real_by_class(self.real, BATCH_REAL, rng)
            decoded = self.real.spec.normalise(decoded_by_class(self.synthetic))
            leaf = decoded.detach().requires_grad_(True)
            batch, images = siamese_augment(AUGMENT, batch, leaf, rng)
            (towards,) = torch.autograd.grad(
                images, leaf, self.bound[way].match(batch, images, rowwise).gradient
            )
            return torch.autograd.grad(decoded, self.synthetic.images, towards)[0]

        return compute

    def _loop(self, rng: torch.Generator) -> Tensor:
        loss = torch.zeros(())
        parameters = list(self.network.parameters())
        batch = real_by_class(self.real, BATCH_REAL, rng)
        images = self.real.spec.normalise(decoded_by_class(self.synthetic))
        batch, images = siamese_augment(AUGMENT, batch, images, rng)
        for c, own in enumerate(batch.tensor()):
            real_loss = F.cross_entropy(self.network(own), torch.full((BATCH_REAL,), c))
            target = [g.detach().clone() for g in torch.autograd.grad(real_loss, parameters)]
            synthetic_loss = F.cross_entropy(
                self.network(images[c]), torch.full((len(images[c]),), c)
            )
            loss = loss + rowwise(
                torch.autograd.grad(synthetic_loss, parameters, create_graph=True), target
            )
        return torch.autograd.grad(loss, self.synthetic.images)[0]


def timed(step: Step, ways: list[str], repeats: int) -> dict[str, list[float]]:
    """Return two attempts per way, each the median over repeats in which the ways alternate."""
    for way in ways:
        step.seconds(way, 0)  # warms up, compiles
    attempts = [medians(step.seconds, ways, repeats) for _ in range(2)]
    return {way: [found[way] for found in attempts] for way in ways}


def rows_of(step: Step, times: dict[str, list[float]]) -> list[tuple[str, float, str]]:
    """Return times, ratios, and the differences of the gradients."""
    rows = []
    for attempt in (0, 1):
        suffix = f"(attempt {attempt + 1})"
        rows += [
            (f"{step.name}: {way} {suffix}", values[attempt], "s") for way, values in times.items()
        ]
        for loop in (f"{LOOP}, memory given back", f"{LOOP}, memory kept"):
            for way in ENGINES:
                ratio = times[loop][attempt] / times[way][attempt]
                rows.append((f"{step.name}: {loop} / {way} {suffix}", ratio, "ratio"))
    exact = step.gradient(LOOP, 0).flatten()
    for way in ENGINES:
        cosine = F.cosine_similarity(exact, step.gradient(way, 0).flatten(), dim=0)
        rows.append((f"{step.name}: 1 - cosine of {way} and the loop", 1 - float(cosine), "1"))
    return rows


def peak(way: str, classes: int, ipc: int) -> float:
    """Return the peak of resident memory during two steps, above that before them, in GiB."""
    tune_malloc()
    step = Step(classes, ipc)
    before = peak_memory_bytes(torch.device("cpu"))
    for repeat in range(2):
        step.seconds(way, repeat)
    return (peak_memory_bytes(torch.device("cpu")) - before) / 2**30


def memory(way: str, classes: int, ipc: int) -> tuple[str, float, str]:
    """Return the memory peak of a way, measured in a process of its own."""
    command = [sys.executable, __file__, way, str(classes), str(ipc)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return (
        f"DSA step, {classes} classes, ipc {ipc}: peak memory, {way}",
        float(done.stdout.split()[-1]),
        "GiB",
    )


def main() -> None:
    """Time all ways; with arguments, measure the memory of one."""
    if len(sys.argv) > 1:
        print(peak(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
        return
    steps = [Step(10, ipc) for ipc in (1, 10)]
    given_back = [timed(step, [f"{LOOP}, memory given back"], 2) for step in steps]  # the default
    tune_malloc()
    rows: list[tuple[str, float, str]] = []
    for step, before in zip(steps, given_back, strict=True):
        rows += rows_of(step, before | timed(step, [f"{LOOP}, memory kept", *ENGINES], 2))
    rows += [memory(way, 10, ipc) for ipc in (1, 10) for way in (LOOP, *ENGINES)]
    rows += [memory(way, 100, 10) for way in (LOOP, "engine, mixed")]
    write(TABLE, rows)


if __name__ == "__main__":
    main()

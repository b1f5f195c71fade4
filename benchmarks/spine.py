"""Time a DM step in one pass and class by class, the effect of kept memory, and start-up.

    DCOND_DATA=DIR python benchmarks/spine.py    # write benchmarks/cpu/spine.csv; quiet machine

The loop is written as in the public code: one class at a time through augmentation, network and
loss, with the same functions, in the same process. Each ratio is the median over alternating
repeats, measured twice.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from made_up import AUGMENT, embedded, made_up, medians, synthetic_set, write
from torch import Tensor

from dcond.device import tune_malloc
from dcond.matching.batches import decoded_by_class, real_by_class
from dcond.matching.mmd import mean_distance
from dcond.models import ConvNet
from dcond.rng import Streams, generator

TABLE = Path("benchmarks/cpu/spine.csv")
NETWORK = ConvNet(name="ConvNet", width=128)
LOOP_CHUNK = 10**9  # the public code passes whole classes


def siamese(real: Tensor, images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment both batches alike, with one draw per class."""
    draw = AUGMENT.draw(len(real), (real.shape[-2], real.shape[-1]), rng)
    return AUGMENT.apply(real, draw), AUGMENT.apply(images, draw)


def one_pass(
    real: Tensor, images: Tensor, network: torch.nn.Module, rng: torch.Generator, chunk: int = 256
) -> Tensor:
    """Return the loss of every class, (k,), all classes in one pass."""
    real, images = siamese(real, images, rng)
    with torch.no_grad():
        target = embedded(network, real, chunk)
    return mean_distance(embedded(network, images, chunk), target)


def per_class_loop(
    real: Tensor, images: Tensor, network: torch.nn.Module, rng: torch.Generator
) -> Tensor:
    """Return the same, class by class."""
    losses = [
        one_pass(real[c : c + 1], images[c : c + 1], network, rng, LOOP_CHUNK)
        for c in range(len(real))
    ]
    return torch.cat(losses)


def same_loss(real: Tensor, images: Tensor, network: torch.nn.Module) -> float:
    """Return the relative difference of both losses on batches with the same augmentation."""
    real, images = siamese(real, images, generator(0, "augmentation"))
    with torch.no_grad():
        together = mean_distance(embedded(network, images, 256), embedded(network, real, 256)).sum()
        alone = sum(
            mean_distance(network.embed(images[c])[None], network.embed(real[c])[None]).sum()
            for c in range(len(real))
        )
    return abs(float(together) / float(alone) - 1)


FORMS = {"one pass": one_pass, "loop": per_class_loop}


class Step:
    """A DM step without its image update, in both forms."""

    def __init__(self, classes: int, batch_real: int, ipc: int):
        self.name = f"DM step, {classes} classes, {batch_real} real, ipc {ipc}"
        real = made_up(classes, batch_real)
        self.synthetic = synthetic_set(real, ipc)
        self.network = NETWORK.build(real.spec, Streams(0).networks).requires_grad_(False)
        self.batch = real_by_class(real, batch_real, generator(0, "real")).tensor()

    def seconds(self, form: str, repeat: int) -> float:
        """Time a step; the same repeat draws the same augmentation."""
        rng = generator(repeat, "augmentation")
        start = time.perf_counter()
        images = self.synthetic.spec.normalise(decoded_by_class(self.synthetic))
        loss = FORMS[form](self.batch, images, self.network, rng)
        torch.autograd.grad(loss.sum(), self.synthetic.images)
        return time.perf_counter() - start


def both_forms(step: Step, repeats: int) -> list[tuple[str, float, str]]:
    """Time both forms, alternating, twice."""
    difference = same_loss(step.batch, decoded_by_class(step.synthetic), step.network)
    rows = [(f"{step.name}: loss difference", difference, "relative")]
    for form in FORMS:
        step.seconds(form, 0)  # warms up
    for attempt in (1, 2):
        times = medians(step.seconds, FORMS, repeats)
        rows += [
            (f"{step.name}: {form} (attempt {attempt})", value, "s")
            for form, value in times.items()
        ]
        ratio = times["loop"] / times["one pass"]
        rows.append((f"{step.name}: loop / one pass (attempt {attempt})", ratio, "ratio"))
    return rows


def memory_kept() -> list[tuple[str, float, str]]:
    """Time a DM step with freed memory kept and given back, in processes of their own."""

    def seconds(form: str, _: int) -> float:
        command = [sys.executable, __file__, form]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(done.stdout)

    times = medians(seconds, ("kept", "given back"), 3)
    name = "DM step, 10 classes, 256 real, ipc 10, freed memory"
    rows = [(f"{name} {form}", value, "s") for form, value in times.items()]
    return [*rows, (f"{name} given back / kept", rows[1][1] / rows[0][1], "ratio")]


def one_process(form: str) -> float:
    """Return the median seconds of a DM step in this process."""
    if form == "kept":
        tune_malloc()
    step = Step(10, 256, 10)
    return statistics.median([step.seconds("one pass", repeat) for repeat in range(4)][1:])


def time_to_help() -> tuple[str, float, str]:
    """Return the median duration of ``dcond condense --help``."""

    def once() -> float:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "dcond", "condense", "--help"], check=True, capture_output=True
        )
        return time.perf_counter() - start

    once()
    return ("dcond condense --help", statistics.median(once() for _ in range(5)), "s")


def memory_of_cifar10() -> tuple[str, float, str]:
    """Return the peak of resident memory while CIFAR-10 is loaded, above that after imports."""
    code = (
        "import torch\nfrom dcond.cli.instantiate import make_dataset\n"
        "from dcond.device import peak_memory_bytes\n"
        "cpu = torch.device('cpu'); made = make_dataset('cifar10', [])\n"
        "before = peak_memory_bytes(cpu); real = made.load(cpu)\n"
        "print((peak_memory_bytes(cpu) - before) / 2**30)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return ("CIFAR-10 in memory, peak above the interpreter", float(done.stdout), "GiB")


def main() -> None:
    """Measure everything; with an argument, be the process of one form."""
    if len(sys.argv) > 1:
        print(one_process(sys.argv[1]))
        return
    rows = memory_kept()
    tune_malloc()
    rows += [
        *both_forms(Step(10, 256, 10), 3),
        *both_forms(Step(100, 32, 1), 3),
        time_to_help(),
        memory_of_cifar10(),
    ]
    write(TABLE, rows)


if __name__ == "__main__":
    main()

"""What has to be measured on the day a GPU is there, in pieces of at most eight minutes.

    python benchmarks/gpu.py                    # what each piece has done and what is missing
    python benchmarks/gpu.py gradients          # a piece; again until nothing of it is missing
    python benchmarks/gpu.py --toy --device cpu --out DIR all   # the same on a CPU in minutes

A piece writes every row of OUT/gpu_PIECE.csv as soon as it is measured. A repeated call goes on
with the missing rows, and a run of ``published`` with its checkpoint.

- gradients: the images' change in one step on the device against the CPU, every method and switch.
- steps: seconds per step of every method at 10 and 100 classes, ``engine=auto`` and the plain form.
- stacks: an epoch of 1, 5 and 20 networks, in turn and at once.
- published: M3D and DM on CIFAR-10 with their published settings: accuracy and time.
- hmdc: seconds per step of HMDC with two and three networks.
- forms: a training step of a network: plain, compiled, without launch overhead, channels-last.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from made_up import (
    AUGMENT,
    append_row,
    made_method,
    made_up,
    read_rows,
    synthetic_set,
    where_and_when,
)

from dcond.device import peak_memory_bytes, reset_peak_memory, seconds, wait_for
from dcond.evaluation import EvaluationProtocol
from dcond.evaluation.vmap_training import Stack, TrainingJob
from dcond.models import ConvNet, Recipe, ResNet, ViT
from dcond.rng import Streams, generator

LIMIT_S = 460.0  # of a call: eight minutes with its start
Row = dict[str, object]
METHODS = ("dm", "m3d", "dc", "dsa", "degm", "idc", "hmdc")
SWITCHES = (
    ("dm",),
    ("m3d",),
    ("m3d", "method.sweep=sequential"),
    ("m3d", "method.kernel=poly2"),
    ("dc",),
    ("dc", "model.norm=batch"),
    ("dc", "model.norm=layer"),
    ("dsa",),
    ("dsa", "method.distance=whole_cosine"),
    ("degm", "method.inner=fixed"),
    ("degm", "method.inner=fixed", "method.levels=inter"),
    ("idc",),
    ("hmdc",),
    ("hmdc", "method.distillation=pairwise"),
    ("hmdc", "method.gbm=false"),
)


@dataclass(frozen=True)
class Setup:
    """Where and how large.

    Attributes:
        device: the device that is measured.
        out: folder of the tables.
        toy: sizes for a test on a CPU.
        deadline: time.monotonic() at which no further row is begun.
    """

    device: torch.device
    out: Path
    toy: bool
    deadline: float

    @property
    def words(self) -> list[str]:
        """Return overrides of a method's sizes."""
        narrow = ["model.width=8", "pool@learners=convnet_vit_small", "method.batch_real=4"]
        return narrow if self.toy else ["method.batch_real=32"]

    def started(self, device: torch.device, classes: int, words: tuple[str, ...]) -> "Started":
        """Return a method on random images, ready for its first step."""
        method, *overrides = words
        return Started(device, classes, 8 if self.toy else 32, method, [*self.words, *overrides])


class Started:
    """A method, its data and its state on a device."""

    def __init__(
        self, device: torch.device, classes: int, size: int, method: str, words: list[str]
    ):
        self.method = made_method(method, ["method.factor=1", *words])
        self.real, rng = made_up(classes, 40, size).to(device), Streams(0)
        self.synthetic = synthetic_set(self.real, 1)
        self.state = self.method.init(self.real, self.synthetic, rng)

    def step(self) -> None:
        """Do one step."""
        self.method.step(self.real, self.synthetic, self.state)


def gradients(setup: Setup) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield every switch, class by class and at once, with its comparison."""
    for words in SWITCHES[:2] if setup.toy else SWITCHES:
        for classes in (1, 10):
            engine = (f"engine.classes={classes}", "engine.precision=float32")
            key: Row = {"method": words[0], "switch": " ".join(words[1:]), "at_once": classes}
            yield key, lambda words=words, engine=engine: _difference(setup, (*words, *engine))


def _difference(setup: Setup, words: tuple[str, ...]) -> Row:
    changes = []
    for device in (setup.device, torch.device("cpu")):
        started = setup.started(device, 10, words)
        before = started.synthetic.images.detach().clone()
        started.step()
        changes.append((started.synthetic.images.detach() - before).cpu().double().flatten())
    ours, expected = changes
    cosine = torch.nn.functional.cosine_similarity(ours, expected, dim=0)
    largest = (ours - expected).abs().max() / expected.abs().max()
    return {"one_minus_cosine": f"{1 - cosine:.2e}", "largest_difference": f"{largest:.2e}"}


def steps(setup: Setup) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield every method at every number of classes in both forms."""
    for classes in (3,) if setup.toy else (10, 100):
        for method in METHODS[:2] if setup.toy else METHODS:
            for form in ("auto", "exact"):
                key: Row = {"method": method, "classes": classes, "engine": form}
                words = (method, f"engine={form}")
                yield key, lambda n=classes, words=words: _step_seconds(setup, n, words)


def _step_seconds(setup: Setup, classes: int, words: tuple[str, ...]) -> Row:
    reset_peak_memory(setup.device)
    started = setup.started(setup.device, classes, words)
    started.step()  # measures the classes at once, compiles
    times = [seconds_of(started.step, setup.device) for _ in range(2 if setup.toy else 10)]
    return {
        "seconds": f"{statistics.median(times):.5f}",
        "peak_bytes": peak_memory_bytes(setup.device),
    }


def stacks(setup: Setup) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield every number of networks, in turn and at once."""
    for count in (2,) if setup.toy else (1, 5, 20):
        for way in ("in turn", "at once"):
            yield {"networks": count, "way": way}, lambda n=count, w=way: _epoch(setup, n, w)


def _epoch(setup: Setup, count: int, way: str) -> Row:
    recipe = ConvNet(name="ConvNet", width=8 if setup.toy else 128)
    protocol = EvaluationProtocol(name="bench", epochs=1, augment=AUGMENT)
    synthetic = synthetic_set(made_up(10, 10), 1).to(setup.device)
    jobs = [TrainingJob(recipe, synthetic, 0, f"bench/{r}", recipe.lr) for r in range(count)]
    groups = [jobs] if way == "at once" else [[job] for job in jobs]
    made = [Stack(group, setup.device) for group in groups]
    optimisers = [protocol.make_optimiser(stack.groups()) for stack in made]

    def epoch() -> None:
        for stack, optimiser in zip(made, optimisers, strict=True):
            stack.epoch(optimiser, protocol.batch, protocol.augment, protocol.cutmix_p)

    times = [seconds_of(epoch, setup.device) for _ in range(2 if setup.toy else 20)]
    return {"seconds": f"{statistics.median(times[1:]):.5f}"}


def published(setup: Setup) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield every published setting with the run that it stands for."""
    toy = ("method=m3d", "debug=tiny", "model.width=8", "method.batch_real=4")
    settings = {"m3d": (1, 10, 50), "dm": (1, 10, 50)}
    for name, ipcs in {"m3d": (1,)}.items() if setup.toy else settings.items():
        for ipc in ipcs:
            words = toy if setup.toy else (f"experiment={name}", "dataset=cifar10")
            words = (*words, f"ipc={ipc}", f"device={setup.device}")
            folder = setup.out / f"gpu_{name}_ipc{ipc}"
            yield {"method": name, "ipc": ipc}, lambda w=words, f=folder: _run(setup, w, f)


def _run(setup: Setup, words: tuple[str, ...], folder: Path) -> Row:
    """Run or resume ``dcond condense``; stop it at the deadline, with a checkpoint."""
    started = (folder / "checkpoint.pt").exists()
    words = (f"resume={folder}",) if started else (*words, f"hydra.run.dir={folder}")
    process = subprocess.Popen([sys.executable, "-m", "dcond", "condense", *words])
    try:
        process.wait(max(1.0, setup.deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise OutOfTimeError from None
    result = json.loads((folder / "result.json").read_text())
    networks = result["evaluation"]["networks"].values()
    average = statistics.fmean(network["mean"] for network in networks)
    return {
        "accuracy": f"{average:.4f}",
        "condense_s": f"{result['cost']['condense_wall_s']:.1f}",
        "evaluate_s": f"{result['cost']['evaluate_wall_s']:.1f}",
    }


def hmdc(setup: Setup) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield HMDC with two and three networks."""
    pools = ("convnet_vit_small",) if setup.toy else ("convnet_vit", "convnet_resnet_vit")
    for pool in pools:
        words = ("hmdc", f"pool@learners={pool}", "method.inner_steps=2" if setup.toy else "")
        chosen = tuple(word for word in words if word)
        yield {"learners": pool}, lambda w=chosen: _step_seconds(setup, 3 if setup.toy else 10, w)


def forms(setup: Setup) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield every form of a training step of every network."""
    wide: dict[str, Recipe] = {
        "ConvNet 3x128": ConvNet(name="ConvNet"),
        "ResNet-18": ResNet(name="ResNet"),
        "ViT 6x192": ViT(name="ViT"),
    }
    narrow: dict[str, Recipe] = {"ConvNet 3x8": ConvNet(name="ConvNet", width=8)}
    names = ("plain", "channels-last") if setup.toy else FORMS
    for name, recipe in (narrow if setup.toy else wide).items():
        for images in (10, 256):
            for form in names:
                key: Row = {"network": name, "images": images, "form": form}
                yield key, lambda r=recipe, n=images, f=form: _training_step(setup, r, n, f)


FORMS = ("plain", "channels-last", "compiled", "reduce-overhead")


def _training_step(setup: Setup, recipe: Recipe, images: int, form: str) -> Row:
    real = made_up(10, 26).to(setup.device)
    layout = torch.channels_last if form == "channels-last" else torch.contiguous_format
    network = recipe.build(real.spec, generator(0, "networks"), setup.device)
    network = network.to(memory_format=layout)
    x = real.normalised(torch.arange(images)).to(memory_format=layout)
    labels = real.train.labels[:images]
    modes = {"compiled": "default", "reduce-overhead": "reduce-overhead"}
    forward = torch.compile(network, mode=modes[form]) if form in modes else network
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        loss = F.cross_entropy(forward(x), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    for _ in range(3):
        step()  # compiles, records
    return {"seconds": f"{seconds(step, setup.device):.6f}"}


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, until the device has finished."""
    start = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - start


class OutOfTimeError(Exception):
    """The rest is for the next call."""


PIECES = {
    "gradients": gradients,
    "steps": steps,
    "stacks": stacks,
    "published": published,
    "hmdc": hmdc,
    "forms": forms,
}


def measure(piece: str, setup: Setup) -> int:
    """Measure the missing rows of a piece until the deadline; return how many are left."""
    path = setup.out / f"gpu_{piece}.csv"
    rows = read_rows(path)
    missing = [
        (key, work)
        for key, work in PIECES[piece](setup)
        if not any(all(row[name] == str(value) for name, value in key.items()) for row in rows)
    ]
    for done, (key, work) in enumerate(missing):
        if time.monotonic() > setup.deadline:
            return len(missing) - done
        try:
            figures = work()
        except OutOfTimeError:
            return len(missing) - done
        row = {
            **key,
            **figures,
            "device": device_name(setup.device),
            **where_and_when(torch.get_num_threads()),
        }
        append_row(path, row)
        print(piece, *key.values(), *figures.values(), flush=True)
    return 0


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the type of another device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def main(arguments: list[str] | None = None) -> None:
    """Measure the named pieces."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pieces", nargs="*", choices=[*PIECES, "all", []], default=[])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/cuda"))
    parser.add_argument("--toy", action="store_true", help="small sizes, for a CPU")
    parser.add_argument("--seconds", type=float, default=LIMIT_S, help="limit of this call")
    given = parser.parse_args(arguments)
    deadline = time.monotonic() + (given.seconds if given.pieces else -1)
    setup = Setup(torch.device(given.device), given.out, given.toy, deadline)
    for piece in PIECES if "all" in given.pieces or not given.pieces else given.pieces:
        left = measure(piece, setup)
        print(f"{piece}: {left} rows left" if left else f"{piece}: complete", flush=True)


if __name__ == "__main__":
    main()

"""Time 1, 5 and 20 seeds of a network trained as a stack, in turn, and one alone.

    python benchmarks/stacked.py    # a minute; writes benchmarks/cpu/stacked.csv, or cuda/ on a GPU

ConvNet 3x32 on 10 random images of 32 x 32, one per class, with DSA augmentation: epochs of the
protocol, without building or testing networks. The ways alternate, twice; each time is the median
over repeats.
"""

import time
from collections.abc import Callable
from pathlib import Path

from made_up import AUGMENT, made_up, medians, synthetic_set, write

from dcond.device import resolve_device, tune_malloc, wait_for
from dcond.evaluation import EvaluationProtocol
from dcond.evaluation.vmap_training import Stack, TrainingJob
from dcond.models import ConvNet

DEVICE = resolve_device("auto")
TABLE = Path(f"benchmarks/{DEVICE.type}/stacked.csv")
RECIPE = ConvNet(name="ConvNet", width=32)
PROTOCOL = EvaluationProtocol(name="bench", epochs=1, augment=AUGMENT)
SEEDS, EPOCHS, REPEATS = (1, 5, 20), 10, 5


class Ways:
    """Epochs of one seed, of all seeds in turn, and of all as a stack."""

    def __init__(self, seeds: int) -> None:
        real = made_up(10, 10)
        synthetic = synthetic_set(real, 1)
        self.trainings = [
            TrainingJob(RECIPE, synthetic, 0, f"bench/{seed}", RECIPE.lr) for seed in range(seeds)
        ]
        self.alone = [self._alone(training) for training in self.trainings]
        self.stack = self._stack()
        self.by_name: dict[str, Callable[[], object]] = {
            "one alone": self.alone[0],
            f"{seeds} in turn": lambda: [epoch() for epoch in self.alone],
            f"{seeds} at once": self.stack,
        }

    def seconds(self, way: str) -> float:
        """Return the seconds of an epoch, the mean of several."""
        start = time.perf_counter()
        for _ in range(EPOCHS):
            self.by_name[way]()
        wait_for(DEVICE)
        return (time.perf_counter() - start) / EPOCHS

    def _alone(self, training: TrainingJob) -> Callable[[], object]:
        network, rng = training.begin(DEVICE)
        images, labels = training.inputs(DEVICE)
        optimiser = PROTOCOL.make_optimiser(
            [{"params": list(network.parameters()), "lr": training.lr}]
        )
        return lambda: PROTOCOL.epoch(network, optimiser, images.__getitem__, labels, rng)

    def _stack(self) -> Callable[[], object]:
        stack = Stack(self.trainings, DEVICE)
        optimiser = PROTOCOL.make_optimiser(stack.groups())
        return lambda: stack.epoch(optimiser, PROTOCOL.batch, PROTOCOL.augment, PROTOCOL.cutmix_p)


def measure(seeds: int) -> list[tuple[str, float, str]]:
    """Return the rows for a number of seeds."""
    ways = Ways(seeds)
    for way in ways.by_name:
        ways.seconds(way)  # warms up
    name = "epoch of ConvNet 3x32, 10 images"
    one, in_turn, at_once = ways.by_name
    rows: list[tuple[str, float, str]] = []
    for attempt in (1, 2):
        times = medians(lambda way, _: ways.seconds(way), ways.by_name, REPEATS)
        rows += [(f"{name}: {way} (attempt {attempt})", value, "s") for way, value in times.items()]
        for below in (in_turn, one):
            ratio = times[at_once] / times[below]
            rows.append((f"{name}: {at_once} / {below} (attempt {attempt})", ratio, "ratio"))
    return rows


def main() -> None:
    """Measure and write the table."""
    tune_malloc()
    write(TABLE, [row for seeds in SEEDS for row in measure(seeds)])


if __name__ == "__main__":
    main()

"""Time a training step of a network: plain, compiled, channels-last, fused attention.

    python benchmarks/network_training.py    # quiet machine, 3 minutes

Writes benchmarks/cpu/network_training.csv. A step on 128 random images of 32 x 32, cross-entropy
and SGD in float32, freed memory kept: the most frequent step of networks that train during
condensing and evaluation. The forms of a network alternate in one process; each time is the
median over the turns, measured twice. Column ratio: plain seconds divided by those of the form;
above 1 is faster.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from made_up import made_up, medians, where_and_when, write_rows

from dcond.device import tune_malloc
from dcond.models import ConvNet, Recipe, ViT
from dcond.rng import generator

TABLE = Path("benchmarks/cpu/network_training.csv")
REAL = made_up(10, 13)
BATCH, TURNS, TIMES = 128, 9, 2
NETWORKS: dict[str, Recipe] = {
    "ConvNet 3x32": ConvNet(name="ConvNet", width=32),
    "ConvNet 3x128": ConvNet(name="ConvNet", width=128),
    "ViT 2x32": ViT(name="ViT", depth=2, width=32, heads=4),
    "ViT 6x192": ViT(name="ViT"),
}
PLAIN, COMPILED, CHANNELS_LAST, FUSED = "plain", "compiled", "channels-last", "fused attention"


def step(recipe: Recipe, form: str) -> Callable[[], None]:
    """Return a function that runs one training step of a network in a form."""
    if form == FUSED:
        recipe = dataclasses.replace(recipe, fused_attention=True)
    layout = torch.channels_last if form == CHANNELS_LAST else torch.contiguous_format
    network = recipe.build(REAL.spec, generator(0, "networks")).to(memory_format=layout)
    images = REAL.normalised(torch.arange(BATCH)).to(memory_format=layout)
    labels = REAL.train.labels[:BATCH]
    forward = torch.compile(network, dynamic=False) if form == COMPILED else network
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)

    def one() -> None:
        loss = F.cross_entropy(forward(images), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    one()  # compiles
    return one


def seconds(call: Callable[[], None]) -> float:
    """Return the duration of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Time every form of every network."""
    tune_malloc()
    rows: list[dict[str, object]] = []
    for name, recipe in NETWORKS.items():
        other = FUSED if isinstance(recipe, ViT) else CHANNELS_LAST
        steps = {form: step(recipe, form) for form in (PLAIN, COMPILED, other)}
        for repeat in range(TIMES):
            median = medians(lambda form, _, steps=steps: seconds(steps[form]), steps, TURNS)
            rows += [
                {
                    "network": name,
                    "form": form,
                    "repeat": repeat,
                    "step_s": f"{duration:.4f}",
                    "ratio": f"{median[PLAIN] / duration:.3f}",
                    **where_and_when(torch.get_num_threads()),
                }
                for form, duration in median.items()
            ]
            print(
                name,
                {form: f"{median[PLAIN] / duration:.2f}" for form, duration in median.items()},
                flush=True,
            )
    write_rows(TABLE, rows)


if __name__ == "__main__":
    main()

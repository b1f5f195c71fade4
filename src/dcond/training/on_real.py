"""Training of a network on all real training images: experts and teachers."""

import time
from collections.abc import Callable
from typing import Any

from torch import nn

from dcond.errors import DivergedError
from dcond.models import Network
from dcond.rng import generator, seeded_layers
from dcond.training.accuracy import accuracy
from dcond.training.schedule import Schedule
from dcond.types import RealData


def train_on_real(
    schedule: Schedule,
    network: Network,
    real: RealData,
    *,
    lr: float,
    seed: int,
    stream: str,
    who: str,
    setting: str,
    after: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train a network on the real training images, test it, and return what is known of it.

    Args:
        schedule: how it is trained.
        network: its weights change.
        real: the data set.
        lr: initial learning rate.
        seed: of the batches.
        stream: name of their random stream.
        who: names the network in messages.
        setting: to be changed where training diverges.
        after: called after each epoch.

    Raises:
        DivergedError: the weights became non-finite.
    """
    start, rng = time.perf_counter(), generator(seed, f"{stream}/batches")

    def check(epoch: int) -> None:
        if not finite(network):
            raise DivergedError(
                f"{who}: its weights are not finite after epoch {epoch} of {schedule.epochs} "
                f"(lr {lr:g}); try a smaller {setting}."
            )
        after()

    with seeded_layers(seed, stream, real.device):
        schedule.run(
            [{"params": list(network.parameters()), "lr": lr}],
            lambda own: schedule.epoch(network, own, real.normalised, real.train.labels, rng),
            check,
            f"{who}: epoch",
        )
    return {
        "accuracy": accuracy(network, real.spec, real.test),
        "lr": lr,
        "epochs": schedule.epochs,
        "seed": seed,
        "wall_s": time.perf_counter() - start,
    }


def finite(network: nn.Module) -> bool:
    """Return whether all weights and buffers of a network are finite."""
    return all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())

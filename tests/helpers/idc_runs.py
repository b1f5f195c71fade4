"""IDC in float64 on a small network, by default without augmentation."""

from dataclasses import dataclass

from dcond.matching.engine import Engine
from dcond.methods.idc import IDC
from dcond.models import ConvNet
from dcond.rng import Streams


@dataclass(frozen=True, kw_only=True)
class DoubleConvNet(ConvNet):
    name: str = "double"
    width: int = 4
    depth: int = 1

    def module(self, spec):
        return super().module(spec).double()


def method(**settings) -> IDC:
    plain = {
        "augment": None,
        "train_augment": None,
        "steps": 1,
        "factor": 1,
        "train_images": 8,
        "batch_train": 4,
    }
    return IDC(
        network=DoubleConvNet(),
        engine=Engine(precision="float32", compile=False),
        **(plain | settings),
    )


def run(real, synthetic, steps, seed=0, **settings):
    """Take steps; return the state."""
    made = method(**settings)
    state = made.init(real, synthetic, Streams(seed))
    for _ in range(steps):
        made.step(real, synthetic, state)
    return state

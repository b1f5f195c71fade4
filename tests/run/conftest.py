"""A method of three lines, and the loop around it: what the engine's tests run."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from dcond.methods.base import NoState
from dcond.rng import Streams
from dcond.run.loop import LoopSettings, Run
from dcond.run.recorder import Recorder
from dcond.run.signals import Stop
from dcond.types import SyntheticSet


@dataclass
class Drift:
    """Adds a little random light in every step. ``at`` maps a step to what else happens in it."""

    steps: int = 20
    factor: int = 1
    lr: float = 0.5
    at: dict[int, Any] = field(default_factory=dict)
    taken: int = 0

    def init(self, real, synthetic, rng):
        self.rng = rng
        return NoState()

    def step(self, real, synthetic, state):
        self.taken += 1
        with torch.no_grad():
            synthetic.images.add_(
                0.01 * torch.rand(synthetic.images.shape, generator=self.rng.real)
            )
        loss = self.at[self.taken](synthetic) if self.taken in self.at else None
        return {"loss": torch.tensor(1.0 / self.taken) if loss is None else loss}


def small_set() -> SyntheticSet:
    images = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0)) / 2
    return SyntheticSet(images, torch.tensor([0, 0, 1, 1]), ("a", "b"), 2, (0.5,), (0.25,))


@pytest.fixture
def make_run(tmp_path, toy):
    """Make a run of a :class:`Drift` in a folder (the test's own unless given)."""
    recorders = []

    def make(
        method=None, *, folder=None, loop=None, stop=None, after_step=0, synthetic=None, **more
    ) -> Run:
        folder = folder or tmp_path
        folder.mkdir(exist_ok=True)
        recorders.append(Recorder(folder, after_step=after_step, tensorboard=False))
        return Run(
            method=method or Drift(),
            real=toy,
            synthetic=synthetic or small_set(),
            rng=Streams(0),
            folder=folder,
            config="a: 1\n",
            loop=loop or LoopSettings(),
            recorder=recorders[-1],
            stop=stop or Stop(),
            **more,
        )

    yield make
    for recorder in recorders:
        recorder.close()


@pytest.fixture
def drift():
    return Drift

"""The loop that runs every method."""

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dcond.engine import checkpoint
from dcond.engine.checkpoint import Checkpoint
from dcond.engine.progress import reporter
from dcond.engine.recording import Recorder, grid
from dcond.engine.signals import Stop
from dcond.errors import DivergedError, require
from dcond.methods.base import Method, State
from dcond.rng import Streams
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How often the loop does what; none of it changes a number of the run.

    Args:
        record_every: steps between two records of the metrics; the device is only waited for then.
        checkpoint_every_s: seconds between two checkpoints.
        images_every: steps between two pictures for TensorBoard; 0 for first and last only.
        evaluate_every: steps between two evaluations of the unfinished set; 0 for none.
        progress_every_s: seconds between two progress lines where there is no terminal.
    """

    record_every: int = 10
    checkpoint_every_s: float = 60.0
    images_every: int = 0
    evaluate_every: int = 0
    progress_every_s: float = 10.0

    def __post_init__(self) -> None:
        require(self.record_every >= 1, f"loop.record_every={self.record_every} is out of range; allowed: 1 or more.")
        for name in ("images_every", "evaluate_every", "checkpoint_every_s", "progress_every_s"):
            require(getattr(self, name) >= 0, f"loop.{name}={getattr(self, name)} is out of range; allowed: 0 or more.")


@dataclass
class Run:
    """One condensation: what is moved, what moves it, and where it is kept."""

    method: Method
    real: RealData
    synthetic: SyntheticSet
    rng: Streams
    folder: Path
    config: str  # YAML, kept in every checkpoint
    loop: Loop
    recorder: Recorder
    stop: Stop
    evaluate: Callable[[SyntheticSet, int], None] | None = None  # periodic evaluation
    max_steps: int | None = None  # stop earlier than the method would
    step: int = 0
    wall_s: float = 0.0
    step_times: list[float] = field(default_factory=list)
    _saved_at: float = 0.0

    def condense(self, resume_from: Checkpoint | None = None) -> None:
        """Run all steps; the result is in ``synthetic.images``.

        Raises:
            DivergedError: a loss or the images stopped being finite; the last good checkpoint stays.
            Interrupted: a signal asked to stop; a checkpoint of the last finished step is kept.
        """
        state = self.method.init(self.real, self.synthetic, self.rng)
        if resume_from is not None:
            self._restore(resume_from, state)
        elif self.steps > 0:
            self._save(state)  # from here on the run can always be resumed
        self._picture()
        with reporter("condense", self.steps, self.step, self.loop.progress_every_s) as bar:
            while self.step < self.steps:
                with self.stop.deferred():
                    metrics = self._advance(state)
                    self._housekeeping(state, metrics, bar.update)
                self.stop.check()
        self._picture(final=True)

    def _advance(self, state: State) -> dict[str, Tensor]:
        """Do one step of the method and keep its time."""
        start = time.perf_counter()
        metrics = self.method.step(self.real, self.synthetic, state)
        self.step += 1
        if self.synthetic.images.is_cuda and self.step % self.loop.record_every == 0:
            torch.cuda.synchronize()
        took = time.perf_counter() - start
        self.wall_s += took
        self.step_times.append(took)
        return metrics

    def _housekeeping(self, state: State, metrics: dict[str, Tensor], show: Callable[[int, str], None]) -> None:
        last = self.step == self.steps
        due = self.wall_s - self._saved_at >= self.loop.checkpoint_every_s
        if last or due or self.stop.requested or self.step % self.loop.record_every == 0:
            values = {f"condense/{name}": float(value) for name, value in metrics.items()}
            self._guard(values)
            self.recorder.scalars({**values, "condense/wall_s": self.wall_s}, self.step)
            show(self.step, f"loss {values['condense/loss']:.4g}")
        if last or due or self.stop.requested:
            self._save(state)
        if self.loop.images_every and self.step % self.loop.images_every == 0 and not last:
            self._picture()
        if self.evaluate and self.loop.evaluate_every and self.step % self.loop.evaluate_every == 0 and not last:
            self.evaluate(self.synthetic, self.step)

    def _guard(self, values: dict[str, float]) -> None:
        """Stop before anything non-finite reaches a checkpoint."""
        bad = [name for name, value in values.items() if not torch.isfinite(torch.tensor(value))]
        if not bad and not bool(torch.isfinite(self.synthetic.images).all()):
            bad = ["images"]
        if bad:
            rate = getattr(self.method, "lr", None)
            raise DivergedError(
                f"{bad[0]} is not finite after step {self.step} (loss {values['condense/loss']}, lr {rate}). "
                "The last good checkpoint stays; try a smaller method.lr."
            )

    def _save(self, state: State) -> None:
        images = self.synthetic.images.detach()
        moment = Checkpoint(self.step, self.config, images, state.state_dict(), self.rng.state_dict(), self.wall_s)
        checkpoint.save(moment, self.folder)
        self.recorder.flush()
        self._saved_at = self.wall_s

    def _restore(self, moment: Checkpoint, state: State) -> None:
        with torch.no_grad():
            self.synthetic.images.copy_(moment.images)
        state.load_state_dict(moment.state)
        self.rng.load_state_dict(moment.rng)
        self.step, self.wall_s, self._saved_at = moment.step, moment.wall_s, moment.wall_s
        log.info("resumed at step %d of %d", self.step, self.steps)

    def _picture(self, final: bool = False) -> None:
        if final or self.step < self.steps:
            self.recorder.image("synthetic", grid(self.synthetic.images, self.synthetic.ipc), self.step)

    @property
    def steps(self) -> int:
        """How many steps the run takes."""
        return self.method.steps if self.max_steps is None else min(self.method.steps, self.max_steps)

    @property
    def step_s_median(self) -> float | None:
        """Median seconds per step in this process; null where no step was taken."""
        return statistics.median(self.step_times) if self.step_times else None

"""The loop that runs every method."""

import logging
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dcond.distributed import Ranks, current
from dcond.errors import CheckpointError, DivergedError, require
from dcond.measure import wait_for
from dcond.methods.base import Method, State
from dcond.rng import Streams, seeded_layers
from dcond.run import checkpoint
from dcond.run.checkpoint import Checkpoint
from dcond.run.progress import reporter
from dcond.run.recorder import Recorder, grid
from dcond.run.signals import Stop
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
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
        require(
            self.record_every >= 1,
            f"loop.record_every={self.record_every} is out of range; allowed: 1 or more.",
        )
        for name in ("images_every", "evaluate_every", "checkpoint_every_s", "progress_every_s"):
            require(
                getattr(self, name) >= 0,
                f"loop.{name}={getattr(self, name)} is out of range; allowed: 0 or more.",
            )


@dataclass
class Run:
    """One condensation: what is moved, what moves it, and where it is kept.

    Where several processes share it, all of them take every step and every decision alike; rank 0
    keeps and records.
    """

    method: Method
    real: RealData
    synthetic: SyntheticSet
    rng: Streams
    folder: Path
    config: str  # YAML, kept in every checkpoint
    loop: LoopSettings
    recorder: Recorder
    stop: Stop
    evaluate: Callable[[SyntheticSet, int], None] | None = None  # periodic evaluation
    max_steps: int | None = None  # stop earlier than the method would
    max_seconds: float | None = None  # stop after the step that ends later than this
    step: int = 0
    start_wall_s: float = (
        0.0  # what the method did before its first step: a rule may have trained a network
    )
    wall_s: float = 0.0  # of all steps
    step_times: list[float] = field(
        default_factory=list
    )  # on CUDA each the mean of the steps between two waits
    ranks: Ranks = field(default_factory=current)
    resumable: bool = False  # whether the folder holds a checkpoint of this run
    _saved_at: float = 0.0
    _pending: list[float] = field(
        default_factory=list
    )  # times of steps that a device may not have computed yet
    _unchecked: list[dict[str, Tensor]] = field(
        default_factory=list
    )  # metrics that no guard has looked at

    def condense(self, resume_from: Checkpoint | None = None) -> None:
        """Run all steps; the result is in ``synthetic.images``.

        Raises:
            CheckpointError: the checkpoint holds other images than the data give.
            DivergedError: a loss or the images stopped being finite; the last good checkpoint
                stays.
            Interrupted: a signal asked to stop; a checkpoint of the last finished step is kept.
        """
        if self.steps > 0:
            self.ranks.divide(len(self.synthetic.class_names))
        start = time.perf_counter()
        state = self.method.init(self.real, self.synthetic, self.rng)
        self.ranks.share_([self.synthetic.images])  # what a rule chose by a network that it trained
        self.ranks.share_streams_(self.rng)
        self.start_wall_s = time.perf_counter() - start
        if resume_from is not None:
            self._restore(resume_from, state)
        elif self.steps > 0:
            self._save(state)  # from here on the run can always be resumed
        self._picture()
        if not self.finished:  # of no steps there is no progress to show
            with (
                reporter("condense", self.steps, self.step, self.loop.progress_every_s) as bar,
                self.stop.deferred(),
            ):
                while not self.finished:
                    metrics = self._advance(state)
                    self._housekeeping(state, metrics, bar.update)
        self._picture(final=True)

    def _advance(self, state: State) -> dict[str, Tensor]:
        """Do one step of the method and keep its time."""
        start = time.perf_counter()
        with seeded_layers(self.rng.seed, f"step/{self.step}", self.synthetic.images.device):
            metrics = self.method.step(self.real, self.synthetic, state)
        self.step += 1
        computed = self._wait()
        (took,) = self.ranks.largest(time.perf_counter() - start)
        self.wall_s += took
        self._pending.append(took)
        if computed:
            self.step_times += [statistics.fmean(self._pending)] * len(self._pending)
            self._pending.clear()
        self._unchecked.append(metrics)
        return metrics

    def _wait(self) -> bool:
        """Wait for the device where a record is due; tell whether all steps are computed, as they always are on a CPU.

        Other devices take their work and return: between two waits the time of a step is that of
        handing it over.
        """
        device = self.synthetic.images.device
        due = (
            device.type == "cpu"
            or self.step % self.loop.record_every == 0
            or self.step >= self.steps
        )
        if due:
            wait_for(device)
        return due

    def _housekeeping(
        self, state: State, metrics: dict[str, Tensor], show: Callable[[int, str], None]
    ) -> None:
        last = self.finished
        due = self.wall_s - self._saved_at >= self.loop.checkpoint_every_s
        if last or due or self.step % self.loop.record_every == 0:
            self._guard()  # which also adds up the metrics of all processes
            values = {f"condense/{name}": float(value) for name, value in metrics.items()}
            self.recorder.scalars({**values, "condense/wall_s": self.wall_s}, self.step)
            show(self.step, f"loss {values['condense/loss']:.4g}")
        if (
            self.evaluate
            and self.loop.evaluate_every
            and self.step % self.loop.evaluate_every == 0
            and not last
        ):
            self.evaluate(self.synthetic, self.step)
        if (
            last or due
        ):  # with the evaluation of this step, which a run that goes on from here does not repeat
            self._save(state)
        if self.loop.images_every and self.step % self.loop.images_every == 0 and not last:
            self._picture()
        if self.stop.stop_requested_on_any_rank(
            self.ranks
        ):  # looked at last: a signal during the evaluation must not cost the step
            self._save(state)
            self.stop.check()

    def _guard(self) -> None:
        """Stop before anything non-finite is recorded or kept; looks at every step since the last look.

        A loss may become finite again, since images are clipped to [0, 1], so a look at the last
        one is not enough.
        """
        seen, self._unchecked = self._unchecked, []
        self.ranks.sum_([value for metrics in seen for value in metrics.values()])
        for step, metrics in enumerate(seen, self.step - len(seen) + 1):
            for name, value in metrics.items():
                if not math.isfinite(value):
                    raise self._diverged(f"{name} is", step, metrics)
        if not bool(torch.isfinite(self.synthetic.images).all()):
            raise self._diverged("images are", self.step, seen[-1] if seen else {})

    def _diverged(self, what: str, step: int, metrics: dict[str, Tensor]) -> DivergedError:
        loss = float(metrics["loss"]) if metrics else None
        rate = getattr(self.method, "lr", None)
        return DivergedError(
            f"{what} not finite at step {step} (loss {loss}, lr {rate}). "
            "The last good checkpoint stays; try a smaller method.lr."
        )

    def _save(self, state: State) -> None:
        self._guard()
        if self.ranks.first:
            images = self.synthetic.images.detach()
            moment = Checkpoint(
                self.step,
                self.config,
                images,
                state.state_dict(),
                self.rng.state_dict(),
                self.wall_s,
            )
            # first: a run killed in between repeats steps, and loses no record
            self.recorder.flush()
            checkpoint.save(moment, self.folder)
        self._saved_at, self.resumable = self.wall_s, True

    def _restore(self, moment: Checkpoint, state: State) -> None:
        before, now = tuple(moment.images.shape), tuple(self.synthetic.images.shape)
        if before != now:
            raise CheckpointError(
                f"{self.folder} was started with images {before}, the data now give {now}; "
                "bring the data set back as it was, or start a new run."
            )
        with torch.no_grad():
            self.synthetic.images.copy_(moment.images)
        state.load_state_dict(moment.state)
        self.rng.load_state_dict(moment.rng)
        self.step, self.wall_s, self._saved_at = moment.step, moment.wall_s, moment.wall_s
        self.resumable = True
        log.info("resumed at step %d of %d", self.step, self.steps)

    def _picture(self, final: bool = False) -> None:
        if final or self.step < self.steps:
            self.recorder.image(
                "synthetic", grid(self.synthetic.images, self.synthetic.ipc), self.step
            )

    @property
    def steps(self) -> int:
        """How many steps the run takes."""
        return (
            self.method.steps if self.max_steps is None else min(self.method.steps, self.max_steps)
        )

    @property
    def finished(self) -> bool:
        """Tell whether all steps are taken, or the time for them is spent."""
        return self.step >= self.steps or (
            self.max_seconds is not None and self.wall_s >= self.max_seconds
        )

    @property
    def step_s_median(self) -> float | None:
        """Median seconds per step in this process; null where no step was taken."""
        times = (
            self.step_times or self._pending
        )  # of a run on a device that ended before its first wait
        return statistics.median(times) if times else None

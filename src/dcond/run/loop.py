"""The loop that runs every method: records, checkpoints, signals, the non-finite guard."""

import logging
import math
import pickle
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from dcond.data.fingerprint import fingerprint_of_split
from dcond.device import wait_for
from dcond.distributed import Ranks, current
from dcond.errors import CheckpointError, DivergedError, first_line
from dcond.methods.base import Method, State
from dcond.rng import Streams, seeded_layers
from dcond.run import checkpoint
from dcond.run.checkpoint import Checkpoint
from dcond.run.pixel_watch import JUMP_STEPS, PixelWatch
from dcond.run.progress import ProgressDisplay, progress_display
from dcond.run.recorder import NullRecorder, grid
from dcond.run.signals import Stop
from dcond.settings import NonNegativeFloat, NonNegativeInt, PositiveInt, settings
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)


@settings
class LoopSettings:
    """How often the loop records, checkpoints and evaluates; none of it changes the images.

    Args:
        record_every: steps between two records of the metrics; the device is only waited for then.
        checkpoint_every_s: seconds between two checkpoints.
        images_every: steps between two pictures for TensorBoard; 0: first and last only.
        evaluate_every: steps between two evaluations of the unfinished set; 0: none.
        progress_every_s: seconds between two progress lines without a terminal, after the first.
    """

    record_every: PositiveInt = 10
    checkpoint_every_s: NonNegativeFloat = 60.0
    images_every: NonNegativeInt = 0
    evaluate_every: NonNegativeInt = 0
    progress_every_s: NonNegativeFloat = 10.0


@dataclass
class Run:
    """The steps of one condensation, on images that exist.

    Where several processes share it, all of them take every step and every decision alike; rank 0
    saves and records.

    Args:
        folder: of checkpoints; None saves none.
        config: YAML, saved in every checkpoint.
        evaluate: called with the set and the step, every ``loop.evaluate_every`` steps.
        max_steps: stop before the method's own number of steps.
        max_seconds: stop after the first step that ends later than this.
        start_wall_s: seconds before the first step, those of a run that is resumed included.
        wall_s: seconds of all steps.
        step_times: seconds per step; on CUDA the mean of the steps between two waits.
        resumable: whether the folder holds a checkpoint of this run.
    """

    method: Method
    real: RealData
    synthetic: SyntheticSet
    rng: Streams
    folder: Path | None = None
    config: str = ""
    loop: LoopSettings = field(default_factory=LoopSettings)
    recorder: NullRecorder = field(default_factory=NullRecorder)
    stop: Stop = field(default_factory=Stop)
    evaluate: Callable[[SyntheticSet, int], None] | None = None
    max_steps: int | None = None
    max_seconds: float | None = None
    show_progress: bool = True
    step: int = 0
    start_wall_s: float = 0.0
    wall_s: float = 0.0
    step_times: list[float] = field(default_factory=list)
    ranks: Ranks = field(default_factory=current)
    resumable: bool = False
    _saved_at: float = 0.0  # wall_s at the last checkpoint, less the evaluations since
    _median_before: float | None = None  # step_s_median of the run that is resumed
    # Seconds of steps that the device may not have computed yet.
    _pending: list[float] = field(default_factory=list)
    # Metrics that have not been checked for non-finite values.
    _unchecked: list[dict[str, Tensor]] = field(default_factory=list)

    def condense(self, resume_from: Checkpoint | None = None) -> None:
        """Run all steps, and the method's ``finish`` if it has one; the result is ``synthetic``.

        Raises:
            CheckpointError: the checkpoint's images have another shape than the data gives.
            DivergedError: a loss or the images became non-finite, or pixels jump between 0 and 1;
                the last good checkpoint stays.
            Interrupted: a signal asked to stop; the last finished step has a checkpoint.
        """
        if self.steps > 0:
            self.ranks.divide(len(self.synthetic.class_names))
        if resume_from is not None:
            self._check_data(resume_from)
        start = time.perf_counter()
        state = self.method.init(self.real, self.synthetic, self.rng)
        self.ranks.share_([self.synthetic.images])  # init may have chosen them by a trained network
        self.ranks.share_streams_(self.rng)
        self.start_wall_s += time.perf_counter() - start
        if resume_from is not None:
            self._restore(resume_from, state)
        elif self.steps > 0:
            if self.folder is not None and (self.folder / checkpoint.NAME).exists():
                log.warning(
                    "%s held a stopped run, which starts over; resume=%s would have continued it",
                    *(self.folder, self.folder),
                )
            self._save(state)  # from here on the run can always be resumed
            self._check_readable(state)
        self._picture()
        self._pixels = PixelWatch(self.synthetic, getattr(self.method, "lr", None))
        if not self.finished:
            display = progress_display(
                "condense",
                self.steps,
                self.step,
                self.loop.progress_every_s,
                show=self.show_progress,
            )
            with display as bar, self.stop.deferred():
                while not self.finished:
                    metrics = self._advance(state)
                    self._housekeeping(state, metrics, bar)
        self._picture(final=True)
        if (finish := getattr(self.method, "finish", None)) is not None:
            self.synthetic = finish(self.synthetic, state)

    def _advance(self, state: State) -> dict[str, Tensor]:
        """Do one step of the method and measure its time."""
        start = time.perf_counter()
        with seeded_layers(self.rng.seed, f"step/{self.step}", self.synthetic.images.device):
            metrics = self.method.step(self.real, self.synthetic, state)
        self.step += 1
        computed = self._wait()
        (seconds,) = self.ranks.largest(time.perf_counter() - start)
        self.wall_s += seconds
        self._pending.append(seconds)
        if computed:
            self.step_times += [statistics.fmean(self._pending)] * len(self._pending)
            self._pending.clear()
        self._unchecked.append(metrics)
        return metrics

    def _wait(self) -> bool:
        """Wait for the device if a record or the end is due; return whether all steps are computed.

        Devices other than a CPU return before the work is done: between two waits the time of a
        step is that of launching it.
        """
        device = self.synthetic.images.device
        due = self.step % self.loop.record_every == 0 or self.step >= self.steps
        if device.type != "cpu" and not due and self.max_seconds is None:
            return False
        wait_for(device)
        return True

    def _housekeeping(self, state: State, metrics: dict[str, Tensor], bar: ProgressDisplay) -> None:
        """Record, evaluate and save what is due after a step; stop on a signal."""
        last = self.finished
        if self._every(JUMP_STEPS):
            self._pixels.look()
        if self._save_due() or self._every(self.loop.record_every):
            self._guard()  # also sums the metrics over all processes
            values = {f"condense/{name}": float(value) for name, value in metrics.items()}
            self.recorder.scalars({**values, "condense/wall_s": self.wall_s}, self.step)
            bar.update(self.step, f"loss {values['condense/loss']:.4g}", self._expected_steps)
            self._pixels.check(self.step, float(metrics["loss"]))
        if self.evaluate and not last and self._every(self.loop.evaluate_every):
            start = time.perf_counter()
            self.evaluate(self.synthetic, self.step)
            self._saved_at -= self.ranks.largest(time.perf_counter() - start)[0]
        # After the evaluation of this step, so that a resumed run does not repeat it.
        if self._save_due():
            self._save(state)
        if not last and self._every(self.loop.images_every):
            self._picture()
        # Checked last: a signal during the evaluation must not cost the step.
        if self.stop.stop_requested_on_any_rank(self.ranks):
            self._save(state)
            self.stop.check()

    def _save_due(self) -> bool:
        return self.finished or self.wall_s - self._saved_at >= self.loop.checkpoint_every_s

    def _every(self, steps: int) -> bool:
        return steps > 0 and self.step % steps == 0

    def _guard(self) -> None:
        """Raise before anything non-finite is recorded or saved; checks every step since the last.

        The last step alone is not enough: images are clipped to [0, 1], so that a loss may become
        finite again.
        """
        unchecked, self._unchecked = self._unchecked, []
        self.ranks.sum_([value for metrics in unchecked for value in metrics.values()])
        for step, metrics in enumerate(unchecked, self.step - len(unchecked) + 1):
            for name, value in metrics.items():
                if not math.isfinite(value):
                    raise self._diverged(f"{name} is", step, metrics)
        if not bool(torch.isfinite(self.synthetic.images).all()):
            raise self._diverged("images are", self.step, unchecked[-1] if unchecked else {})

    def _diverged(self, what: str, step: int, metrics: dict[str, Tensor]) -> DivergedError:
        loss = float(metrics["loss"]) if metrics else None
        rate = getattr(self.method, "lr", None)
        largest = self.synthetic.by_class.detach().flatten(1).abs().amax(1)
        worst = self.synthetic.class_names[int(largest.argmax())]
        return DivergedError(
            f"{what} not finite at step {step} (loss {loss}, lr {rate}; class {worst!r} has the "
            f"largest pixel, {float(largest.max()):.3g}). The last good checkpoint stays; try a "
            "smaller method.lr."
        )

    def _save(self, state: State) -> None:
        self._guard()
        self._saved_at = self.wall_s
        if self.folder is None:
            return
        if self.ranks.first:
            # Records first: a run killed in between repeats steps, and loses no record.
            self.recorder.flush()
            saved = Checkpoint(
                step=self.step,
                config=self.config,
                images=self.synthetic.images.detach(),
                state=state.state_dict(),
                rng=self.rng.state_dict(),
                wall_s=self.wall_s,
                start_wall_s=self.start_wall_s,
                step_s_median=self.step_s_median,
                data=self._fingerprint,
            )
            checkpoint.save(saved, self.folder)
        self.resumable = True

    def _check_readable(self, state: State) -> None:
        """Raise before the first step if a user's state cannot be read again; ours are tested."""
        ours = type(state).__module__.partition(".")[0] == "dcond"
        if ours or self.folder is None or not self.ranks.first:
            return
        try:
            checkpoint.load(self.folder)
        except CheckpointError as error:
            if not isinstance(error.__cause__, pickle.UnpicklingError):
                raise
            (self.folder / checkpoint.NAME).unlink()
            self.resumable = False
            raise CheckpointError(
                f"the state of {type(self.method).__name__} could be saved, but not read again "
                f"({first_line(error.__cause__)}); its fields may be tensors, numbers, texts, "
                "parts with a state_dict, and lists or dicts of these."
            ) from error

    def _check_data(self, saved: Checkpoint) -> None:
        before, now = tuple(saved.images.shape), tuple(self.synthetic.images.shape)
        if before != now:
            raise CheckpointError(
                f"{self.folder} was started with images {before}, the data now gives {now}; "
                "restore the data set, or start a new run."
            )
        if saved.data not in (None, self._fingerprint):
            raise CheckpointError(
                f"{self.folder} was started with other real images of {self.real.name}; restore "
                "the data set, or start a new run."
            )

    def _restore(self, saved: Checkpoint, state: State) -> None:
        with torch.no_grad():
            self.synthetic.images.copy_(saved.images)
        state.load_state_dict(saved.state)
        self.rng.load_state_dict(saved.rng)
        self.step, self.wall_s, self._saved_at = saved.step, saved.wall_s, saved.wall_s
        self.start_wall_s += saved.start_wall_s
        self._median_before = saved.step_s_median
        self.resumable = True
        log.info("resumed at step %d of %d", self.step, self.steps)

    def _picture(self, final: bool = False) -> None:
        if final or self.step < self.steps:
            picture = grid(self.synthetic.images, self.synthetic.ipc)
            self.recorder.image("synthetic", picture, self.step)

    @property
    def steps(self) -> int:
        """How many steps the run takes at most."""
        steps = self.method.steps
        return steps if self.max_steps is None else min(steps, self.max_steps)

    @property
    def _expected_steps(self) -> int:
        """How many steps the run takes by the end of ``max_seconds``, at the speed so far."""
        if self.max_seconds is None:
            return self.steps
        left = max(0.0, self.max_seconds - self.wall_s)
        return min(self.steps, self.step + math.ceil(left * self.step / self.wall_s))

    @property
    def finished(self) -> bool:
        """Whether all steps are taken, or ``max_seconds`` have passed."""
        timed_out = self.max_seconds is not None and self.wall_s >= self.max_seconds
        return self.step >= self.steps or timed_out

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint_of_split(self.real.train)

    @property
    def step_s_median(self) -> float | None:
        """Median seconds per step of this process; of the one before, if it took none."""
        times = self.step_times or self._pending  # a device run may end before its first wait
        return statistics.median(times) if times else self._median_before

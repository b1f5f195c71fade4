"""One condensation on built parts: data, initial images, the loop, the artefact, the evaluation."""

import json
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dcond import artefact
from dcond.data import Dataset
from dcond.data.fingerprint import fingerprint_of_split
from dcond.device import (
    peak_memory_bytes,
    reset_peak_memory,
    resolve_device,
)
from dcond.distributed import current
from dcond.errors import UnsupportedError
from dcond.evaluation.full_data import tuning_data
from dcond.init.initialisers import FromReal, Initialiser, check_ipc
from dcond.log import format_duration
from dcond.methods.base import Method
from dcond.paths import relative_to_cwd
from dcond.rng import Streams
from dcond.run import card
from dcond.run.checkpoint import Checkpoint
from dcond.run.evaluation import (
    EvaluationPlan,
    Evaluator,
    describe_normalisation,
    describe_storage,
)
from dcond.run.loop import LoopSettings, Run
from dcond.run.progress import log_if_slow
from dcond.run.recorder import (
    NullRecorder,
    Recorder,
    grid,
    save_png,
    tensorboard_figures,
    tensorboard_settings,
)
from dcond.run.result import ACCURACY, HELD_OUT, RunResult
from dcond.run.signals import Stop
from dcond.run.tables import Tables
from dcond.torch_state import float32_convolutions
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Condensed(Tables):
    """A condensed set, its result, and its tables (none without an evaluation).

    Example:
        >>> run = dcond.condense(method="dm", dataset="digits", ipc=1)
        >>> run.synthetic.dataset()  # a TensorDataset for any training loop
        >>> print(run)  # the cross-architecture table
    """

    synthetic: SyntheticSet
    result: RunResult
    folder: Path | None = None


@dataclass(kw_only=True)
class Condensation:
    """One condensation, from its built parts to its result.

    Args:
        method: makes the set.
        init: makes the initial images.
        data: the real images, or what loads them.
        ipc: images stored per class.
        seed: of all random streams.
        device: where to compute; by default CUDA, else MPS, else the CPU.
        folder: of the run's files; None writes none.
        plan: how the set is evaluated; None: not at all. If it tests on held-out training images,
            the set is condensed without them.
        evaluate: evaluate at the end; with False, ``plan`` only serves ``loop.evaluate_every``, and
            the artefact names its protocol.
        loop: how often to record, checkpoint and evaluate.
        max_steps: stop before the method's own number of steps.
        max_seconds: stop when the steps have taken this long.
        tensorboard: write event files into the folder.
        stop: signals that were caught.
        config: YAML, saved in every checkpoint.
        overrides: the overrides as they were typed, for the card.
        result: completed by :meth:`run`; names, choices and settings come with it.
        show_progress: show a progress bar or log lines.

    Raises:
        ConfigError: the device is not available.
        UnsupportedError: several processes, and the method does not support them.
    """

    method: Method
    init: Initialiser
    data: Dataset | RealData
    ipc: int = 1
    seed: int = 0
    device: torch.device = field(default_factory=partial(resolve_device, "auto"))
    folder: Path | None = None
    plan: EvaluationPlan | None = None
    evaluate: bool = True
    loop: LoopSettings = field(default_factory=LoopSettings)
    max_steps: int | None = None
    max_seconds: float | None = None
    tensorboard: bool = True
    stop: Stop = field(default_factory=Stop)
    config: str = ""
    overrides: Sequence[str] = ()
    result: RunResult = field(default_factory=RunResult.start)
    show_progress: bool = True
    resumable: bool = False  # whether the folder holds a checkpoint of this run

    def __post_init__(self) -> None:
        result, self.ranks = self.result, current()
        reset_peak_memory(self.device)
        result.ipc, result.seed, result.device = self.ipc, self.seed, str(self.device)
        result.method = result.method or type(self.method).__name__.lower()
        result.cost.processes = self.ranks.count
        self.rng = Streams(self.seed)
        divides = getattr(self.method, "shares_classes", False)
        if self.ranks.count > 1 and self.method.steps > 0 and not divides:
            raise UnsupportedError(
                f"method={result.method} does not divide its classes among processes; "
                "run it without torchrun, or start several runs side by side."
            )

    @property
    def evaluates(self) -> bool:
        """Whether networks are trained, at the end or between."""
        return self.plan is not None and (self.evaluate or self.loop.evaluate_every > 0)

    def run(self, checkpoint: Checkpoint | None = None) -> Condensed:
        """Condense and evaluate; go on from a checkpoint if there is one.

        Raises:
            DcondError: the data, the run or the disk failed; one line.
            Interrupted: a caught signal asked to stop; the last finished step has a checkpoint.
        """
        self.resumable = checkpoint is not None
        chosen = (self.result.choices or {}).get("init", type(self.init).__name__)
        with log_if_slow(f"reading {self.data.name}, choosing the initial images ({chosen})"):
            real = self._real_data()
            synthetic = self._first_images(real)
        self._describe(synthetic)
        self.result.normalisation = describe_normalisation(synthetic, real)
        _log_small_class(self.method, real)
        recorder = self._recorder(checkpoint)
        parts: Sequence[Any] = ()
        done = False
        try:
            synthetic = self._condense(real, synthetic, recorder, checkpoint)
            synthetic.images.requires_grad_(False)  # the method's optimiser needed gradients
            describe_storage(self.result, synthetic)  # the labels may have become soft
            self._save(synthetic)
            if self.evaluator is not None and self.evaluate:
                parts = self.evaluator.evaluate(synthetic, self.result, self.folder).parts
            done = True
        finally:
            self.result.cost.peak_memory_bytes = peak_memory_bytes(self.device)
            figures, steps = tensorboard_figures(self.result), self.result.cost.steps or 0
            try:
                recorder.outcome(figures, steps, done=done)
            finally:
                recorder.close()
        if self.folder is not None and self.ranks.first:
            card.write(self.folder, self.result, synthetic, self.overrides, self.method)
        synthetic = synthetic.to(torch.device("cpu"))  # for any training loop, as a loaded set
        return Condensed(parts=parts, synthetic=synthetic, result=self.result, folder=self.folder)

    def _real_data(self) -> RealData:
        """Load the data; raise before any step for data that the evaluation cannot use."""
        if isinstance(self.data, RealData):
            real = self.data.to(self.device)
        else:
            with self.ranks.first_before_others():
                real = self.data.load(self.device)
        self.result.dataset = real.name  # with its classes if these are not all
        self._test_images = fingerprint_of_split(real.test)
        if self.plan is not None and self.plan.tested_on == HELD_OUT:
            real = tuning_data(real)
        self.evaluator: Evaluator | None = None
        if self.plan is not None and self.evaluates:
            label = getattr(self.method, "labelled", None)
            self.evaluator = Evaluator(
                self.plan,
                real,
                show_progress=self.show_progress,
                label=None if label is None else partial(label, real),
            )
        return real

    def _first_images(self, real: RealData) -> SyntheticSet:
        start = time.perf_counter()
        if isinstance(self.init, FromReal) and self.method.steps > 0:  # else it replaces them
            check_ipc(real, self.ipc)
        images = self.init(real, self.ipc, self.method.factor, self.rng)
        images = images.detach().clone()  # a user's initialiser may keep what it returns
        self.result.cost.start_wall_s = time.perf_counter() - start
        return SyntheticSet.from_images(
            images,
            real,
            ipc=self.ipc,
            factor=self.method.factor,
            metadata=self._metadata(real.class_names),
        )

    def _metadata(self, classes: tuple[str, ...]) -> dict[str, str]:
        """Return what the artefact records: names, seed, settings, protocol, test images."""
        result = self.result
        metadata = {
            "method": str(result.method),
            "dataset": str(result.dataset),
            "seed": str(self.seed),
            "config_sha256": result.config_sha256 or "",
            "evaluation": "" if self.plan is None else self.plan.protocol.name,
            "made_with": result.made_with(),
            "test_images": self._test_images,
            "class_names": json.dumps(classes),  # in the order of these test images
        }
        choice = (result.choices or {}).get("dataset")
        if choice is not None and choice != result.dataset:  # which option loads the data
            metadata["dataset_choice"] = choice
        if isinstance(self.data, Dataset) and self.data.classes is not None:
            metadata |= {"dataset": self.data.name, "dataset_classes": json.dumps(classes)}
        return metadata

    def _describe(self, synthetic: SyntheticSet) -> None:
        result = self.result
        describe_storage(result, synthetic)
        stored, decoded = result.images_stored, result.images_decoded
        content = f"{stored} images" if decoded == stored else f"{stored} images holding {decoded}"
        log.info(
            "%s on %s, ipc %d: %s, seed %s, %s%s%s",
            result.method,
            result.dataset,
            synthetic.ipc,
            content,
            self.seed,
            self.device,
            f", {self.ranks.count} processes" if self.ranks.count > 1 else "",
            "" if self.folder is None else f" -> {relative_to_cwd(self.folder)}",
        )

    def _recorder(self, checkpoint: Checkpoint | None) -> NullRecorder:
        if self.folder is None or not self.ranks.first:
            return NullRecorder()
        after_step = checkpoint.step if checkpoint else 0
        recorder = Recorder(self.folder, after_step=after_step, tensorboard=self.tensorboard)
        recorder.settings(tensorboard_settings(self.result))
        return recorder

    def _condense(
        self,
        real: RealData,
        synthetic: SyntheticSet,
        recorder: NullRecorder,
        checkpoint: Checkpoint | None,
    ) -> SyntheticSet:
        engine = getattr(self.method, "engine", None)
        exact = engine is not None and engine.precision == "float32"

        run = Run(
            method=self.method,
            real=real,
            synthetic=synthetic,
            rng=self.rng,
            folder=self.folder,
            config=self.config,
            loop=self.loop,
            recorder=recorder,
            stop=self.stop,
            evaluate=partial(self._evaluate_unfinished, recorder) if self.evaluator else None,
            max_steps=self.max_steps,
            max_seconds=self.max_seconds,
            show_progress=self.show_progress,
            start_wall_s=self.result.cost.start_wall_s or 0.0,
        )
        cost = self.result.cost
        try:
            with float32_convolutions() if exact else nullcontext():
                run.condense(checkpoint)
        finally:
            cost.start_wall_s = run.start_wall_s
            self.resumable = run.resumable or checkpoint is not None
            cost.condense_wall_s, cost.steps = run.wall_s, run.step
            cost.step_s_median = run.step_s_median
        if run.steps:
            log.info("%d steps in %s", run.step, format_duration(run.wall_s))
        return run.synthetic

    def _evaluate_unfinished(
        self, recorder: NullRecorder, synthetic: SyntheticSet, step: int
    ) -> None:
        """Evaluate an unfinished set; its random streams are its own, so the run is unaffected."""
        assert self.evaluator is not None
        found = self.evaluator.train(lambda repeat: synthetic)
        values = {f"evaluate/{name}": network.mean for name, network in found.networks.items()}
        recorder.scalars({**values, "evaluate/average": found.average}, step)
        log.info(
            "step %d: average %s %.1f %%",
            step,
            ACCURACY[self.evaluator.plan.tested_on],
            100 * found.average,
        )

    def _save(self, synthetic: SyntheticSet) -> None:
        if self.folder is None or not self.ranks.first:
            return
        path = artefact.save(synthetic, self.folder / artefact.NAME)
        save_png(grid(synthetic.images, synthetic.ipc), self.folder / "grid.png")
        log.info("condensed set: %s", relative_to_cwd(path))


def _log_small_class(method: Method, real: RealData) -> None:
    """Log that real batches repeat images, if the smallest class is smaller than a batch."""
    batch = (getattr(method, "batch_real", None) or 0) if method.steps else 0
    count, name = min(zip(map(len, real.class_rows), real.class_names, strict=True))
    if count < batch:
        log.info(
            "class %r has %d real images, fewer than method.batch_real=%d: its batches repeat some",
            *(name, count, batch),
        )

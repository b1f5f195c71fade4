"""One condensation: data, first images, the loop, the artefact, the cross-architecture table."""

import logging
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from dcond.cli.instantiate import (
    build,
    cache_folder,
    get_bool,
    get_int,
    get_positive,
    prefetch_weights,
    relative_to_cwd,
)
from dcond.cli.run_config import dump_provenance, storage_stats, tensorboard_hparams
from dcond.errors import UnsupportedError, one_of
from dcond.run.result import ACCURACY, HELD_OUT

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dcond.methods.base import Method
    from dcond.run.checkpoint import Checkpoint
    from dcond.run.signals import Stop
    from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)

SWITCHES = ("evaluate", "baselines", "tensorboard", "scores.full", "scores.unaugmented")


class Condensation:
    """One condensation from its configuration to its result."""

    def __init__(
        self,
        cfg: DictConfig,
        choices: dict[str, str],
        text: str,
        folder: Path,
        result: dict[str, Any],
        stop: "Stop",
    ):
        from dcond.device import reset_peak_memory, resolve_device
        from dcond.distributed import current
        from dcond.rng import Streams

        self.cfg, self.choices, self.text = cfg, choices, text
        self.folder, self.result, self.stop = folder, result, stop
        self.resumable = False
        self.cache = cache_folder(cfg)
        # Everything that can be wrong in the configuration is built before any data is read.
        self.ipc = self.result["ipc"] = get_int(cfg, "ipc", 1)
        self.seed = self.result["seed"] = get_int(cfg, "seed", 0)
        self.rng, self.ranks = Streams(self.seed), current()
        self.result["cost"]["processes"] = self.ranks.count
        self.max_steps = None if cfg.max_steps is None else get_int(cfg, "max_steps", 0)
        self.max_seconds = None if cfg.max_seconds is None else get_positive(cfg, "max_seconds")
        self.device = resolve_device(str(cfg.device))
        reset_peak_memory(self.device)
        self.evaluate, self.baselines, self.tensorboard, self.full, self.unaugmented = (
            get_bool(cfg, key) for key in SWITCHES
        )
        self.test_on = str(cfg.test_on)
        one_of("test_on", self.test_on, ACCURACY)
        self.loop = build(cfg.loop, "loop")
        self.method: Method = build(cfg.method, f"method={choices['method']}")
        self._check_shares()
        self.start = build(cfg.init, f"init={choices['init']}")
        self.pool = build(cfg.pool, f"pool={choices['pool']}")
        self.protocol = build(cfg.evaluation, f"evaluation={choices['evaluation']}")
        self.dataset = build(cfg.dataset, f"dataset={choices['dataset']}")
        self._needs: dict[str, Any] | None = None
        self.trains = (
            self.evaluate or self.loop.evaluate_every > 0
        )  # the pool, at the end or on the way
        prefetch_weights(
            self.method, self.start, *((self.pool, self.protocol) if self.trains else ())
        )

    def _check_shares(self) -> None:
        """Refuse several processes for a method that cannot be divided among them."""
        if (
            self.ranks.count > 1
            and self.method.steps > 0
            and not getattr(self.method, "shares_classes", False)
        ):
            raise UnsupportedError(
                f"method={self.choices['method']} does not divide its classes among processes; "
                "leave out torchrun, or start several runs side by side."
            )

    def run(self, moment: "Checkpoint | None") -> "list[RenderableType]":
        """Do all of it; return what is to be printed when the result is on disk."""
        from dcond import artefact
        from dcond.device import peak_memory_bytes
        from dcond.run.progress import log_if_slow
        from dcond.run.recorder import NullRecorder, Recorder, grid, save_png

        self.resumable = moment is not None
        start = f"choosing the first images (init={self.choices['init']})"
        with log_if_slow(f"reading {self.result['dataset']}, {start}"):
            real = self._data()
            synthetic = self._first_images(real)
        self._describe(synthetic)
        after_step, done = moment.step if moment else 0, False
        recorder = (
            Recorder(self.folder, after_step=after_step, tensorboard=self.tensorboard)
            if self.ranks.first
            else NullRecorder()
        )
        recorder.settings(tensorboard_hparams(self.result))
        try:
            self._condense(real, synthetic, recorder, moment)
            if self.ranks.first:
                path = artefact.save(synthetic, self.folder / "synthetic.safetensors")
                save_png(grid(synthetic.images, synthetic.ipc), self.folder / "grid.png")
                log.info("condensed set: %s", relative_to_cwd(path))
            tables = self._evaluate(real, synthetic) if self.evaluate else []
            done = True
        finally:
            self.result["cost"]["peak_memory_bytes"] = peak_memory_bytes(self.device)
            recorder.outcome(self._shown_results(), self.result["cost"]["steps"] or 0, done=done)
            recorder.close()
        return tables

    def _data(self) -> "RealData":
        """Read the real images, and refuse those that the evaluation could not do with."""
        from dcond.evaluate.full_data import fingerprint_of_test, hold_out, tuning_data
        from dcond.run.evaluation import check_memory

        with self.ranks.first_before_others():
            real: RealData = self.dataset.load(self.device)
        self.test_images = fingerprint_of_test(real)
        if self.test_on == HELD_OUT:
            real = tuning_data(real)
        if self.trains:
            self.pool.check(real.spec)
            check_memory(real, self.protocol, full=self.full and self.evaluate)
            hold_out(
                self.protocol, real
            )  # too few images to search a rate on are told before any step
        return real

    def _shown_results(self) -> dict[str, float]:
        """Return the final figures that are known, for the same view."""
        found, cost = self.result["evaluation"], self.result["cost"]
        shown = {f"cost/{name}": float(value) for name, value in cost.items() if value is not None}
        if found is not None:
            shown |= {
                f"evaluate/{name}": network["mean"] for name, network in found["networks"].items()
            }
            shown["evaluate/average"] = found["average"]
        return shown

    def _first_images(self, real: "RealData") -> "SyntheticSet":
        import torch

        from dcond.types import SyntheticSet

        began = time.perf_counter()
        images, choice = (
            self.start(real, self.ipc, self.method.factor, self.rng),
            self.choices["dataset"],
        )
        self.result["cost"]["start_wall_s"] = time.perf_counter() - began
        return SyntheticSet(
            images=images,
            labels=torch.arange(len(real.class_names), device=self.device).repeat_interleave(
                self.ipc
            ),
            class_names=real.class_names,
            ipc=self.ipc,
            mean=real.mean,
            std=real.std,
            factor=self.method.factor,
            metadata={
                "method": self.choices["method"],
                "dataset": self.result["dataset"],
                "seed": str(self.seed),
                "config_sha256": self.result["config_sha256"],
                "evaluation": self.protocol.name,
                "made_with": dump_provenance(self.result),
                "test_images": self.test_images,
            }
            | (
                {} if choice == self.result["dataset"] else {"dataset_choice": choice}
            ),  # an evaluation must know
        )

    def _describe(self, synthetic: "SyntheticSet") -> None:
        self.result |= {"device": str(self.device), **storage_stats(synthetic)}
        stored, decoded = self.result["images_stored"], self.result["images_decoded"]
        content = f"{stored} images" if decoded == stored else f"{stored} images holding {decoded}"
        log.info(
            "%s on %s, ipc %d: %s, seed %s, %s%s -> %s",
            self.choices["method"],
            self.result["dataset"],
            synthetic.ipc,
            content,
            self.seed,
            self.device,
            f", {self.ranks.count} processes" if self.ranks.count > 1 else "",
            relative_to_cwd(self.folder),
        )

    def _condense(
        self, real: "RealData", synthetic: "SyntheticSet", recorder: Any, moment: Any
    ) -> None:
        from dcond.device import float32_convolutions
        from dcond.run.loop import Run
        from dcond.run.progress import format_duration

        engine = getattr(self.method, "engine", None)
        exact = engine is not None and engine.precision == "float32"
        run = Run(
            method=self.method,
            real=real,
            synthetic=synthetic,
            rng=self.rng,
            folder=self.folder,
            config=self.text,
            loop=self.loop,
            recorder=recorder,
            stop=self.stop,
            evaluate=lambda images, step: self._evaluate_on_the_way(real, images, recorder, step),
            max_steps=self.max_steps,
            max_seconds=self.max_seconds,
        )
        try:
            with float32_convolutions() if exact else nullcontext():
                run.condense(moment)
        finally:
            self.result["cost"]["start_wall_s"] += run.start_wall_s
            self.resumable = run.resumable or moment is not None
            self.result["cost"] |= {
                "condense_wall_s": run.wall_s,
                "steps": run.step,
                "step_s_median": run.step_s_median,
            }
        if run.steps:
            log.info("%d steps in %s", run.step, format_duration(run.wall_s))

    def _evaluate_on_the_way(
        self, real: "RealData", synthetic: "SyntheticSet", recorder: Any, step: int
    ) -> None:
        """Evaluate the unfinished set; its own random streams leave the run untouched."""
        from dcond.evaluate.full_data import hold_out

        if self._needs is None:  # once: a teacher is known by a hash of every real image
            teacher = self.protocol.teacher
            self._needs = {
                "held_out": hold_out(self.protocol, real),
                "teacher": None if teacher is None else teacher.load_or_train(real, self.cache),
            }
        found = self.protocol.evaluate(
            lambda repeat: synthetic, self.pool, real.test, self.seed, **self._needs
        )
        values = {f"evaluate/{name}": network.mean for name, network in found.networks.items()}
        recorder.scalars({**values, "evaluate/average": found.average}, step)
        log.info("step %d: average %s %.1f %%", step, ACCURACY[self.test_on], 100 * found.average)

    def _evaluate(self, real: "RealData", synthetic: "SyntheticSet") -> "list[RenderableType]":
        from dcond.run.evaluation import EvaluationPlan, evaluate_with_baselines

        title = f"{self.choices['method']} on {real.name}, {synthetic.ipc} image(s) per class"
        tables = evaluate_with_baselines(
            self.protocol,
            self.pool,
            real,
            synthetic,
            self.seed,
            self.result,
            title=title,
            wanted=EvaluationPlan(
                baselines=self.baselines,
                full=self.full,
                unaugmented=self.unaugmented,
                cache=self.cache,
                tested_on=self.test_on,
            ),
        )
        return [*tables, f"-> {relative_to_cwd(self.folder)}"]

"""Time the phases of one step, in the plain form and in the form that ``dcond`` runs.

    python benchmarks/profile_step.py [--device cuda] [--batch 256] [--methods dm,m3d,dsa,hmdc]

ConvNet 3x128 on 10 classes of random 32 x 32 images, ipc 1; HMDC with the pool
``convnet_vit_small``. Prints a Markdown table per method; needs a quiet machine. Before: glibc's
default memory settings, whole classes in one pass, ``engine=exact``. After: freed memory kept,
chunks, ``engine=auto``; ``--compile`` compiles as a long run does. The times are taken around
functions of dcond, since torch.profiler's record of every kernel takes longer than the step. They
are medians of the steps after the first two. Each form has a process of its own.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from dcond.device import wait_for

FORMS = ("before", "after")
WARM, STEPS = 2, 3
WHOLE = 10**9


class Phases:
    """Times the calls of functions; nested calls count for the outer one."""

    def __init__(self, device: torch.device):
        self.device, self.inside = device, False
        self.seconds: dict[str, float] = {}

    def mark(self, holder: Any, name: str, phase: Callable[[], str] | str) -> None:
        """Time a function of a module or class; ``phase`` is the name, or returns it per call."""
        function = getattr(holder, name)

        @functools.wraps(function)
        def marked(*args: Any, **kwargs: Any) -> Any:
            if self.inside:
                return function(*args, **kwargs)
            self.inside = True
            name = phase if isinstance(phase, str) else phase()
            start = time.perf_counter()
            try:
                value = function(*args, **kwargs)
                self.wait()
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
                return value
            finally:
                self.inside = False

        setattr(
            holder,
            name,
            staticmethod(marked) if isinstance(vars(holder).get(name), staticmethod) else marked,
        )

    def wait(self) -> None:
        """Wait for the device, so that a phase includes the work it started."""
        wait_for(self.device)

    def of(self, step: Callable[[], object]) -> dict[str, float]:
        """Return the seconds of a step by phase; ``all`` is the whole step."""
        self.seconds = {}
        start = time.perf_counter()
        step()
        self.wait()
        return self.seconds | {"all": time.perf_counter() - start}


def mark_all(phases: Phases) -> None:
    """Mark the phases of all methods."""
    from dcond.matching import class_gradients
    from dcond.matching.class_gradients import ClassGradients
    from dcond.matching.distillation import Distillation
    from dcond.matching.fast_forward import FastForward
    from dcond.methods import dm, gradient_matching, hmdc, m3d
    from dcond.training.image_optim import PixelSGD, PixelSweep
    from dcond.training.joint import Learners

    def side() -> str:
        return "synthetic pass" if torch.is_grad_enabled() else "real pass"

    phases.mark(FastForward, "__call__", side)
    phases.mark(m3d, "mmd", "kernel distance")
    for module in (dm, m3d, gradient_matching):
        phases.mark(module, "real_by_class", "draw real images")
    for module in (dm, m3d, gradient_matching, hmdc):
        phases.mark(module, "siamese_views", "augment")
    phases.mark(hmdc, "normalised_by_class", "draw real images")
    phases.mark(hmdc, "mix_within_classes", "augment")
    phases.mark(hmdc.HMDC, "_select", "k-means choice")
    phases.mark(Distillation, "match", "alignment's gradients")
    phases.mark(Learners, "train", "networks' training")
    phases.mark(Learners, "renew", "new networks")
    phases.mark(gradient_matching.GradientMatching, "_train", "networks' training")
    phases.mark(ClassGradients, "_real", "real gradients")
    phases.mark(ClassGradients, "_gradients", "synthetic gradients")
    phases.mark(class_gradients, "value_and_gradient", "gradient distance")
    for pixels in (PixelSGD, PixelSweep):
        phases.mark(pixels, "step", "image update")
        phases.mark(pixels, "project", "image update")
    phases.mark(torch.autograd, "grad", "backward to the images")


def overrides_of(form: str, batch: int, compiled: bool) -> list[str]:
    """Return the overrides of a form."""
    overrides = ["model.width=128", f"method.batch_real={batch}", "pool@learners=convnet_vit_small"]
    if form == "before":
        return [*overrides, "engine=exact", f"engine.chunk={WHOLE}"]
    return [*overrides, f"engine.compile={str(compiled).lower()}"]


def profile(
    method: str, form: str, batch: int, device: torch.device, compiled: bool
) -> dict[str, float]:
    """Return the median seconds of each phase in this process; ``all`` is the whole step."""
    from made_up import made_method, made_up, synthetic_set

    from dcond.device import tune_malloc
    from dcond.rng import Streams

    if form == "after":
        tune_malloc()
    made: Any = made_method(method, overrides_of(form, batch, compiled))
    real = made_up(10, batch).to(device)
    synthetic = synthetic_set(real, 1, made.factor)
    phases = Phases(device)
    mark_all(phases)
    state = made.init(real, synthetic, Streams(0))
    steps = [phases.of(lambda: made.step(real, synthetic, state)) for _ in range(WARM + STEPS)]
    measured = steps[WARM:]
    names = {name for step in measured for name in step}
    return {name: statistics.median(step.get(name, 0.0) for step in measured) for name in names}


def table(method: str, seconds_of: dict[str, dict[str, float]]) -> str:
    """Return a table of both forms, sorted by the phases of the plain form."""
    before, after = (seconds_of[form] for form in FORMS)
    for seconds in (before, after):
        seconds["the rest"] = max(0.0, 2 * seconds["all"] - sum(seconds.values()))
    names = sorted({*before, *after} - {"all"}, key=lambda name: -before.get(name, 0.0))
    lines = [f"| {method.upper()} step | before, s | % | after, s | % |", "|---|---|---|---|---|"]
    for name in (*names, "all"):
        cells = [
            f"{each.get(name, 0.0):.3f} | {100 * each.get(name, 0.0) / each['all']:.0f}"
            for each in (before, after)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Profile each form of each method in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--batch", type=int, default=256, help="real images per class")
    parser.add_argument("--methods", default="dm,m3d,dsa,hmdc")
    parser.add_argument(
        "--compile", action="store_true", help="compile as a long run on a CPU does"
    )
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.form is not None:
        device = torch.device(options.device)
        print(
            json.dumps(
                profile(options.methods, options.form, options.batch, device, options.compile)
            )
        )
        return
    for method in options.methods.split(","):
        seconds_of = {}
        for form in FORMS:
            command = [
                sys.executable,
                __file__,
                "--form",
                form,
                "--methods",
                method,
                "--batch",
                str(options.batch),
            ]
            command += ["--device", options.device, *["--compile"] * options.compile]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            seconds_of[form] = json.loads(done.stdout.splitlines()[-1])
        print(table(method, seconds_of), end="\n\n", flush=True)


if __name__ == "__main__":
    main()

"""Where the time of one step goes, by phase, before and after: the plain form, and the one that ``dcond`` runs.

    python benchmarks/profile_step.py [--device cuda] [--batch 256] [--methods dm,m3d,dsa,hmdc]    # quiet machine

ConvNet 3x128 on 10 classes of made-up 32 x 32 images, ipc 1; HMDC with the pool
``convnet_vit_small``. Prints a Markdown table for each method. Before: freed memory given back
(glibc's default), classes through the network whole, ``engine=exact``. After: memory kept, chunks,
``engine=auto``; ``--compile`` compiles what a long run would. Phases are clocked around functions
of dcond (torch.profiler's record of every kernel takes longer than the step); the median of steps
after the first two. Each form has a process of its own.
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

FORMS = ("before", "after")
WARM, STEPS = 2, 3
WHOLE = 10**9


class Phases:
    """Clocks the calls of some functions; a call inside another's belongs to that one."""

    def __init__(self, device: torch.device):
        self.device, self.inside = device, False
        self.seconds: dict[str, float] = {}

    def mark(self, holder: Any, name: str, phase: Callable[[], str] | str) -> None:
        """Wrap a function of a module or class; ``phase`` is its name, or says it at each call."""
        function = getattr(holder, name)

        @functools.wraps(function)
        def marked(*words: Any, **named: Any) -> Any:
            if self.inside:
                return function(*words, **named)
            self.inside = True
            what = phase if isinstance(phase, str) else phase()
            start = time.perf_counter()
            try:
                found = function(*words, **named)
                self.wait()
                self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start
                return found
            finally:
                self.inside = False

        setattr(
            holder,
            name,
            staticmethod(marked) if isinstance(vars(holder).get(name), staticmethod) else marked,
        )

    def wait(self) -> None:
        """Let the device finish, so that a phase gets what it started."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def of(self, step: Callable[[], object]) -> dict[str, float]:
        """Return the seconds of a step by phase; ``all`` is the whole step."""
        self.seconds = {}
        start = time.perf_counter()
        step()
        self.wait()
        return self.seconds | {"all": time.perf_counter() - start}


def mark_all(phases: Phases) -> None:
    """Name the phases of every method here."""
    from dcond.matching import class_gradients
    from dcond.matching import feature_matching as features
    from dcond.matching import multi_network as together
    from dcond.matching.class_gradients import ClassGradients
    from dcond.methods import dm, gradient_matching, hmdc, m3d
    from dcond.training.image_optim import PixelSGD, PixelSweep
    from dcond.training.joint import Learners

    def side() -> str:
        return "synthetic pass" if torch.is_grad_enabled() else "real pass"

    phases.mark(features, "embed_by_class", side)
    phases.mark(m3d, "mmd", "kernel distance")
    for module in (dm, m3d, gradient_matching):
        phases.mark(module, "real_by_class", "draw real images")
    for module in (dm, m3d, gradient_matching, hmdc):
        phases.mark(module, "siamese_augment", "augment")
    phases.mark(hmdc, "normalised_by_class", "draw real images")
    phases.mark(hmdc, "mix_within_classes", "augment")
    phases.mark(hmdc.HMDC, "_select", "k-means choice")
    phases.mark(together, "match_distillation", "alignment's gradients")
    phases.mark(Learners, "train", "networks' training")
    phases.mark(Learners, "renew", "new networks")
    phases.mark(gradient_matching.GradientMatching, "_train", "networks' training")
    phases.mark(ClassGradients, "_real", "real gradients")
    phases.mark(ClassGradients, "_synthetic", "synthetic gradients")
    phases.mark(class_gradients, "value_and_gradient", "gradient distance")
    for pixels in (PixelSGD, PixelSweep):
        phases.mark(pixels, "step", "image update")
        phases.mark(pixels, "project", "image update")
    phases.mark(torch.autograd, "grad", "backward to the images")


def words_of(method: str, form: str, batch: int, compiled: bool) -> list[str]:
    words = ["model.width=128", f"method.batch_real={batch}", "pool@learners=convnet_vit_small"]
    if form == "before":
        return [*words, "engine=exact", f"engine.chunk={WHOLE}"]
    return [*words, f"engine.compile={str(compiled).lower()}"]


def profiled(
    method: str, form: str, batch: int, device: torch.device, compiled: bool
) -> dict[str, float]:
    """Return the median seconds of a step's phases in this process; ``all`` is the whole step."""
    import dataclasses

    from made_up import made_method, made_up, synthetic_set

    from dcond.device import tune_malloc
    from dcond.rng import Streams

    if form == "after":
        tune_malloc()
    made: Any = made_method(method, words_of(method, form, batch, compiled))
    real = made_up(10, batch).to(device)
    synthetic = dataclasses.replace(synthetic_set(real, 1), factor=made.factor)
    phases = Phases(device)
    mark_all(phases)
    state = made.init(real, synthetic, Streams(0))
    found = [phases.of(lambda: made.step(real, synthetic, state)) for _ in range(WARM + STEPS)][
        WARM:
    ]
    names = {name for step in found for name in step}
    return {name: statistics.median(step.get(name, 0.0) for step in found) for name in names}


def table(method: str, found: dict[str, dict[str, float]]) -> str:
    """Write the two forms side by side, the largest phase of the plain form first."""
    before, after = (found[form] for form in FORMS)
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--batch", type=int, default=256, help="real images per class")
    parser.add_argument("--methods", default="dm,m3d,dsa,hmdc")
    parser.add_argument(
        "--compile", action="store_true", help="after: compiled, as in a long run on a CPU"
    )
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.form is not None:
        device = torch.device(given.device)
        print(json.dumps(profiled(given.methods, given.form, given.batch, device, given.compile)))
        return
    for method in given.methods.split(","):
        found = {}
        for form in FORMS:
            words = [
                sys.executable,
                __file__,
                "--form",
                form,
                "--methods",
                method,
                "--batch",
                str(given.batch),
            ]
            words += ["--device", given.device, *["--compile"] * given.compile]
            done = subprocess.run(
                words, capture_output=True, text=True, check=False
            )  # the profiler's notes fill stderr
            if done.returncode:
                sys.exit(done.stderr)
            found[form] = json.loads(done.stdout.splitlines()[-1])
        print(table(method, found), end="\n\n", flush=True)


if __name__ == "__main__":
    main()

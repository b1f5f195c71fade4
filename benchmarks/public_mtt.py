"""Time a step of MTT's public loop and of dcond's trajectory matching, and measure their memory.

    git clone https://github.com/GeorgeCazenavette/mtt-distillation PUBLIC    # commit 50dccea
    python benchmarks/public_mtt.py PUBLIC     # write benchmarks/cpu/public_mtt.csv

ConvNet-3 of width 32, ten classes of 32 x 32 colour images at random, ten per class, DSA, as in
trajectories.py, which measures dcond. Every row has a process of its own with one thread: the CPU
seconds of the second of two steps, and the peak of resident memory above that before the steps.
The codes alternate, twice. The public files are unchanged: the script puts made-up data and
weights in place of their loaders, and stands in for wandb and kornia.
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from made_up import where_and_when, write_rows
from public_evaluator import public_code
from trajectories import CLASSES, IPC, SIDE, measure

from dcond.device import peak_memory_bytes, reset_peak_memory

TABLE = Path("benchmarks/cpu/public_mtt.csv")
PUBLIC = "public, GeorgeCazenavette/mtt-distillation 50dccea"
CODES = {PUBLIC: None, "dcond, full graph": 0, "dcond, segments of 5": 5}
STUDENT_STEPS = (10, 30)
MODEL, RATE_OF_IMAGES = "ConvNetW32", 1000.0
CPU = torch.device("cpu")


def public_step(folder: Path, steps: int) -> tuple[float, float]:
    """Run two steps of the public loop; return CPU seconds and MiB of the second."""
    sys.modules["kornia"] = MagicMock()
    wandb = sys.modules["wandb"] = MagicMock()
    wandb.init.side_effect = lambda config, **_: setattr(wandb.config, "_items", vars(config))
    utils = public_code(folder)
    utils.get_dataset = made_up_data
    import distill as public

    clock, memory, step = [], [float(peak_memory_bytes(CPU))], torch.optim.SGD.step

    def timed(optimiser: torch.optim.SGD, *args: Any) -> Any:
        if optimiser.param_groups[0]["lr"] == RATE_OF_IMAGES:
            clock.append(time.process_time())
            memory.append(float(peak_memory_bytes(CPU)))
            reset_peak_memory(CPU)
        return step(optimiser, *args)

    torch.optim.SGD.step = timed
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        experts = Path(place) / "made_up" / MODEL
        experts.mkdir(parents=True)
        network = utils.get_network(MODEL, 3, CLASSES, (SIDE, SIDE), dist=False)
        start = [p.detach() for p in network.parameters()]
        target = [p + 0.01 * torch.randn(p.shape) for p in start]
        torch.save([[start, target]], experts / "replay_buffer_0.pt")
        public.main(options(place, steps))
    return clock[1] - clock[0], (memory[2] - memory[0]) / 2**20


def options(place: str, steps: int) -> SimpleNamespace:
    """Return the arguments of the public ``distill.py`` for two updates without evaluation."""
    return SimpleNamespace(
        **{name: False for name in ("zca", "texture", "load_all", "no_aug", "force_save")},
        **{name: None for name in ("max_experts", "max_files", "subset", "batch_syn")},
        dataset="made_up",
        model=MODEL,
        ipc=IPC,
        eval_mode="S",
        eval_it=-1,
        Iteration=1,
        lr_img=RATE_OF_IMAGES,
        lr_lr=1e-5,
        lr_teacher=0.01,
        batch_real=256,
        pix_init="real",
        dsa="True",
        dsa_strategy="color_crop_cutout_flip_scale_rotate",
        data_path=place,
        buffer_path=place,
        expert_epochs=1,
        syn_steps=steps,
        max_start_epoch=1,
    )


def made_up_data(*_: object, **__: object) -> tuple[Any, ...]:
    """Replace the public ``get_dataset`` by images at random."""
    train = [(torch.randn(3, SIDE, SIDE), c) for c in range(CLASSES) for _ in range(IPC)]
    names = [str(c) for c in range(CLASSES)]
    same = {c: c for c in range(CLASSES)}
    zero, one = [0.0] * 3, [1.0] * 3
    return 3, (SIDE, SIDE), CLASSES, names, zero, one, train, None, None, {}, same, same


def main() -> None:
    """Measure every code twice for each number of student steps; with a code, be its process."""
    folder, *own = sys.argv[1:]
    if own:
        torch.set_num_threads(1)
        code, steps = own[0], int(own[1])
        segment = CODES[code]
        found = (
            public_step(Path(folder), steps)
            if segment is None
            else measure(steps, segment, "exact")
        )
        print(*found)
        return
    rows = []
    for steps in STUDENT_STEPS:
        for attempt in (1, 2):
            for code in CODES:
                command = [sys.executable, __file__, folder, code, str(steps)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds, memory = map(float, done.stdout.split()[-2:])
                print(f"{steps} steps, {code}: {seconds:.2f} s, {memory:.0f} MiB", flush=True)
                rows.append(
                    {
                        "student_steps": steps,
                        "code": code,
                        "attempt": attempt,
                        "cpu_s": f"{seconds:.2f}",
                        "peak_mib": f"{memory:.0f}",
                    }
                    | where_and_when(threads=1)
                )
    write_rows(TABLE, rows)


if __name__ == "__main__":
    main()

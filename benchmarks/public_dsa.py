"""Time a DSA step of the authors' public code and of ``dcond condense``.

    git clone https://github.com/VICO-UoE/DatasetCondensation PUBLIC    # commit 53f63a6, unchanged
    python benchmarks/public_dsa.py PUBLIC                # needs DCOND_DATA/fashion_mnist.npz

The settings of ``experiment=dsa/parity_fashion_mnist``: ipc 10, ConvNet-3 of width 32, 256 real
images per class, five epochs on the synthetic set between two image steps. Two networks of ten
image steps; a step is one image update and the training after it. Writes their median to
benchmarks/cpu/parity_dsa_seconds.csv; the codes alternate, twice, on a quiet machine. The public
files are unchanged: the script adds what current packages need (public_evaluator.py), the data,
and a timer in the optimiser.
"""

import contextlib
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_up import where_and_when, write_rows
from public_evaluator import public_code

from dcond.data.statistics import LEGACY
from dcond.device import tune_malloc

TABLE = Path("benchmarks/cpu/parity_dsa_seconds.csv")
LR_IMAGES = 0.1  # identifies the optimiser of the images
PUBLIC_OPTIONS = (
    "--method DSA --dataset FashionMNIST --model ConvNetW32 --ipc 10 --init real --Iteration 1 "
    f"--num_exp 1 --num_eval 0 --lr_img {LR_IMAGES} "
    "--dsa_strategy color_crop_cutout_flip_scale_rotate"
)
OVERRIDES = "experiment=dsa/parity_fashion_mnist max_steps=20 evaluate=false tensorboard=false"
PUBLIC, KEPT = "public, VICO-UoE/DatasetCondensation 53f63a6", "public, freed memory kept"


def fashion_mnist(*_: object) -> tuple[Any, ...]:
    """Replace the public ``get_dataset``: read the prepared file."""
    (mean,), (std,) = LEGACY["fashion_mnist"]
    content = np.load(Path(os.environ["DCOND_DATA"]) / "fashion_mnist.npz", allow_pickle=False)
    images = (torch.tensor(content["train_images"]).permute(0, 3, 1, 2).float() / 255 - mean) / std
    train = list(zip(images.contiguous(), content["train_labels"].tolist(), strict=True))
    return 1, (28, 28), 10, list(range(10)), [mean], [std], train, None, None


def public_seconds(folder: Path) -> float:
    """Run the public loop in this process; return the median seconds between image updates."""
    utils = public_code(folder)
    utils.get_dataset = fashion_mnist
    utils.get_loops = lambda ipc: (10, 5)
    times, step = [], torch.optim.SGD.step

    def timed(optimiser: torch.optim.SGD, *args: Any) -> Any:
        if optimiser.param_groups[0]["lr"] == LR_IMAGES:
            times.append(time.perf_counter())
        return step(optimiser, *args)

    torch.optim.SGD.step = timed
    import main as public

    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        sys.argv = ["main.py", *PUBLIC_OPTIONS.split(), "--save_path", place, "--data_path", place]
        public.main()
    return statistics.median(b - a for a, b in itertools.pairwise(times))


def dcond_seconds() -> float:
    """Run ``dcond condense`` and return the median seconds of a step from its result."""
    with tempfile.TemporaryDirectory() as place:
        arguments = [*OVERRIDES.split(), f"hydra.run.dir={place}/run"]
        subprocess.run(
            [sys.executable, "-m", "dcond", "condense", *arguments], check=True, capture_output=True
        )
        return float(
            json.loads((Path(place) / "run" / "result.json").read_text())["cost"]["step_s_median"]
        )


def seconds_of(folder: str, code: str) -> float:
    """Return the seconds of a code; the public one runs in a process of its own."""
    if code == "dcond":
        return dcond_seconds()
    command = [sys.executable, __file__, folder, code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Time each code twice, alternating; with a code, be its process."""
    folder, *code = sys.argv[1:]
    if code:
        if code[0] == KEPT:
            tune_malloc()
        print(public_seconds(Path(folder)))
        return
    rows = []
    for attempt in (1, 2):
        for name in ("dcond", PUBLIC, KEPT):
            seconds = seconds_of(folder, name)
            print(f"{name}: {seconds:.3f} s", flush=True)
            command = (
                f"dcond condense {OVERRIDES}" if name == "dcond" else f"main.py {PUBLIC_OPTIONS}"
            )
            where = where_and_when(torch.get_num_threads())
            rows.append(
                {
                    "code": name,
                    "attempt": attempt,
                    "step_s_median": round(seconds, 4),
                    **where,
                    "command": command,
                }
            )
    write_rows(TABLE, rows)


if __name__ == "__main__":
    main()

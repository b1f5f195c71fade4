"""Make the two example reports in docs/examples/: a sweep on digits and one on Fashion-MNIST.

    DCOND_DATA=DIR python scripts/example_reports.py    # twenty minutes on one core
    python scripts/example_reports.py report            # only the reports, from existing sweeps

The sweeps stay in outputs/examples/NAME; finished jobs are not repeated.
"""

import shutil
import subprocess
import sys
from pathlib import Path

SWEEPS = {
    "digits": "method=random,dm,m3d ipc=1,10 seed=0,1,2 max_steps=100 evaluation.repeats=1 "
    "threads=1 baselines=false tensorboard=false",
    "fashion_mnist": "experiment=cpu/table dataset=fashion_mnist method=random,dm,m3d ipc=1,10 "
    "seed=0,1,2 max_steps=20 model.width=16 ~pool.networks.ResNet "
    "pool.networks.ConvNet.width=16 evaluation.epochs=60",
}
RUNS, PAGES = Path("outputs/examples"), Path("docs/examples")
COPIED = (
    "index.html",
    "report.md",
    "figures/accuracy_over_ipc_{}_quick.png",
    "figures/networks_{}_quick.png",
)


def dcond(*arguments: str) -> None:
    """Run dcond with these arguments."""
    subprocess.run([sys.executable, "-m", "dcond", *arguments], check=True)


def sweep(name: str, overrides: str) -> None:
    """Run every combination, one after another."""
    dcond("condense", "-m", *overrides.split(), f"hydra.sweep.dir={RUNS / name}")


def report(name: str) -> None:
    """Write the report and copy its page, Markdown tables and two figures into the docs."""
    whole = RUNS / f"{name}_report"
    dcond("report", str(RUNS / name), "--out", str(whole))
    for file in (file.format(name) for file in COPIED):
        (PAGES / name / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(whole / file, PAGES / name / file)


def main() -> None:
    """Run the sweeps and write their reports."""
    for name, overrides in SWEEPS.items():
        if sys.argv[1:] != ["report"]:
            sweep(name, overrides)
        report(name)


if __name__ == "__main__":
    main()

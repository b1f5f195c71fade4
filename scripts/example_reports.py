"""The two example reports: a sweep on digits and one on Fashion-MNIST, and a report of each.

    DCOND_DATA=DIR python scripts/example_reports.py           # writes docs/examples/; twenty minutes on one core
    python scripts/example_reports.py report                   # the reports alone, of sweeps that are there

Sweeps stay in outputs/examples/NAME; a job that is there and done is not run again.
"""

import shutil
import subprocess
import sys
from pathlib import Path

SWEEPS = {
    "digits": "method=random,dm,m3d ipc=1,10 seed=0,1,2 max_steps=100 evaluation.repeats=1 threads=1 baselines=false "
    "tensorboard=false",
    "fashion_mnist": "experiment=cpu/table dataset=fashion_mnist method=random,dm,m3d ipc=1,10 seed=0,1,2 "
    "max_steps=20 model.width=16 ~pool.networks.ResNet pool.networks.ConvNet.width=16 evaluation.epochs=60",
}
RUNS, PAGES = Path("outputs/examples"), Path("docs/examples")
KEPT = (
    "index.html",
    "report.md",
    "figures/accuracy_over_ipc_{}_quick.png",
    "figures/networks_{}_quick.png",
)


def dcond(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "dcond", *words], check=True)


def sweep(name: str, words: str) -> None:
    """Run every combination, one after another."""
    dcond("condense", "-m", *words.split(), f"hydra.sweep.dir={RUNS / name}")


def report(name: str) -> None:
    """Write the report and keep the page, the Markdown tables and two figures."""
    whole = RUNS / f"{name}_report"
    dcond("report", str(RUNS / name), "--out", str(whole))
    for file in (file.format(name) for file in KEPT):
        (PAGES / name / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(whole / file, PAGES / name / file)


def main() -> None:
    for name, words in SWEEPS.items():
        if sys.argv[1:] != ["report"]:
            sweep(name, words)
        report(name)


if __name__ == "__main__":
    main()

"""Probe sets of LGM and random images on digits 0 to 4, under networks trained on digits 5 to 9.

    python scripts/lgm_digits.py [STEPS]     # 300; a few minutes on one core

Prints the rows of benchmarks/cpu/lgm_digits.csv. Accuracies are on held-out training images.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from dcond.augment import DiffAug
from dcond.data import Digits
from dcond.evaluation import LinearProbe, Teacher
from dcond.evaluation.full_data import tuning_data
from dcond.init import FromReal, Noise, Random
from dcond.methods.lgm import LGM
from dcond.models import MLP, ConvNet, Pool
from dcond.rng import Streams
from dcond.run import condense
from dcond.types import SyntheticSet

STARTS = {"noise": Noise(), "real": FromReal(rule=Random())}
CASES = [  # initial images, learning rate, augmentation and noise
    ("noise", 0.005, True),
    ("noise", 0.02, True),
    ("noise", 0.08, True),
    ("noise", 0.02, False),
    ("real", 0.02, True),
]


def frozen(folder: Path) -> Pool:
    """Return networks whose weights were trained on digits 5 to 9."""
    others = Digits(name="digits", classes=[5, 6, 7, 8, 9]).load(torch.device("cpu"))
    networks = {
        "ConvNet": ConvNet(name="ConvNet", width=32, depth=2),
        "MLP": MLP(name="MLP", hidden=(128, 128), lr=0.03),
    }
    trained = {}
    for name, network in networks.items():
        teacher = Teacher(network=network, epochs=30, batch=64).load_or_train(others, folder)
        torch.save(teacher.network.state_dict(), folder / f"{name}.pt")
        trained[name] = replace(network, weights=str(folder / f"{name}.pt"))
    return Pool(networks=trained)


def main() -> None:
    """Print a row per set and network."""
    torch.set_num_threads(1)
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    real = tuning_data(Digits(name="digits", classes=[0, 1, 2, 3, 4]).load(torch.device("cpu")))
    probe = LinearProbe(name="linear_probe", repeats=1)
    with tempfile.TemporaryDirectory() as folder:
        pool = frozen(Path(folder))

        def show(row: str, synthetic: SyntheticSet) -> None:
            found = probe.evaluate(lambda repeat: synthetic, pool, real.test, 0).networks
            for name, network in found.items():
                print(f"{row},{name},{100 * network.mean:.1f}", flush=True)

        for seed in (0, 1):
            images = STARTS["real"](real, 1, 1, Streams(seed))
            show(f"random real {seed},,", SyntheticSet.from_images(images, real, ipc=1))
        for start, lr, augmented in CASES:
            method = LGM(
                network=pool.networks["ConvNet"],
                augment=DiffAug(["resized_crop"] if augmented else [], "idc"),
                steps=steps,
                lr=lr,
                grow_every=max(1, steps // 12),
                noise=augmented,
            )
            made = condense(
                real,
                method=method,
                init=STARTS[start],
                device=torch.device("cpu"),
                show_progress=False,
            )
            show(f"{start},{lr},{'yes' if augmented else 'no'}", made.synthetic)


if __name__ == "__main__":
    main()

"""Score exported sets by the authors' public DC/DSA/DM evaluator and by ``dcond evaluate``.

    git clone https://github.com/VICO-UoE/DatasetCondensation PUBLIC    # commit 53f63a6, unchanged
    DCOND_DATA=DIR python benchmarks/public_evaluator.py PUBLIC NAME=FILE.pt …

Fashion-MNIST, ConvNet-3 of width 32, batches of 256, rate 0.01, DSA's six augmentations, 300
epochs of the public code's counting (0 to 300, rate dropped after 152), five networks each.
Writes benchmarks/cpu/public_evaluator.csv. The public files are unchanged; the script adds what
current packages need.
"""

import json
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from made_up import where_and_when, write_rows

from dcond.data.statistics import LEGACY
from dcond.device import tune_malloc

TABLE = Path("benchmarks/cpu/public_evaluator.csv")
EPOCHS, NETWORKS, WIDTH = 300, 5, 32
PUBLIC_CODE = "evaluate_synset of github VICO-UoE/DatasetCondensation 53f63a6"
OVERRIDES = (
    "dataset=fashion_mnist synthetic.normalised=true evaluation=dsa1000 evaluation.epochs=301 "
    "evaluation.lr_milestones=[0.505] "
    f"evaluation.repeats={NETWORKS} pool=convnet pool.networks.ConvNet.width={WIDTH} "
    "baselines=false threads=1"
)


def public_code(folder: Path) -> types.ModuleType:
    """Import the public ``utils.py`` with scipy's old module name and contiguous crops."""
    old = types.ModuleType("scipy.ndimage.interpolation")
    old.rotate = scipy.ndimage.rotate
    sys.modules[old.__name__] = old
    sys.path.insert(0, str(folder))
    import utils

    augment = utils.DiffAugment

    def augmented(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        # Its own assignments fail for one image; the first of two has the same draws.
        several = x if len(x) > 1 else torch.cat([x, x])
        found = augment(several, *args, **kwargs)[: len(x)]
        return found.flatten().view(found.shape)  # which the public network's ``view`` accepts

    utils.DiffAugment = augmented
    return utils


def public_accuracies(utils: types.ModuleType, file: Path) -> list[float]:
    """Train and test networks by the public evaluator, which sets no seed."""
    from networks import ConvNet

    content = torch.load(file, weights_only=True)
    images, labels = content["images"], content["labels"]
    real = np.load(Path(os.environ["DCOND_DATA"]) / "fashion_mnist.npz", allow_pickle=False)
    (mean,), (std,) = LEGACY["fashion_mnist"]
    test = (torch.tensor(real["test_images"]).permute(0, 3, 1, 2).float() / 255 - mean) / std
    test_set = utils.TensorDataset(test.contiguous(), torch.tensor(real["test_labels"]))
    loader = torch.utils.data.DataLoader(test_set, batch_size=256, shuffle=False)
    args = SimpleNamespace(device="cpu", lr_net=0.01, epoch_eval_train=EPOCHS, batch_train=256)
    args.dsa, args.dsa_strategy, args.dsa_param = (
        True,
        "color_crop_cutout_flip_scale_rotate",
        utils.ParamDiffAug(),
    )
    accuracies = []
    for number in range(NETWORKS):
        network = ConvNet(1, 10, WIDTH, 3, "relu", "instancenorm", "avgpooling", (28, 28))
        accuracies.append(
            float(utils.evaluate_synset(number, network, images, labels, loader, args)[2])
        )
    return accuracies


def dcond_accuracies(file: Path) -> list[float]:
    """Evaluate a file by ``dcond evaluate``."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*OVERRIDES.split(), f"synthetic={file}", f"hydra.run.dir={folder}/run"]
        subprocess.run([sys.executable, "-m", "dcond", "evaluate", *arguments], check=True)
        result = json.loads((Path(folder) / "run" / "result.json").read_text())
    return result["evaluation"]["networks"]["ConvNet"]["accuracies"]


def main() -> None:
    """Evaluate every NAME=FILE by both codes."""
    public, *files = sys.argv[1:]
    torch.set_num_threads(1)
    tune_malloc()
    utils = public_code(Path(public))
    rows = []
    for name, _, file in (argument.partition("=") for argument in files):
        command_of_dcond = f"dcond evaluate synthetic={name}.pt {OVERRIDES}"
        for code, command, accuracies in (
            ("public", PUBLIC_CODE, public_accuracies(utils, Path(file))),
            ("dcond", command_of_dcond, dcond_accuracies(Path(file))),
        ):
            rows += [
                {
                    "set": name,
                    "code": code,
                    "network": number,
                    "accuracy": round(accuracy, 4),
                    "command": command,
                }
                | where_and_when(threads=1)
                for number, accuracy in enumerate(accuracies)
            ]
    write_rows(TABLE, rows)


if __name__ == "__main__":
    main()

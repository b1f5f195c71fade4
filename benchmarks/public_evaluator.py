"""A set that dcond exported, scored by the authors' public DC/DSA/DM evaluator and by ``dcond evaluate``.

    git clone https://github.com/VICO-UoE/DatasetCondensation PUBLIC        # commit 53f63a6, as it is
    python benchmarks/public_evaluator.py PUBLIC NAME=FILE.pt …            # needs DCOND_DATA/fashion_mnist.npz

Fashion-MNIST, ConvNet-3 of width 32, batches of 256, rate 0.01, DSA's six augmentations, 300 epochs
of the public code's counting (0 to 300, rate dropped after 152), five networks each. Writes
benchmarks/cpu/public_evaluator.csv. The public files stay as they are; what current packages need
is put around them.
"""

import json
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import scipy.ndimage
import torch
from made_up import where_and_when, write_rows

from dcond.data.statistics import LEGACY
from dcond.device import tune_malloc

TABLE = Path("benchmarks/cpu/public_evaluator.csv")
EPOCHS, NETWORKS, WIDTH = 300, 5, 32
THEIRS = "evaluate_synset of github VICO-UoE/DatasetCondensation 53f63a6"
WORDS = (
    "dataset=fashion_mnist synthetic.normalised=true evaluation=dsa1000 evaluation.epochs=301 evaluation.lr_milestones=[0.505] "
    f"evaluation.repeats={NETWORKS} pool=convnet pool.networks.ConvNet.width={WIDTH} baselines=false threads=1"
)


def public_code(folder: Path) -> types.ModuleType:
    """Import the public ``utils.py``, with scipy's old module name and images in plain memory order after a crop."""
    old = types.ModuleType("scipy.ndimage.interpolation")
    old.rotate = scipy.ndimage.rotate
    sys.modules[old.__name__] = old
    sys.path.insert(0, str(folder))
    import utils

    augment = utils.DiffAugment
    utils.DiffAugment = lambda x, *words, **options: _plain(augment(x, *words, **options))
    return utils


def _plain(x: torch.Tensor) -> torch.Tensor:
    """Give up strides of a permuted tensor, which the public network's ``view`` cannot take."""
    return x.flatten().view(x.shape)


def public_accuracies(utils: types.ModuleType, file: Path) -> list[float]:
    """Train and test networks by the public evaluator; it seeds nothing, so its figures do not repeat."""
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
    found = []
    for number in range(NETWORKS):
        network = ConvNet(1, 10, WIDTH, 3, "relu", "instancenorm", "avgpooling", (28, 28))
        found.append(float(utils.evaluate_synset(number, network, images, labels, loader, args)[2]))
    return found


def our_accuracies(file: Path) -> list[float]:
    """Run ``dcond evaluate`` on the file."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*WORDS.split(), f"synthetic={file}", f"hydra.run.dir={folder}/run"]
        subprocess.run([sys.executable, "-m", "dcond", "evaluate", *words], check=True)
        result = json.loads((Path(folder) / "run" / "result.json").read_text())
    return result["evaluation"]["networks"]["ConvNet"]["accuracies"]


def main() -> None:
    public, *files = sys.argv[1:]
    torch.set_num_threads(1)
    tune_malloc()
    utils = public_code(Path(public))
    rows = []
    for name, _, file in (word.partition("=") for word in files):
        ours = f"dcond evaluate synthetic={name}.pt {WORDS}"
        for code, command, found in (
            ("public", THEIRS, public_accuracies(utils, Path(file))),
            ("dcond", ours, our_accuracies(Path(file))),
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
                for number, accuracy in enumerate(found)
            ]
    write_rows(TABLE, rows)


if __name__ == "__main__":
    main()

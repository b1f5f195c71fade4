"""Accuracies of sets by the public codes of NCFM, IDM and RDED, beside those of dcond's sets.

    git clone https://github.com/gszfwsb/NCFM       # commit de92fb8
    git clone https://github.com/uitrbn/IDM         # commit fe23bbc
    git clone https://github.com/LINs-lab/RDED      # commit 3f6453d
    DCOND_DATA=DIR python benchmarks/public_accuracy.py ncfm=NCFM idm=IDM rded=RDED

CIFAR-10, ipc 10, ConvNet-3 of width 32, a CPU's size, three seeds; both codes with the same steps,
rates, batches and trained networks, each with its own random draws. All sets are evaluated by
dcond with three networks. Runs are kept in outputs/public_accuracy and not repeated. Writes
benchmarks/cpu/public_accuracy.csv, whose seconds measure speed on a quiet machine only. The public
files are unchanged: the script adds the modules that their imports need, the data, and the
networks.
"""

import contextlib
import importlib
import io
import itertools
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from made_up import where_and_when, write_rows
from public_steps import COMMITS, IMAGENET, copy_weights, idm_code, module, run_idm
from safetensors import safe_open
from torch import Tensor, nn

from dcond.data.statistics import LEGACY
from dcond.models import ConvNet
from dcond.rng import Streams
from dcond.types import ImageSpec

TABLE = Path("benchmarks/cpu/public_accuracy.csv")
RUNS = Path("outputs/public_accuracy")
SEEDS, CLASSES, IPC, SIDE, WIDTH, STEPS = (0, 1, 2), 10, 10, 32, 32, 60
MEAN, STD = (torch.tensor(values).view(-1, 1, 1) for values in LEGACY["cifar10"])
SPEC = ImageSpec(3, SIDE, SIDE, CLASSES, *LEGACY["cifar10"])
NETWORK = ConvNet(name="ConvNet", depth=3, width=WIDTH)
COMMON = (
    "dataset=cifar10 dataset.stats=legacy pool=convnet pool.networks.ConvNet.width=32 "
    "evaluation=quick evaluation.epochs=100 baselines=false threads=1 "
    f"paths.outputs={RUNS}"
)
EXPERTS, NCFM_REAL, NCFM_LR = 3, 512, 0.02
IDM_LR, IDM_REAL, IDM_INNER, IDM_QUEUE = 2.0, 128, 2, 10
RDED_IMAGES = 300
OVERRIDES = {
    "ncfm": f"method=ncfm method.steps={STEPS} method.lr={NCFM_LR} method.frequencies=4096 "
    f"method.real_batch=first method.batch_real={NCFM_REAL} "
    f"method.experts.count={EXPERTS} method.experts.epochs=3",
    "idm": f"method=idm method.steps={STEPS} method.lr={IDM_LR} method.batch_real={IDM_REAL} "
    f"method.inner_steps={IDM_INNER} method.queue_size={IDM_QUEUE}",
    "rded": f"method=rded method.images={RDED_IMAGES} method.teacher.epochs=2",
}
VARIANTS = {  # settings other than dcond's defaults
    "idm": {
        "as_published": "method.sweep=sequential method.pixel_box=free init.shrink=bilinear",
    }
}
FACTOR = {"ncfm": 2, "idm": 2, "rded": 1}


def real_images() -> tuple[Tensor, Tensor]:
    """Return the training images of CIFAR-10, pixels in [0, 1], and their labels."""
    content = np.load(Path(os.environ["DCOND_DATA"]) / "cifar10.npz", allow_pickle=False)
    images = torch.tensor(content["train_images"]).permute(0, 3, 1, 2).float() / 255
    return images.contiguous(), torch.tensor(content["train_labels"], dtype=torch.long)


def class_rows(labels: Tensor) -> list[Tensor]:
    """Return the rows of every class."""
    return [(labels == c).nonzero().squeeze(1) for c in range(CLASSES)]


# NCFM


def ncfm(folder: Path, seed: int) -> tuple[Tensor, float]:
    """Run the public ``Condenser``; return its images in [0, 1] and the seconds of its steps."""
    module("efficientnet_pytorch", EfficientNet=None)
    sys.path.insert(0, str(folder))
    public = importlib.import_module("condenser.Condenser")
    utils = importlib.import_module("utils.utils")
    diffaug = importlib.import_module("utils.diffaug").diffaug
    public_network = importlib.import_module("models.convnet").ConvNet
    images, labels = real_images()
    rows = class_rows(labels)

    class Loader:
        """As the public loader in memory: always the first images of a class."""

        def class_sample(self, c: int, count: int) -> tuple[Tensor, Tensor]:
            return images[rows[c][:count]], torch.full((count,), c)

    with tempfile.TemporaryDirectory() as place:
        weights = ncfm_weights(public_network)
        for index, pair in enumerate(weights):
            for kind, state in zip(("init", "trained"), pair, strict=True):
                torch.save(state, Path(place) / f"premodel{index}_{kind}.pth.tar")
        torch.distributed.init_process_group(
            "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
        )
        args = SimpleNamespace(
            dataset="cifar10",
            nclass=CLASSES,
            class_list=range(CLASSES),
            size=SIDE,
            nch=3,
            net_type="convnet",
            norm_type="instance",
            depth=3,
            width=WIDTH / 128,
            num_premodel=EXPERTS,
            pretrain_dir=place,
            ipc=IPC,
            factor=2,
            decode_type="single",
            aug_type="color_crop_cutout",
            mixup="cut",
            batch_real=NCFM_REAL,
            niter=STEPS,
            num_freqs=4096,
            alpha_for_loss=0.5,
            beta_for_loss=0.5,
            sampling_net=False,
            iter_calib=1,
            calib_weight=1,
            device="cpu",
            rank=0,
            local_rank=0,
            logger=lambda *_: None,
            it_log=STEPS + 1,
            it_save=[],
        )
        augment, _ = diffaug(args, device="cpu")
        random.seed(seed)
        chosen = public.Condenser(args, list(range(CLASSES)), 3, SIDE, SIDE, device="cpu")
        # the public initialisation takes the first images of a class, dcond's random ones
        shuffled = SimpleNamespace(
            class_sample=lambda c, n: (images[rows[c][torch.randperm(len(rows[c]))[:n]]], c)
        )
        chosen.load_condensed_data(shuffled, init_type="mix")
        optimiser = utils.get_optimizer(
            "adamw", chosen.parameters(), lr=NCFM_LR / (2 * CLASSES) ** 0.5, weight_decay=5e-4
        )
        start = time.perf_counter()
        with (
            mock.patch.object(public, "gather_save_visualize"),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            chosen.condense(
                args, mock.Mock(), Loader(), augment, optimiser, *utils.get_feature_extractor(args)
            )
        seconds = time.perf_counter() - start
    return chosen.data.detach().clamp(0, 1), seconds


def ncfm_weights(public_network: Callable[..., nn.Module]) -> list[tuple[Any, Any]]:
    """Return dcond's networks before and after their training, as the public code stores them."""
    files = sorted((RUNS / "cache" / "experts").glob("*/*.safetensors"))
    assert len(files) == EXPERTS, files
    found = []
    for file in files:
        with safe_open(str(file), framework="pt") as content:
            stacked = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        states = []
        for epoch in (0, -1):
            own = NETWORK.build(SPEC, Streams(0).networks, torch.device("cpu"))
            own.load_state_dict({name: values[epoch] for name, values in stacked.items()})
            made = public_network(CLASSES, net_width=WIDTH)
            layers = made.layers
            copy_weights(own, zip(layers["conv"], layers["norm"], strict=True), made.classifier)
            states.append(made.state_dict())
        found.append((states[0], states[1]))
    return found


# IDM

IDM_OPTIONS = (
    f"--dataset CIFAR10 --model ConvNet --ipc {IPC} --dsa_strategy "
    "color_crop_cutout_flip_scale_rotate --init real --aug --num_exp 1 --num_eval 0 "
    f"--lr_img {IDM_LR:g} --Iteration {STEPS - 1} --eval_interval 100000 --net_train_real "
    "--net_decay --embed_last 1000 --syn_ce --ce_weight 0.5 --train_net_num 1 "
    f"--batch_real {IDM_REAL} --model_train_steps {IDM_INNER} --net_num {IDM_QUEUE}"
)


def idm(folder: Path, seed: int) -> tuple[Tensor, float]:
    """Run the public ``main``; return its normalised images and the seconds of its steps."""
    public = idm_code(folder)
    networks = importlib.import_module("dc_networks")
    images, labels = real_images()
    pairs = list(zip((images - MEAN) / STD, labels.tolist(), strict=True))
    data = (3, (SIDE, SIDE), CLASSES, [], *LEGACY["cifar10"], pairs, *[None] * 5)
    np.random.seed(seed)
    random.seed(seed)

    def network(*_: object) -> nn.Module:
        made: nn.Module = networks.ConvNet(
            3, CLASSES, WIDTH, 3, "relu", "instancenorm", "avgpooling", (SIDE, SIDE)
        )
        return made

    began = []

    def get_time() -> str:  # called once before the sweeps
        began.append(time.perf_counter())
        return ""

    with (
        tempfile.TemporaryDirectory() as place,
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.multiple(
            public,
            get_network=network,
            get_dataset_mtt=lambda *_, **__: data,
            get_time=get_time,
        ),
    ):
        run_idm(public, IDM_OPTIONS, place)
        seconds = time.perf_counter() - began[0]
        (file,) = Path(place).glob("*.pt")
        ((found, _),) = torch.load(file, weights_only=True)["data"]
    return found, seconds


# RDED


class Renormalised(nn.Module):
    """A network of dcond for images that are normalised by ImageNet's statistics."""

    def __init__(self, network: nn.Module, spec: ImageSpec, theirs: ImageSpec):
        super().__init__()
        self.network, self.spec, self.theirs = network, spec, theirs

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.network(self.spec.normalise(self.theirs.denormalise(images)))
        return logits


def rded(folder: Path, seed: int) -> tuple[Tensor, float]:
    """Run the public choice of crops; return its images in [0, 1] and its seconds."""
    sys.path.insert(0, str(folder))
    sys.argv = ["main.py", "--subset", "cifar10", "--arch-name", "conv3"]
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        public = importlib.import_module("synthesize.utils")  # makes a folder
    from torchvision import transforms
    from torchvision.transforms.functional import to_pil_image

    (file,) = (RUNS / "cache").glob("teacher_*.pt")
    network = NETWORK.build(SPEC, Streams(0).networks, torch.device("cpu"))
    network.load_state_dict(torch.load(file, weights_only=True)["weights"])
    imagenet = ImageSpec(3, SIDE, SIDE, CLASSES, *IMAGENET)
    teacher = Renormalised(network.eval().requires_grad_(False), SPEC, imagenet)
    images, labels = real_images()
    torch.manual_seed(seed)
    crops = transforms.Compose(
        [
            transforms.ToTensor(),
            public.MultiRandomCrop(num_crop=5, size=SIDE, factor=1),
            public.normalize,
        ]
    )
    found, start = [], time.perf_counter()
    with mock.patch.object(Tensor, "cuda", lambda x: x):
        for c, rows in enumerate(class_rows(labels)):
            drawn = rows[torch.randperm(len(rows))[:RDED_IMAGES]]
            seen = torch.stack([crops(to_pil_image(images[row])) for row in drawn])
            targets = torch.full((RDED_IMAGES,), c)
            best = public.selector(IPC, teacher, seen, targets, SIDE, m=5)
            found.append(public.denormalize(public.mix_images(best, SIDE, 1, IPC)))
    return torch.cat(found).clamp(0, 1), time.perf_counter() - start


CODES = {"ncfm": ncfm, "idm": idm, "rded": rded}


def public_set(method: str, folder: Path, seed: int, file: Path) -> float:
    """Write the set of a public code and return its seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    images, seconds = CODES[method](folder, seed)
    labels = torch.arange(CLASSES).repeat_interleave(IPC)
    torch.save({"images": images, "labels": labels}, file)
    return seconds


def status(out: Path) -> str | None:
    """Return the status of a run; None without a result."""
    file = out / "result.json"
    return json.loads(file.read_text())["status"] if file.exists() else None


def dcond(command: str, out: Path) -> dict[str, Any]:
    """Run a command of dcond in a run folder, unless it has a result; return the result."""
    if status(out) != "done":
        shutil.rmtree(out, ignore_errors=True)
        arguments = [*command.split(), f"hydra.run.dir={out}"]
        subprocess.run([sys.executable, "-m", "dcond", *arguments], check=True)
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


def main() -> None:
    """Make and evaluate the sets of each METHOD=FOLDER, a seed after the other."""
    folders = dict(argument.split("=", 1) for argument in sys.argv[1:])
    rows = []
    for method, seed in itertools.product(folders, SEEDS):
        command = (
            f"condense {OVERRIDES[method]} ipc={IPC} model.width={WIDTH} {COMMON} "
            f"tensorboard=false seed={seed}"
        )
        found = [("dcond", command, dcond(command, RUNS / f"{method}_dcond_{seed}"))]
        for name, settings in VARIANTS.get(method, {}).items():
            line = f"{command} {settings}"
            made = dcond(line, RUNS / f"{method}_{name}_{seed}")
            found.append((f"dcond, {name.replace('_', ' ')}", line, made))
        out = RUNS / f"{method}_public_{seed}"
        file, clock = out.with_suffix(".pt"), out.with_suffix(".seconds")
        if not clock.exists():
            with multiprocessing.get_context("spawn").Pool(1) as process:
                folder = Path(folders[method]).resolve()
                seconds = process.apply(public_set, (method, folder, seed, file))
            clock.write_text(f"{seconds:.1f}")
        read = (
            f"evaluate synthetic={file} synthetic.normalised={str(method == 'idm').lower()} "
            f"synthetic.factor={FACTOR[method]} {COMMON} seed={seed}"
        )
        found.append((COMMITS[method], read, dcond(read, out)))
        for code, line, result in found:
            accuracies = result["evaluation"]["networks"]["ConvNet"]["accuracies"]
            cost = result["cost"]
            own = cost["condense_wall_s"] if cost["steps"] else cost["start_wall_s"]
            rows.append(
                {
                    "method": method,
                    "code": code,
                    "seed": seed,
                    "accuracies": " ".join(f"{100 * value:.2f}" for value in accuracies),
                    "seconds": f"{float(clock.read_text()) if line == read else own:.0f}",
                    **where_and_when(1),
                    "command": f"dcond {line}",
                }
            )
            print(*list(rows[-1].values())[:5], flush=True)
    write_rows(TABLE, rows)


if __name__ == "__main__":
    main()

"""Compare one step of NCFM and IDM and the choice of RDED with the authors' public codes.

    git clone https://github.com/gszfwsb/NCFM       # commit de92fb8
    git clone https://github.com/uitrbn/IDM         # commit fe23bbc
    git clone https://github.com/LINs-lab/RDED      # commit 3f6453d
    python benchmarks/public_steps.py ncfm=NCFM idm=IDM rded=RDED

Needs DCOND_DATA/cifar10.npz.
The first 50 training images of every class of CIFAR-10, ipc 5, packed two by two, ConvNet-3 of
width 32. Both codes get the same weights, images and random draws. Writes
benchmarks/cpu/public_steps.csv. The public files are unchanged: the script adds the modules that
their imports need, the data, and recorders in their optimisers.
"""

import contextlib
import copy
import dataclasses
import importlib
import io
import multiprocessing
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F
from made_up import where_and_when, write_rows
from PIL import Image
from torch import Tensor, nn

from dcond.augment import DiffAug
from dcond.data.statistics import LEGACY
from dcond.matching.engine import Engine
from dcond.methods.idm import IDM
from dcond.methods.ncfm import NCFM, interpolate
from dcond.methods.rded import RDED
from dcond.models import ConvNet
from dcond.multi_formation import encode
from dcond.rng import Streams
from dcond.training.experts import Experts
from dcond.training.teacher import Teacher
from dcond.types import ImageSpec, RealData, Split, SyntheticSet

TABLE = Path("benchmarks/cpu/public_steps.csv")
COMMITS = {
    "ncfm": "gszfwsb/NCFM de92fb8",
    "idm": "uitrbn/IDM fe23bbc",
    "rded": "LINs-lab/RDED 3f6453d",
}
CLASSES, PER_CLASS, IPC, SIDE, WIDTH = 10, 50, 5, 32, 32
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RDED's for every data set
ENGINE = Engine(precision="float32", compile=False)


class DoubleData(RealData):
    """Real images in float64."""

    def pixels(self, rows: Tensor) -> Tensor:
        """Return training images (n, c, h, w) in [0, 1]."""
        return super().pixels(rows).double()


@dataclass(frozen=True, kw_only=True)
class DoubleConvNet(ConvNet):
    """A ConvNet in float64."""

    def module(self, spec: ImageSpec) -> Any:
        """Build the module for these images."""
        return super().module(spec).double()


def convnet(dtype: torch.dtype, norm: Any = "instance") -> ConvNet:
    """Return the recipe of the networks."""
    kind = DoubleConvNet if dtype == torch.float64 else ConvNet
    return kind(name="ConvNet", depth=3, width=WIDTH, norm=norm)


def first_images(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: torch.dtype = torch.float32,
    classes: int = CLASSES,
) -> RealData:
    """Return the first training images of the first classes of CIFAR-10, class by class."""
    content = np.load(Path(os.environ["DCOND_DATA"]) / "cifar10.npz", allow_pickle=False)
    labels = content["train_labels"]
    rows = np.concatenate([np.flatnonzero(labels == c)[:PER_CLASS] for c in range(classes)])
    images = torch.tensor(content["train_images"][rows]).permute(0, 3, 1, 2).contiguous()
    split = Split(images, torch.tensor(labels[rows], dtype=torch.long))
    kind = DoubleData if dtype == torch.float64 else RealData
    return kind("CIFAR-10", split, split, tuple(map(str, range(classes))), mean, std)


def packed_images(real: RealData) -> SyntheticSet:
    """Return a set that packs the first 4 ipc real images of every class."""
    cells = real.pixels(torch.stack([rows[: 4 * IPC] for rows in real.class_rows]).flatten())
    images = [encode(own, 2) for own in cells.split(4 * IPC)]
    return SyntheticSet.from_images(torch.cat(images), real, ipc=IPC, factor=2)


def copy_weights(network: Any, blocks: Iterable[Sequence[nn.Module]], head: nn.Module) -> None:
    """Copy a ConvNet's weights into public modules: a convolution and a norm per block, a head."""
    for stage, block in zip(network.stages, blocks, strict=True):
        for ours, theirs in zip(stage, block, strict=False):
            theirs.load_state_dict(ours.state_dict())
    head.load_state_dict(network.head.state_dict())


def relative(found: Tensor, expected: Tensor) -> float:
    """Return ‖found - expected‖ / ‖expected‖."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def row(what: str, found: Tensor | float, expected: Tensor | float) -> dict[str, Any]:
    """Return a row of a value of dcond and the public code's."""
    found, expected = torch.as_tensor(found).detach(), torch.as_tensor(expected).detach()
    return {
        "what": what,
        "dcond": f"{float(found.double().norm()):.6g}",
        "public": f"{float(expected.double().norm()):.6g}",
        "relative_difference": f"{relative(found, expected):.1e}",
    }


class Recorder:
    """Stands for the public optimiser of the images: they stay, their gradients add up."""

    def __init__(self, images: Tensor):
        self.images, self.total = images, torch.zeros_like(images)

    def zero_grad(self) -> None:
        """Forget the gradient, as an optimiser does."""
        self.images.grad = None

    def step(self) -> None:
        """Add up the gradient."""
        self.total += self.images.grad


# NCFM


def ncfm(folder: Path, dtype: torch.dtype) -> list[dict[str, Any]]:
    """One step: distance, cross-entropy and their image gradients, augmented."""
    plain, real = (first_images(*LEGACY["cifar10"], kind) for kind in (torch.float32, dtype))
    synthetic, rng, recipe = packed_images(real), Streams(0), convnet(dtype)
    augment = DiffAug(["color", "crop", "cutout"], "idc")
    with tempfile.TemporaryDirectory() as place:
        experts = Experts(
            network=convnet(torch.float32),
            folder=place,
            count=1,
            epochs=4,
            batch=100,
            lr=0.01,
            momentum=0.9,
        )
        trajectories = experts.load_or_train(plain)
        method = NCFM(
            experts=dataclasses.replace(experts, network=recipe),
            engine=ENGINE,
            augment=augment,
            steps=1,
            lr=1.0,
            optimiser="sgd",
            frequencies=4096,
            batch_real=PER_CLASS,
            real_batch="first",
        )
        with mock.patch.object(Experts, "load_or_train", return_value=trajectories):
            state = method.init(real, synthetic, rng)
        before = rng.state_dict()
        initial, trained, share = method._draw_network(state.experts, rng)
        frequencies = method._draw_frequencies(state, rng, real.device)
        draw = augment.draw(CLASSES, (SIDE, SIDE), rng.augmentation, shared_family=False)
        losses, gradients, seconds = {}, {}, 0.0
        for calibration in (0.0, 1.0):
            rng.load_state_dict(before)
            weighted = dataclasses.replace(method, calibration=calibration)
            with mock.patch.object(state.pixels, "step") as step:
                start = time.process_time()
                losses = weighted.step(real, synthetic, state)
                seconds = time.process_time() - start
            gradients[calibration] = step.call_args.args[0]
    between = recipe.build(real.spec, Streams(1).networks, real.device)
    final = copy.deepcopy(between)
    between.load_state_dict(interpolate(initial, trained, share))
    final.load_state_dict(trained)
    public = public_ncfm(folder)
    found = public(real, synthetic, between, final, frequencies, draw, dtype)
    entropy_gradient = gradients[1.0] - gradients[0.0]
    return [
        row("distance D", losses["loss_features"], found["distance"]),
        row("image gradient of D", gradients[0.0], found["distance_gradient"]),
        row("cross-entropy", losses["loss_cross_entropy"], found["entropy"]),
        row("image gradient of the cross-entropy", entropy_gradient, found["entropy_gradient"]),
        row("CPU seconds of a step", seconds, found["seconds"]),
    ]


def public_ncfm(folder: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the public step over the classes."""
    sys.path.insert(0, str(folder))
    from condenser.compute_loss import compute_calib_loss, compute_match_loss
    from condenser.decode import decode
    from models.convnet import ConvNet as PublicConvNet
    from NCFM.NCFM import CFLossFunc, cailb_loss, match_loss
    from utils.diffaug import diffaug

    names = SimpleNamespace(aug_type="color_crop_cutout", dataset="cifar10", mixup="cut", rank=1)

    def run(
        real: RealData,
        synthetic: SyntheticSet,
        between: Any,
        final: Any,
        frequencies: Tensor,
        draw: Any,
        dtype: torch.dtype,
    ) -> dict[str, Any]:
        images = synthetic.images.detach().to(dtype).requires_grad_()
        own_augment, _ = diffaug(names, device="cpu")
        networks = []
        for network in (between, final):
            made = PublicConvNet(CLASSES, net_width=WIDTH).to(dtype)
            layers = made.layers
            copy_weights(network, zip(layers["conv"], layers["norm"], strict=True), made.classifier)
            networks.append(made.requires_grad_(False))

        def real_sample(c: int) -> tuple[Tensor, None]:
            return real.pixels(real.class_rows[c]).to(dtype), None

        def sample(c: int) -> tuple[Tensor, Tensor]:
            part = images[synthetic.labels == c]
            labels = torch.full((len(part),), c)
            return decode("single", (SIDE, SIDE), part, labels, 2)

        def fed(classes: Iterator[int]) -> Callable[[Tensor], Tensor]:
            return lambda x: with_draw(own_augment, x, draw, next(classes))

        args = SimpleNamespace(device="cpu", cf_loss_func=CFLossFunc(0.5, 0.5))
        matched, classified = Recorder(images), Recorder(images)
        common = {"class_list": range(CLASSES), "timing_tracker": mock.Mock(), "data_grad": None}
        start = time.process_time()
        distance, _ = compute_match_loss(
            args,
            loader_real=SimpleNamespace(class_sample=real_sample),
            sample_fn=sample,
            aug_fn=fed(iter(range(CLASSES))),
            inner_loss_fn=match_loss,
            optim_img=matched,
            model_interval=networks[0],
            sampling_net=lambda _: frequencies.to(dtype),
            **common,
        )
        entropy, _ = compute_calib_loss(
            sample_fn=sample,
            aug_fn=fed(iter(range(CLASSES))),
            inter_loss_fn=cailb_loss,
            optim_img=classified,
            iter_calib=1,
            model_final=networks[1],
            calib_weight=1.0,
            **common,
        )
        return {
            "distance": distance,
            "entropy": entropy,
            "distance_gradient": matched.total,
            "entropy_gradient": classified.total,
            "seconds": time.process_time() - start,
        }

    return run


def with_draw(augment: Callable[[Tensor], Tensor], x: Tensor, draw: Any, c: int) -> Tensor:
    """Run NCFM's augmentation with the random numbers of dcond's draw for class c."""
    color, crop, cutout = ([float(p[c]) for p in step.parameters] for (step,) in draw.stages)
    add, saturation, contrast = color
    uniform = [add + 0.5, saturation / 2, contrast - 0.5]
    family = 0  # of the exclusive ones, crop is the only one
    integers = [
        family,
        *crop,
        *(start + side // 2 for start, side in zip(cutout[:2], cutout[2:], strict=True)),
    ]
    with (
        mock.patch("numpy.random.uniform", side_effect=uniform),
        mock.patch("numpy.random.randint", side_effect=map(int, integers)),
    ):
        return augment(x)


# IDM

LR_IMAGES = 0.2  # identifies the optimiser of the images
IDM_OPTIONS = (
    f"--dataset CIFAR10 --model ConvNet --ipc {IPC} --dsa_strategy none --init real --aug "
    f"--lr_img {LR_IMAGES} --num_exp 1 --num_eval 0 --Iteration 1 --eval_interval 1000 "
    f"--net_train_real --net_decay --embed_last 1000 --syn_ce --ce_weight 0.5 --train_net_num 1 "
    f"--batch_real {PER_CLASS} --trained_bs {CLASSES * PER_CLASS} --model_train_steps 2"
)


def idm(folder: Path, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Two sweeps of the public ``main``, the training of two networks between them.

    All real images of a class are its batch, and all images are a training batch, so the order in
    which they are drawn is of no effect.
    """
    real = first_images(*LEGACY["cifar10"], dtype)
    synthetic, recipe = packed_images(real), convnet(dtype)
    rng = Streams(3)  # the network of the second sweep is one of the trained ones
    method = IDM(
        network=recipe,
        engine=ENGINE,
        steps=2,
        lr=LR_IMAGES,
        batch_real=PER_CLASS,
        batch_train=CLASSES * PER_CLASS,
        inner_steps=2,
        sweep="sequential",
        pixel_box="free",
    )
    start_images = real.spec.normalise(synthetic.images.detach())
    state = method.init(real, synthetic, rng)
    queue, losses, gradients, chosen = state.queue, [], [], []
    with (
        mock.patch.object(state.pixels, "step", wraps=state.pixels.step) as step,
        mock.patch.object(queue, "load", wraps=queue.load) as load,
        mock.patch.object(queue, "train", wraps=queue.train) as train,
    ):
        start = time.process_time()
        for sweep in range(2):
            losses.append(float(method.step(real, synthetic, state)["loss"]))
            gradients.append(step.call_args.args[0])
            chosen.append(load.call_args.args[0])
            if sweep == 0:
                weights = [member["weights"] for member in queue.state_dict()["members"]]
        seconds = time.process_time() - start
    trained = [call.args[0] for call in train.call_args_list]
    accuracy = float(state.accuracy)
    assert chosen[1] in trained, "the second sweep should see a trained network"
    std = torch.tensor(real.std, dtype=dtype).view(-1, 1, 1)
    network = recipe.build(real.spec, rng.networks, real.device)
    moved = []
    for index in trained:
        network.load_state_dict(queue.state_dict()["members"][index]["weights"])
        moved.append(flat_weights(network) - start_weights(network, weights[index]))
    found = public_idm(folder, real, start_images, weights, chosen, trained, dtype)
    rows = []
    for sweep, place in enumerate(("sweep 1", f"sweep 2, accuracy {accuracy:.3f}")):
        ours, theirs = gradients[sweep] * std, found["gradients"][sweep]
        rows += [
            row(f"loss, {place}", losses[sweep], found["losses"][sweep]),
            row(f"image gradient, {place}", ours, theirs),
        ]
    return [
        *rows,
        row("change of two networks' weights, two steps each", torch.cat(moved), found["moved"]),
        row("CPU seconds of two sweeps and the training between", seconds, found["seconds"]),
    ]


def flat_weights(network: Any) -> Tensor:
    """Return the weights of a network of dcond in the order of the public one."""
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def start_weights(network: Any, weights: dict[str, Tensor]) -> Tensor:
    """Return the weights before the training, in the same order."""
    return torch.cat([weights[name].flatten() for name, _ in network.named_parameters()])


class AccuracyMeter:
    """Stands for torchnet's ClassErrorMeter(accuracy=True): per cent of all added so far."""

    def __init__(self, accuracy: bool):
        self.n = self.right = 0

    def add(self, output: Tensor, target: Tensor) -> None:
        """Count the right ones of a batch."""
        self.n += len(target)
        self.right += int((output.argmax(1) == target).sum())

    def value(self) -> list[float]:
        """Return the accuracy of all batches since the start."""
        return [100 * self.right / self.n]


def idm_code(folder: Path) -> Any:
    """Import the public script of IDM, with stand-ins for modules that its imports need."""
    module("scipy.ndimage.interpolation", rotate=scipy.ndimage.rotate)
    module("kornia")
    module("torchnet", meter=module("torchnet.meter", ClassErrorMeter=AccuracyMeter))
    sys.path.insert(0, str(folder))
    return importlib.import_module("IDM_cifar10")


def run_idm(public: Any, options: str, place: str) -> None:
    """Run the public ``main``; it writes into a folder."""
    places = ["--save_path", place, "--data_path", place]
    sys.argv = ["IDM_cifar10.py", *options.split(), *places]
    public.main()


def public_idm(
    folder: Path,
    real: RealData,
    images: Tensor,
    weights: list[dict[str, Tensor]],
    chosen: list[int],
    trained: list[int],
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Run the public ``main`` for two sweeps from the same images and networks.

    Args:
        folder: of the public code.
        real: the data set.
        images: the packed images, normalised.
        weights: of the four networks of the queue.
        chosen: network of each sweep.
        trained: the two networks that are trained after the first.
        dtype: of all computations.
    """
    public = idm_code(folder)
    from dc_networks import ConvNet as PublicConvNet

    networks = []

    def get_network(*_: object) -> nn.Module:
        made = PublicConvNet(3, CLASSES, WIDTH, 3, "relu", "instancenorm", "avgpooling").to(dtype)
        own = convnet(dtype).build(real.spec, Streams(1).networks, real.device)
        own.load_state_dict(weights[len(networks)])
        copy_weights(own, [made.features[4 * d : 4 * d + 2] for d in range(3)], made.classifier)
        networks.append(made)
        return made

    half = SIDE // 2
    quarters = [
        own[:, :, top : top + half, left : left + half]
        for own in images.to(dtype).split(IPC)
        for left in (0, half)
        for top in (0, half)
    ]
    every = real.normalised(torch.arange(len(real.train))).to(dtype)
    pairs = list(zip(every, real.train.labels.tolist(), strict=True))
    first = iter([[chosen[0]], trained, [chosen[1]], []])

    def shuffle(items: list[int]) -> None:
        head = next(first)
        items[:] = head + [i for i in items if i not in head]

    found: dict[str, Any] = {"losses": [0.0, 0.0], "gradients": [0.0, 0.0]}
    seen, last = [], []
    backward, step = Tensor.backward, torch.optim.SGD.step

    def recorded_backward(loss: Tensor, *args: Any) -> None:
        last[:] = [loss.item()]
        backward(loss, *args)

    def recorded_step(optimiser: torch.optim.SGD, *args: Any) -> Any:
        if optimiser.param_groups[0]["lr"] == LR_IMAGES:
            sweep = len(seen) // CLASSES
            if len(seen) == CLASSES:
                found["moved"] = torch.cat([flat_weights(networks[i]) - began[i] for i in trained])
            seen.append(last[0])
            found["losses"][sweep] += last[0]
            found["gradients"][sweep] = (
                found["gradients"][sweep] + optimiser.param_groups[0]["params"][0].grad.clone()
            )
            found["seconds"] = time.process_time() - start  # until the last step of the images
            if len(seen) == 1:
                began.extend(flat_weights(network) for network in networks)
        return step(optimiser, *args)

    began: list[Tensor] = []
    data = (3, (SIDE, SIDE), CLASSES, [], real.mean, real.std, pairs, None, None, None, None, None)
    with (
        tempfile.TemporaryDirectory() as place,
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.multiple(
            public,
            get_network=get_network,
            get_dataset_mtt=lambda *_, **__: data,
            downscale=lambda *_: quarters.pop(0),
        ),
        mock.patch.object(torch, "float", dtype),
        mock.patch("random.shuffle", shuffle),
        mock.patch("numpy.random.permutation", np.asarray),
        mock.patch.object(Tensor, "backward", recorded_backward),
        mock.patch.object(torch.optim.SGD, "step", recorded_step),
    ):
        start = time.process_time()
        run_idm(public, IDM_OPTIONS, place)
    return found


def module(name: str, **content: Any) -> types.ModuleType:
    """Register a module with this content and return it."""
    made = types.ModuleType(name)
    vars(made).update(content)
    sys.modules[name] = made
    return made


# RDED

TWO = 2  # classes


def rded(folder: Path, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Losses of the same crops, which are kept, and the stored images, at factor 1 and 2."""
    real = first_images(*IMAGENET, dtype, classes=TWO)
    network = a_teacher(real)
    rows = []
    choose = public_rded(folder, network)
    for factor in (1, 2):
        images = torch.zeros(TWO * IPC, 3, SIDE, SIDE)
        synthetic = SyntheticSet.from_images(images, real, ipc=IPC, factor=factor)
        teacher = Teacher(network=convnet(dtype, "batch"), epochs=1, batch=100)
        method = RDED(teacher=teacher, cache="", images=PER_CLASS, crops=5, factor=factor)
        result = SimpleNamespace(network=network)
        rng, boxes, losses = Streams(0), [], []
        with mock.patch.object(Teacher, "load_or_train", return_value=result):
            start = time.process_time()
            method.init(real, synthetic, rng)
            seconds = time.process_time() - start
        rng = Streams(0)
        with torch.no_grad():
            for c in range(TWO):
                boxes.append(method.candidates(real, c, IPC * factor**2, rng.initialisation))
                losses.append(method.losses(real, c, *boxes[-1], network))
        found = choose(real, boxes, factor)
        ours = synthetic.by_class.detach()
        pieces = [
            x.unfold(3, SIDE // factor, SIDE // factor).unfold(4, SIDE // factor, SIDE // factor)
            for x in (ours, found["images"])
        ]
        same = ((pieces[0] - pieces[1]).abs().amax((2, 5, 6)) < 1e-3).sum()
        count, kept = losses[0].numel() * TWO, TWO * IPC * factor**2
        place = f"factor {factor}"
        rows += [
            row(f"losses of {count} crops, {place}", torch.stack(losses), found["losses"]),
            row(f"equal crops of {kept} kept, {place}", int(same), kept),
            row(f"stored images, {place}", ours, found["images"]),
            row(f"CPU seconds of the choice, {place}", seconds, found["seconds"]),
        ]
    return rows


def a_teacher(real: RealData) -> Any:
    """Return a ConvNet-3 with batch norm after four epochs on the real images."""
    network = convnet(torch.float32, "batch").build(real.spec, Streams(0).networks, real.device)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    for _ in range(4):
        for rows in torch.randperm(
            len(real.train), generator=torch.Generator().manual_seed(0)
        ).split(100):
            optimiser.zero_grad()
            F.cross_entropy(network(real.normalised(rows)), real.train.labels[rows]).backward()
            optimiser.step()
    return network.eval().requires_grad_(False)


def public_rded(folder: Path, network: Any) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the public choice of crops with dcond's boxes."""
    sys.path.insert(0, str(folder))
    sys.argv = ["main.py", "--subset", "cifar10", "--arch-name", "conv3"]
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        import synthesize.utils as public  # makes a folder

    from torchvision import transforms

    teacher = public.ConvNet(TWO, net_norm="batch", net_width=WIDTH)
    layers = teacher.layers
    copy_weights(network, zip(layers["conv"], layers["norm"], strict=True), teacher.classifier)

    def run(real: RealData, candidates: list[tuple[Tensor, Tensor]], factor: int) -> dict[str, Any]:
        losses, stored, cross_entropy = [], [], public.cross_entropy

        def recorded(*args: Tensor) -> Tensor:
            losses.append(cross_entropy(*args))
            return losses[-1]

        crop = transforms.Compose(
            [
                transforms.ToTensor(),
                public.MultiRandomCrop(num_crop=5, size=SIDE, factor=factor),
                public.normalize,
            ]
        )
        start = time.process_time()
        with (
            mock.patch.object(Tensor, "cuda", lambda x: x),
            mock.patch.object(public, "cross_entropy", recorded),
        ):
            for c, (rows, boxes) in enumerate(candidates):
                pictures = [
                    Image.fromarray(real.train.images[i].permute(1, 2, 0).numpy()) for i in rows
                ]
                with mock.patch.object(
                    transforms.RandomResizedCrop,
                    "get_params",
                    side_effect=boxes.flatten(0, 1).tolist(),
                ):
                    crops = torch.stack([crop(picture) for picture in pictures])
                labels = torch.full((len(rows),), c)
                best = public.selector(IPC * factor**2, teacher, crops, labels, SIDE, m=5)
                mixed = public.mix_images(best, SIDE, factor, IPC)
                stored.append(public.denormalize(mixed))
        seconds = time.process_time() - start
        by_image = [own.view(5, -1).T for own in losses]
        return {"losses": torch.stack(by_image), "images": torch.stack(stored), "seconds": seconds}

    return run


def main() -> None:
    """Compare each NAME=FOLDER in processes of their own, since their modules share names."""
    torch.set_num_threads(1)
    rows = []
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as processes:
        for name, _, folder in (argument.partition("=") for argument in sys.argv[1:]):
            compare, dtypes = COMPARISONS[name]
            for dtype in dtypes:
                precision = str(dtype).removeprefix("torch.")
                for found in processes.apply(compare, (Path(folder).resolve(), dtype)):
                    print(name, precision, *found.values(), flush=True)
                    rows.append(
                        {"method": name, "precision": precision}
                        | found
                        | {"code": COMMITS[name]}
                        | where_and_when(1)
                    )
    write_rows(TABLE, rows)


BOTH = (torch.float32, torch.float64)
COMPARISONS = {"ncfm": (ncfm, BOTH), "idm": (idm, BOTH), "rded": (rded, (torch.float32,))}

if __name__ == "__main__":
    main()

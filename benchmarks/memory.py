"""Measure the peak memory of a condensation by images, classes, ipc, and storage of the images.

    python benchmarks/memory.py              # write benchmarks/cpu/memory.csv, ten minutes
    python benchmarks/memory.py degm hmdc    # only these methods; other rows are not changed

Every row has a process of its own: random data, the first images, two steps, and the peak of
resident memory above that after all imports. The machine need not be quiet.
"""

import csv
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from made_up import AUGMENT, write
from numpy.lib import format as npy
from PIL import Image

from dcond.data import ImageFolder, Npz
from dcond.device import peak_memory_bytes
from dcond.init import Embedding, FromReal, KMeans, Random
from dcond.matching.engine import Engine
from dcond.methods.base import Method
from dcond.methods.dm import DM
from dcond.methods.gradient_matching import GradientMatching
from dcond.methods.hmdc import HMDC
from dcond.methods.idc import IDC
from dcond.methods.m3d import M3D
from dcond.methods.rded import RDED
from dcond.models import MLP, ConvNet, Pool, ViT
from dcond.rng import Streams
from dcond.training.teacher import Teacher
from dcond.types import RealData, SyntheticSet

TABLE = Path("benchmarks/cpu/memory.csv")
STEPS = 2
REAL = 8  # real images per class and step
STEPPING = ("dm", "m3d", "dsa", "degm", "idc", "hmdc")


@dataclass(frozen=True)
class Case:
    """Settings of a process."""

    method: str = "dm"
    storage: str = "disk"  # device; disk: an npz file; folder: image files
    images: int = 10_000
    classes: int = 100
    side: int = 32
    ipc: int = 1

    def __str__(self) -> str:
        """Return the name of the case in the table."""
        data = f"{self.images} images, {self.classes} classes, {self.side} px"
        return f"{self.method}, {self.storage}, {data}, ipc {self.ipc}"


BASE = Case()
CASES = [
    *(
        replace(BASE, storage=storage, images=images)
        for storage in ("device", "disk")
        for images in (10_000, 100_000)
    ),
    *(replace(BASE, method=method, classes=1000) for method in (*STEPPING, "kmeans", "random")),
    *(replace(BASE, ipc=ipc) for ipc in (10, 50)),
    *(
        replace(BASE, method=method, storage="folder", classes=40, images=120, side=224)
        for method in ("random", "dm")
    ),
    replace(BASE, method="random", storage="folder", classes=400, images=1200, side=224),
    # classes and pixels of Tiny ImageNet, then of ImageNet
    *(replace(BASE, method=method, classes=200, images=20_000, side=64) for method in STEPPING),
    replace(BASE, storage="folder", classes=1000, images=3000, side=224),
    replace(BASE, method="rded", storage="folder", classes=40, images=120, side=224),
    replace(BASE, method="rded", storage="folder", classes=1000, images=3000, side=224),
]


def write_npz(case: Case, file: Path) -> None:
    """Write random images in the prepared form, in parts."""
    rng = np.random.default_rng(0)
    shape = (case.side, case.side, 3)
    with zipfile.ZipFile(file, "w") as archive:
        for split, count in (("train", case.images), ("test", case.classes)):
            with archive.open(f"{split}_images.npy", "w", force_zip64=True) as member:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
                npy.write_array_header_1_0(member, header)
                for begin in range(0, count, 1000):
                    size = (min(1000, count - begin), *shape)
                    member.write(rng.integers(0, 256, size, dtype=np.uint8).tobytes())
            with archive.open(f"{split}_labels.npy", "w") as member:
                npy.write_array(member, np.arange(count) % case.classes)


def write_folder(case: Case, folder: Path) -> None:
    """Write folders train/ and test/ of random JPEG files, 96 px wide."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((96, 72))
    picture.save(folder / "one.jpg")
    content = (folder / "one.jpg").read_bytes()
    for split, each in (("train", case.images // case.classes), ("test", 1)):
        for c in range(case.classes):
            place = folder / split / f"{c:04}"
            place.mkdir(parents=True)
            for i in range(each):
                (place / f"{i}.jpg").write_bytes(content)


def load(case: Case, folder: Path) -> RealData:
    """Load the data of a case."""
    if case.storage == "folder":
        settings = {
            "size": case.side,
            "channels": 3,
            "stats": "sample",
            "data_dir": str(folder / "data"),
        }
        return ImageFolder(path=str(folder), keep="disk", **settings).load()
    return Npz(path=str(folder / "made_up.npz"), keep=case.storage).load()


def build(name: str, network: ConvNet) -> Method:
    """Return a method with its defaults, except for the settings that bound a step."""
    common = {
        "engine": Engine(compile=False),
        "steps": STEPS,
        "lr": 1.0,
        "batch_real": REAL,
        "factor": 1,
    }
    if name == "hmdc":
        pool = Pool(
            networks={"ConvNet": network, "ViT": ViT(name="ViT", width=32, heads=4, depth=2)}
        )
        return HMDC(pool=pool, augment=AUGMENT, **common)
    common["network"] = network
    if name == "degm":
        degm = {
            "levels": "both",
            "distance": "rowwise_angle_and_magnitude",
            "momentum_network": 0.5,
        }
        return GradientMatching(augment=None, steps_per_network=1, inner_epochs=1, **common, **degm)
    if name == "dsa":
        return GradientMatching(augment=AUGMENT, steps_per_network=1, inner_epochs=1, **common)
    if name == "idc":
        return IDC(augment=AUGMENT, train_augment=AUGMENT, **common)
    return {"dm": DM, "m3d": M3D}[name](augment=AUGMENT, **common)


def rded(folder: Path) -> RDED:
    """Return RDED with four crops in each image, and a small teacher that is trained briefly."""
    network = MLP(name="MLP", hidden=(16,))
    teacher = Teacher(network=network, epochs=1, batch=32, lr_milestones=())
    return RDED(teacher=teacher, cache=str(folder / "cache"), factor=2)


def run(case: Case, folder: Path) -> None:
    """Condense, and print the peak of resident memory above that before loading, in bytes."""
    network = ConvNet(name="ConvNet", width=16)
    rule = (
        KMeans(embedding=Embedding(network=network, train_steps=2))
        if case.method == "kmeans"
        else Random()
    )
    AUGMENT.per_image(torch.zeros(2, 3, 8, 8), torch.Generator())  # a first call loads libraries
    before = peak_memory_bytes(torch.device("cpu"))
    real, rng = load(case, folder), Streams(0)
    images = FromReal(rule=rule)(real, case.ipc, 1, rng)
    synthetic = SyntheticSet.from_images(images, real, ipc=case.ipc)
    if case.method in STEPPING:
        method = build(case.method, network)
        state = method.init(real, synthetic, rng)
        for _ in range(STEPS):
            method.step(real, synthetic, state)
    if case.method == "rded":
        rded(folder).init(real, synthetic, rng)
    print(peak_memory_bytes(torch.device("cpu")) - before)


def measure(case: Case) -> list[tuple[str, float, str]]:
    """Return the rows of a case: its peak, and the sizes of the real and synthetic images."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if case.storage == "folder":
            write_folder(case, folder)
        else:
            write_npz(case, folder / "made_up.npz")
        fields = [str(getattr(case, field)) for field in case.__dataclass_fields__]
        command = [sys.executable, __file__, place, *fields]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    image = 3 * case.side**2
    return [
        (f"{case}: peak", int(done.stdout) / 1e6, "MB"),
        (f"{case}: training images, 8 bit", case.images * image / 1e6, "MB"),
        (f"{case}: stored images, float32", 4 * case.classes * case.ipc * image / 1e6, "MB"),
    ]


def rows_of_others(methods: list[str]) -> list[list[str]]:
    """Return the lines of the table that belong to other methods."""
    if not methods:
        return []
    with TABLE.open() as file:
        _, *lines = csv.reader(file)
    return [line for line in lines if line[0].partition(",")[0] not in methods]


def main() -> None:
    """Measure every case in a process of its own; with a folder, be that process."""
    torch.set_num_threads(1)
    if len(sys.argv) > 1 and Path(sys.argv[1]).is_dir():
        folder, method, storage, *numbers = sys.argv[1:]
        run(Case(method, storage, *map(int, numbers)), Path(folder))
        return
    methods = sys.argv[1:]
    rows: list[tuple[str, float, str]] = []
    for case in CASES:
        if not methods or case.method in methods:
            rows += measure(case)
            print(case, f"{rows[-3][1]:.0f} MB", flush=True)
    write(TABLE, rows, rows_of_others(methods))


if __name__ == "__main__":
    main()

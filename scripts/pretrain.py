"""Pretrain networks on half of CIFAR-10's classes, for the study ``hmdc_pretrained``.

    DCOND_DATA=DIR python scripts/pretrain.py     # eight minutes on two cores

Writes to ``outputs/pretrained``: ``cifar5.npz`` with dog, frog, horse, ship and truck;
``MLP.pt``, ``ResNet.pt``, ``ViT.pt`` and the narrower ``ViT_learner.pt``, trained on airplane,
automobile, bird, cat and deer, which the study does not use.
"""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import torch

from dcond.augment import DiffAug
from dcond.data import Npz
from dcond.data.prepared import Prepared, read_prepared, write_prepared
from dcond.models import MLP, ResNet, ViT
from dcond.training.teacher import Teacher

FOLDER = Path("outputs/pretrained")
CLASSES = 5  # to pretrain on, and as many to condense
# Must equal conf/model/{mlp,resnet_small,vit_small}.yaml and conf/pool/convnet_vit_small.yaml.
NETWORKS = (
    MLP(name="MLP", lr=0.01, hidden=(128, 128)),
    ResNet(
        name="ResNet",
        lr=0.01,
        blocks=(1, 1, 1),
        width=16,
        head="mean",
        stem="plain",
        downsample="stride",
    ),
    ViT(name="ViT", lr=0.01, depth=2, width=64, heads=4),
    ViT(name="ViT_learner", lr=0.01, depth=2, width=32, heads=4),
)


def half(data: Prepared, first: int) -> Prepared:
    """Return the images of ``CLASSES`` classes from ``first`` on, with labels from 0."""
    rows = [
        np.flatnonzero((labels >= first) & (labels < first + CLASSES))
        for labels in (data.train_labels, data.test_labels)
    ]
    return Prepared(
        data.train_images[rows[0]],
        data.train_labels[rows[0]] - first,
        data.test_images[rows[1]],
        data.test_labels[rows[1]] - first,
        data.class_names[first : first + CLASSES],
    )


def main() -> None:
    """Write the two halves and the weights."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    FOLDER.mkdir(parents=True, exist_ok=True)
    data = read_prepared(Path(os.environ.get("DCOND_DATA", "data")) / "cifar10.npz")
    for name, first in (("others", 0), ("cifar5", CLASSES)):
        write_prepared(FOLDER / f"{name}.npz", half(data, first))
    real = Npz(name="others", path=str(FOLDER / "others.npz"), flip=True).load()
    for network in NETWORKS:
        teacher = Teacher(
            network=network,
            epochs=8,
            batch=128,
            augment=DiffAug(("crop", "flip"), "idc", flip=True),
        )
        weights = teacher.load_or_train(real, FOLDER / "cache").network.state_dict()
        torch.save(weights, FOLDER / f"{network.name}.pt")
    shutil.rmtree(FOLDER / "cache")


if __name__ == "__main__":
    main()

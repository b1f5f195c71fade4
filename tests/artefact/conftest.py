"""An artefact whose every field is told from every other, and how its refusals are read."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dcond import artefact
from dcond.errors import ArtefactError
from dcond.types import SyntheticSet

NAMES = ("cat", 'say "hé" \\ 猫', "", "a,b\nc")


@pytest.fixture
def made() -> Callable[..., SyntheticSet]:
    """Make a set of four classes, ipc 2; the same images every time."""

    def make(factor=2, soft=False, images=None) -> SyntheticSet:
        rng = torch.Generator().manual_seed(0)
        hard = torch.arange(4).repeat_interleave(2)
        return SyntheticSet(
            images=torch.rand(8, 3, 6, 5, generator=rng) if images is None else images,
            labels=torch.rand(8, 4, generator=rng) if soft else hard,
            class_names=NAMES,
            ipc=2,
            mean=(0.1, 1 / 3, 0.5),
            std=(0.2, 0.25, 0.3),
            factor=factor,
            align_corners=True,
            metadata={"method": "m3d", "dataset": "cifar10", "seed": "7", "evaluation": "dsa1000"},
        )

    return make


@pytest.fixture
def file(tmp_path, made) -> Path:
    return artefact.save(made(), tmp_path / "synthetic.safetensors")


@pytest.fixture
def refused() -> Callable[[Path], str]:
    """Read what cannot be read; return the one line that says why."""

    def read(path: Path) -> str:
        with pytest.raises(ArtefactError) as error:
            artefact.load(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    return read

"""The whitening that a set was made with travels in its artefact."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dcond import artefact
from dcond.whitening import fit_whitening


@pytest.fixture
def whitened(tmp_path, made) -> Path:
    real = torch.randint(
        256, (40, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    saved = replace(made(factor=1), whitening=fit_whitening(real))
    return artefact.save(saved, tmp_path / "x.safetensors")


def test_a_whitening_comes_back_and_networks_see_the_same(whitened, made):
    got = artefact.load(whitened)
    real = torch.randint(
        256, (40, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    wanted = replace(made(factor=1), whitening=fit_whitening(real))
    assert torch.equal(got.dataset().tensors[0], wanted.dataset().tensors[0])
    images = got.images
    assert torch.allclose(got.spec.denormalise(got.spec.normalise(images)), images, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zca_mean": None}, "zca_mean and zca_matrix go together."),
        (
            {"zca_mean": torch.zeros(3)},
            "zca_mean and zca_matrix must be finite, of 90 and 90 x 90 numbers.",
        ),
        (
            {"zca_matrix": torch.full((90, 90), torch.nan)},
            "zca_mean and zca_matrix must be finite,",
        ),
        ({"zca_matrix": torch.zeros(90, 90)}, "zca_matrix has no inverse."),
    ],
)
def test_an_invalid_whitening(change, message, whitened, refused):
    with safe_open(str(whitened), framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kept = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    save_file(kept, whitened, metadata=metadata)
    assert message in refused(whitened)

"""Trajectory matching's layout: images, labels and a learned rate, each in a file of its own; some
sets whitened.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dcond.data.statistics import LEGACY
from dcond.errors import ArtefactError, UnsupportedError


@pytest.fixture
def mtt_folder(tmp_path, known):
    torch.save(known.normalised, tmp_path / "images_best.pt")
    torch.save(known.labels, tmp_path / "labels_best.pt")
    torch.save(0.0123, tmp_path / "lr_best.pt")
    return tmp_path


@pytest.mark.parametrize("name", ["", "images_best.pt"])
def test_mtt(name, mtt_folder, known, load):
    with pytest.raises(
        UnsupportedError, match=r"\(MTT, DATM\) does not say whether its images are normalised, and"
    ):
        load(mtt_folder / name)
    got = load(mtt_folder / name, normalised=True)
    assert known.same(got)
    assert got.learned_lr == 0.0123


def test_mtt_takes_its_own_constants_for_cifar100(tmp_path, toy):
    from dcond.importers.detect import load_any

    torch.save(torch.randn(6, 3, 8, 8), tmp_path / "images_best.pt")
    torch.save(torch.arange(6) // 2, tmp_path / "labels_best.pt")
    assert load_any(tmp_path).constants["cifar100"] == LEGACY["cifar10"]
    assert "nothing" not in load_any(tmp_path).constants


def test_mtt_of_another_step_and_no_rate(mtt_folder, known, load):
    torch.save(known.normalised.flip(0), mtt_folder / "images_5000.pt")
    torch.save(known.labels.flip(0), mtt_folder / "labels_5000.pt")
    got = load(mtt_folder / "images_5000.pt", normalised=True)
    assert torch.equal(got.labels, known.labels)  # brought in order of class
    assert torch.allclose(got.images, known.pixels[[1, 0, 3, 2, 5, 4]], atol=1e-6)
    assert got.learned_lr is None


@pytest.mark.parametrize(
    "rate", [0.01, 1, torch.tensor(0.01), torch.tensor([0.01]), torch.tensor(0.01).double()]
)
def test_mtt_rates_that_are_one_number(rate, mtt_folder, load):
    torch.save(rate, mtt_folder / "lr_best.pt")
    assert load(mtt_folder, normalised=True).learned_lr == pytest.approx(float(rate))


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (float("nan"), "nan"),
        (torch.tensor(torch.inf), "inf"),
        (0.0, "0.0"),
        (-0.01, "-0.01"),
        pytest.param(10**400, "1" + 39 * "0", id="huge"),
        (True, "True"),
        ("fast", "'fast'"),
        (torch.tensor([0.01, 0.02]), "a tensor of (2,)"),
        (np.float64(0.01), "no number"),
    ],
)
def test_invalid_mtt_rates(rate, told, mtt_folder, load):
    torch.save(rate, mtt_folder / "lr_best.pt")
    with pytest.raises(ArtefactError) as error:
        load(mtt_folder, normalised=True)
    message = "allowed: one finite number above 0. Correct the file or remove it: images and labels suffice."
    assert str(error.value) == f"{mtt_folder / 'lr_best.pt'} holds {told}; {message}"


def test_datm_logits(mtt_folder, load):
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 4
    torch.save(logits, mtt_folder / "labels_best.pt")
    with pytest.raises(
        UnsupportedError,
        match=r"the soft labels are not probabilities .* synthetic\.logits=true for",
    ):
        load(mtt_folder, normalised=True)
    got = load(mtt_folder, normalised=True, logits=True)
    assert torch.allclose(got.labels, logits.softmax(1))
    torch.save(logits.softmax(1), mtt_folder / "labels_best.pt")
    assert torch.allclose(load(mtt_folder, normalised=True).labels, logits.softmax(1))


def test_mtt_without_labels(mtt_folder, load):
    (mtt_folder / "labels_best.pt").unlink()
    with pytest.raises(
        ArtefactError,
        match=r"holds one tensor and no labels; expected images_NAME\.pt with labels_best",
    ):
        load(mtt_folder)
    torch.save(torch.zeros(2, 1, 8, 8), mtt_folder / "x.pt")
    with pytest.raises(ArtefactError, match=r"with labels_best\.pt beside it, or one"):
        load(mtt_folder / "x.pt")
    torch.save([1], mtt_folder / "labels_best.pt")
    with pytest.raises(
        ArtefactError, match=r"labels_best\.pt must hold one tensor of labels; it holds a list\.$"
    ):
        load(mtt_folder)


@pytest.mark.parametrize("kind", ["pixels", "8-bit", "normalised"])
def test_pixels_of_a_whitened_data_set_are_whitened_like_its_images(
    kind, known, load, mnist, tmp_path
):
    """``dataset.stats=zca``: normalised ones have no whitening, nor do those with statistics."""
    from dcond.whitening import fit_whitening

    whitened = replace(
        mnist, mean=(0.0,), std=(1.0,), whitening=fit_whitening(mnist.train.take(torch.arange(120)))
    )
    images = {"pixels": known.pixels, "normalised": known.normalised}.get(kind)
    images = (255 * known.pixels).byte() if images is None else images
    np.savez(tmp_path / "x.npz", images=images, labels=known.labels)
    options = {"normalised": True} if kind == "normalised" else {}
    got = load(tmp_path / "x.npz", whitened, **options)
    assert known.same(got, tolerance=1 / 255 if kind == "8-bit" else 1e-6)
    assert (got.whitening is None) == (kind == "normalised")


def test_a_whitened_set_is_trained_on_as_stored_and_tested_whitened(mtt_folder, known, load, mnist):
    from dcond.whitening import fit_whitening

    whitening = fit_whitening(mnist.train.images)
    torch.save(whitening.apply(known.pixels), mtt_folder / "images_best.pt")
    got = load(mtt_folder, zca=True)
    assert known.same(got, tolerance=1e-4)  # shown as images
    assert torch.allclose(
        got.dataset().tensors[0], whitening.apply(known.pixels), atol=1e-4
    )  # trained on as stored
    test = mnist.test.images.float() / 255
    assert torch.allclose(got.spec.normalise(test), whitening.apply(test))
    assert got.to(torch.device("cpu")).whitening is not None
    assert replace(got, ipc=2).spec.whitening is not None

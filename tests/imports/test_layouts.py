"""Every public layout comes out as the images that were put in."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dcond import artefact
from dcond.data.statistics import LEGACY
from dcond.errors import ArtefactError, ConfigError, DataError, UnsupportedError
from dcond.formation import decode
from dcond.types import SyntheticSet


def same_images(synthetic: SyntheticSet, known, *, tolerance: float = 1e-6) -> bool:
    return torch.allclose(synthetic.images, known.pixels, atol=tolerance) and torch.equal(
        synthetic.labels, known.labels
    )


# --- DC, DSA, DM --------------------------------------------------------------------------------------------------


@pytest.fixture
def dc_file(tmp_path, known):
    """As ``main.py`` saves it: one pair per experiment, and numpy accuracies beside them."""
    other = torch.zeros_like(known.normalised)
    content = {
        "data": [[known.normalised, known.labels], [other - 1, known.labels]],
        "accs_all_exps": {"ConvNet": [np.float64(0.31), np.float64(0.32)], "MLP": np.array([0.5])},
    }
    torch.save(content, tmp_path / "res_DC_MNIST_ConvNet_2ipc.pt")
    return tmp_path / "res_DC_MNIST_ConvNet_2ipc.pt"


def test_dc(dc_file, known, load):
    got = load(dc_file)
    assert same_images(got, known)
    assert (got.mean, got.std, got.ipc, got.factor) == (*LEGACY["mnist"], 2, 1)
    images, _ = got.dataset().tensors
    assert torch.allclose(images, known.normalised, atol=1e-5)  # networks see what was stored
    assert got.metadata["method"] == "res_DC_MNIST_ConvNet_2ipc"
    assert load(dc_file, method="dc").metadata["method"] == "dc"


def test_dc_the_set_of_another_experiment(dc_file, load):
    assert torch.allclose(load(dc_file, number=1).dataset().tensors[0], torch.tensor(-1.0))
    with pytest.raises(ConfigError, match=r"number=2 is out of range: .* holds 2 set\(s\), numbered from 0\.$"):
        load(dc_file, number=2)


def test_dc_on_data_without_published_constants(dc_file, known, load, toy):
    with pytest.raises(UnsupportedError) as error:
        load(dc_file, toy)
    words = "synthetic.mean=[0.2500] synthetic.std=[0.2200]."
    assert str(error.value).endswith(words)
    got = load(dc_file, toy, mean=[0.1307], std=[0.3081])
    assert same_images(got, known)


def test_dc_whose_values_are_pixels_stops(tmp_path, known, load):
    torch.save({"data": [[known.pixels, known.labels]]}, tmp_path / "x.pt")
    with pytest.raises(UnsupportedError) as error:
        load(tmp_path / "x.pt")
    assert "(DC, DSA, DM) is a layout of normalised images, and its values go from 0.0" in str(error.value)
    assert "pass synthetic.normalised=true for (x - mean) / std, synthetic.normalised=false for" in str(error.value)
    assert same_images(load(tmp_path / "x.pt", normalised=False), known, tolerance=0)


# --- MTT, DATM ----------------------------------------------------------------------------------------------------


@pytest.fixture
def mtt_folder(tmp_path, known):
    torch.save(known.normalised, tmp_path / "images_best.pt")
    torch.save(known.labels, tmp_path / "labels_best.pt")
    torch.save(0.0123, tmp_path / "lr_best.pt")
    return tmp_path


@pytest.mark.parametrize("name", ["", "images_best.pt"])
def test_mtt(name, mtt_folder, known, load):
    with pytest.raises(UnsupportedError, match=r"\(MTT, DATM\) does not say whether its images are normalised, and"):
        load(mtt_folder / name)
    got = load(mtt_folder / name, normalised=True)
    assert same_images(got, known)
    assert got.metadata["learned_lr"] == "0.0123"


def test_mtt_takes_its_own_constants_for_cifar100(tmp_path, toy):
    from dcond.imports.recognise import find

    torch.save(torch.randn(6, 3, 8, 8), tmp_path / "images_best.pt")
    torch.save(torch.arange(6) // 2, tmp_path / "labels_best.pt")
    assert find(tmp_path).statistics("cifar100") == LEGACY["cifar10"]
    assert find(tmp_path).statistics("nothing") is None


def test_mtt_of_another_step_and_no_rate(mtt_folder, known, load):
    torch.save(known.normalised.flip(0), mtt_folder / "images_5000.pt")
    torch.save(known.labels.flip(0), mtt_folder / "labels_5000.pt")
    got = load(mtt_folder / "images_5000.pt", normalised=True)
    assert torch.equal(got.labels, known.labels)  # brought in order of class
    assert torch.allclose(got.images, known.pixels[[1, 0, 3, 2, 5, 4]], atol=1e-6)
    assert "learned_lr" not in got.metadata


@pytest.mark.parametrize("rate", [0.01, 1, torch.tensor(0.01), torch.tensor([0.01]), torch.tensor(0.01).double()])
def test_mtt_rates_that_are_one_number(rate, mtt_folder, load):
    torch.save(rate, mtt_folder / "lr_best.pt")
    assert float(load(mtt_folder, normalised=True).metadata["learned_lr"]) == pytest.approx(float(rate))


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
        (np.float64(0.01), "a _Dropped"),
    ],
)
def test_mtt_rates_that_cannot_be(rate, told, mtt_folder, load):
    torch.save(rate, mtt_folder / "lr_best.pt")
    with pytest.raises(ArtefactError) as error:
        load(mtt_folder, normalised=True)
    words = "allowed: one finite number above 0. Save it as that, or remove the file: images and labels do without."
    assert str(error.value) == f"{mtt_folder / 'lr_best.pt'} holds {told}; {words}"


def test_datm_logits(mtt_folder, load):
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 4
    torch.save(logits, mtt_folder / "labels_best.pt")
    with pytest.raises(UnsupportedError, match=r"the soft labels are no probabilities .* synthetic\.logits=true for"):
        load(mtt_folder, normalised=True)
    got = load(mtt_folder, normalised=True, logits=True)
    assert torch.allclose(got.labels, logits.softmax(1))
    torch.save(logits.softmax(1), mtt_folder / "labels_best.pt")
    assert torch.allclose(load(mtt_folder, normalised=True).labels, logits.softmax(1))


def test_mtt_without_labels(mtt_folder, load):
    (mtt_folder / "labels_best.pt").unlink()
    with pytest.raises(
        ArtefactError, match=r"holds one tensor and no labels; expected images_NAME\.pt, and labels_best"
    ):
        load(mtt_folder)
    torch.save(torch.zeros(2, 1, 8, 8), mtt_folder / "x.pt")
    with pytest.raises(ArtefactError, match=r"and labels_best\.pt beside it\.$"):
        load(mtt_folder / "x.pt")
    torch.save([1], mtt_folder / "labels_best.pt")
    with pytest.raises(ArtefactError, match=r"labels_best\.pt must hold one tensor of labels; it holds a list\.$"):
        load(mtt_folder)


# --- IDC, NCFM ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple])
def test_idc(kind, tmp_path, known, load):
    torch.save(kind([known.pixels, known.labels]), tmp_path / "data.pt")
    with pytest.raises(UnsupportedError) as error:
        load(tmp_path)
    assert "(IDC, NCFM) does not hold its multi-formation factor; pass synthetic.factor=2" in str(error.value)
    got = load(tmp_path, factor=2)
    assert same_images(got, known, tolerance=0)
    assert torch.equal(got.decoded()[0], decode(known.pixels, 2))
    assert len(load(tmp_path / "data.pt", factor=1).decoded()[0]) == 6
    with pytest.raises(DataError, match=r"factor=9 does not fit images of 8 px; pass synthetic\.factor\.$"):
        load(tmp_path, factor=9)


def test_idc_stray_pixels_pass_and_normalised_images_do_not(tmp_path, known, load):
    stray = known.pixels.clone()
    stray[0, 0, 0, 0] = 1.2
    torch.save([stray, known.labels], tmp_path / "data.pt")
    assert float(load(tmp_path, factor=1).images.max()) == pytest.approx(1.2)
    torch.save([known.normalised * 3, known.labels], tmp_path / "data.pt")
    with pytest.raises(UnsupportedError, match=r"is a layout of pixels in \[0, 1\], and its values go from -"):
        load(tmp_path, factor=1)


# --- HMDC ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "factor"), [("aug_kmeans", 2), ("kmeans", 1)])
def test_hmdc(start, factor, tmp_path, known, load):
    images = known.normalised.view(3, 2, 1, 8, 8).requires_grad_()
    payload = {"synthetic_images": images, "init": start, "factor": 2, "n_ipc": 2, "iteration": 100}
    torch.save(payload, tmp_path / "synthetic_images.pth")
    got = load(tmp_path)
    assert same_images(got, known)
    assert (got.factor, got.align_corners, got.ipc) == (factor, True, 2)
    assert not got.images.requires_grad


def test_hmdc_of_another_shape(tmp_path, known, load):
    torch.save({"synthetic_images": known.normalised}, tmp_path / "synthetic_images.pth")
    with pytest.raises(
        ArtefactError, match=r"\(HMDC\): images must be \(classes, ipc, c, h, w\); got \(6, 1, 8, 8\)\.$"
    ):
        load(tmp_path)


# --- a dict of tensors, npz, folders ------------------------------------------------------------------------------


def test_images_and_labels(tmp_path, known, load):
    """What ``dcond export --to pt`` writes."""
    torch.save({"images": known.normalised, "labels": known.labels}, tmp_path / "x.pt")
    with pytest.raises(UnsupportedError, match="does not say whether its images are normalised"):
        load(tmp_path / "x.pt")
    assert same_images(load(tmp_path / "x.pt", normalised=True), known)


@pytest.mark.parametrize("shape", ["n h w", "n h w c", "n c h w"])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
def test_npz(shape, kind, tmp_path, known, load):
    images = known.pixels.numpy()
    images = {"n h w": images[:, 0], "n h w c": images.transpose(0, 2, 3, 1), "n c h w": images}[shape]
    images = (images * 255).astype(np.uint8) if kind == "uint8" else images.astype(kind)
    np.savez(tmp_path / "x.npz", images=images, labels=known.labels.numpy())
    got = load(tmp_path / "x.npz")
    assert same_images(got, known, tolerance=1 / 255 if kind == "uint8" else 1e-6)
    assert (got.mean, got.std) == ((0.25,), (0.22,))  # the data set's own


def test_npz_says_its_factor_and_classes(tmp_path, known, load):
    names = np.array(["low", "left", "right"])
    np.savez(tmp_path / "x.npz", images=known.pixels, labels=known.labels, class_names=names, factor=np.array(2))
    got = load(tmp_path / "x.npz")
    assert got.factor == 2
    assert torch.equal(got.labels, known.labels)
    assert torch.allclose(got.images, known.pixels[[2, 3, 4, 5, 0, 1]])  # "left" comes first in the data set


def test_npz_outside_the_box_stops(tmp_path, known, load):
    np.savez(tmp_path / "x.npz", images=known.normalised, labels=known.labels)
    with pytest.raises(UnsupportedError, match="does not say whether"):
        load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", images=known.pixels * 255, labels=known.labels)
    with pytest.raises(DataError, match=r"pixels count from 0 to 1, or as uint8\.$"):
        load(tmp_path / "x.npz", normalised=False)


def test_npz_beyond_the_range_of_float32(tmp_path, known, load):
    images = known.pixels.double().numpy()
    images[0, 0, 0, 0] = 1e300
    np.savez(tmp_path / "x.npz", images=images, labels=known.labels)
    with pytest.raises(DataError, match="images must be uint8 or finite floating point"):
        load(tmp_path / "x.npz", normalised=False)


def test_npz_that_lacks_something(tmp_path, known, load):
    np.savez(tmp_path / "x.npz", x=known.pixels)
    with pytest.raises(ArtefactError, match=r"lacks images, labels; an npz of a synthetic set holds images and labels"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "folders", [("00000", "00001", "00002"), ("new000", "new001", "new002"), ("left", "Right", "LOW"), "012"]
)
def test_image_folder(folders, tmp_path, known, load):
    """RDED, SRe2L, and folders by name: 8 bits, classes by name or number whatever the order of the folders."""
    for row, (pixels, label) in enumerate(zip(known.pixels, known.labels, strict=True)):
        file = tmp_path / folders[label] / f"class{label}_id{row:03d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray((pixels[0] * 255).byte().numpy()).save(file)
    got = load(tmp_path)
    assert same_images(got, known, tolerance=1 / 255)
    assert got.factor == 1
    with pytest.raises(DataError, match=r"holds 8-bit pixels, which leave out synthetic\.normalised=true\.$"):
        load(tmp_path, normalised=True)


def test_image_folder_of_unknown_classes(tmp_path, load):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "x.png")
    with pytest.raises(DataError) as error:
        load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: its 3 classes (a, b, c) are neither the 3 of 'mnist' (left, right, low) by name nor "
        "numbered from 0; rename them, or evaluate it on the data set it was made from (dataset=NAME)."
    )
    Image.new("L", (9, 8)).save(tmp_path / "a" / "y.png")
    with pytest.raises(DataError, match=r"images differ in size: .* Bring them to the size of the data set first\.$"):
        load(tmp_path)


# --- dcond's own --------------------------------------------------------------------------------------------------


def test_an_artefact_says_it_all_itself(tmp_path, known, load, toy):
    made = SyntheticSet(known.pixels, known.labels, toy.class_names, 2, (0.5,), (0.25,))
    artefact.save(made, tmp_path / "synthetic.safetensors")
    for path in (tmp_path, tmp_path / "synthetic.safetensors"):
        got = load(path)
        assert torch.equal(got.images, known.pixels)
        assert got.mean == (0.5,)
    with pytest.raises(ConfigError) as error:
        load(tmp_path, normalised=False, factor=2)
    assert str(error.value) == (
        f"{tmp_path} says by itself how it is to be read; leave out synthetic.normalised, synthetic.factor."
    )


def test_a_run_without_its_artefact(tmp_path, load):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(
        ArtefactError, match=r"^no artefact at .*synthetic\.safetensors; give a synthetic\.safetensors or"
    ):
        load(tmp_path)


# --- ZCA ----------------------------------------------------------------------------------------------------------


def test_a_whitened_set_is_trained_on_as_stored_and_tested_whitened(mtt_folder, known, load, mnist):
    from dcond.whitening import fit_whitening

    whitening = fit_whitening(mnist.train.images)
    torch.save(whitening.apply(known.pixels), mtt_folder / "images_best.pt")
    got = load(mtt_folder, zca=True)
    assert same_images(got, known, tolerance=1e-4)  # shown as images
    assert torch.allclose(got.dataset().tensors[0], whitening.apply(known.pixels), atol=1e-4)  # trained on as stored
    test = mnist.test.images.float() / 255
    assert torch.allclose(got.spec.normalise(test), whitening.apply(test))
    assert got.to(torch.device("cpu")).whitening is not None
    assert replace(got, ipc=2).spec.whitening is not None

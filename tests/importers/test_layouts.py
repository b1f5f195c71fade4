"""Every public layout comes out as the images that were put in."""

import numpy as np
import pytest
import torch

from dcond import artefact
from dcond.data.statistics import LEGACY
from dcond.errors import ArtefactError, ConfigError, DataError, UnsupportedError
from dcond.multi_formation import decode
from dcond.types import SyntheticSet

# --- DC, DSA, DM
# --------------------------------------------------------------------------------


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
    assert known.same(got)
    assert (got.mean, got.std, got.ipc, got.factor) == (*LEGACY["mnist"], 2, 1)
    images, _ = got.dataset().tensors
    assert torch.allclose(images, known.normalised, atol=1e-5)  # networks see what was stored
    assert got.metadata["method"] == "res_DC_MNIST_ConvNet_2ipc"
    assert load(dc_file, method="dc").metadata["method"] == "dc"


def test_dc_the_set_of_another_experiment(dc_file, load):
    assert torch.allclose(load(dc_file, index=1).dataset().tensors[0], torch.tensor(-1.0))
    with pytest.raises(
        ConfigError, match=r"index=2 is out of range: .* holds 2 set\(s\), counted from 0\.$"
    ):
        load(dc_file, index=2)


def test_dc_on_data_without_published_constants(dc_file, known, load, toy):
    with pytest.raises(UnsupportedError) as error:
        load(dc_file, toy)
    message = "synthetic.mean=[0.2500] synthetic.std=[0.2200]."
    assert str(error.value).endswith(message)
    got = load(dc_file, toy, mean=[0.1307], std=[0.3081])
    assert known.same(got)


def test_dc_whose_values_are_pixels_stops(tmp_path, known, load):
    torch.save({"data": [[known.pixels, known.labels]]}, tmp_path / "x.pt")
    with pytest.raises(UnsupportedError) as error:
        load(tmp_path / "x.pt")
    assert "(DC, DSA, DM) is a layout of normalised images, and its values go from 0.0" in str(
        error.value
    )
    assert (
        "pass synthetic.normalised=true for (x - mean) / std, synthetic.normalised=false for"
        in str(error.value)
    )
    assert known.same(load(tmp_path / "x.pt", normalised=False), tolerance=0)


# --- IDC, NCFM
# --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple])
def test_idc(kind, tmp_path, known, load):
    torch.save(kind([known.pixels, known.labels]), tmp_path / "data.pt")
    with pytest.raises(UnsupportedError) as error:
        load(tmp_path)
    assert "(IDC, NCFM) does not hold its multi-formation factor; pass synthetic.factor=2" in str(
        error.value
    )
    got = load(tmp_path, factor=2)
    assert known.same(got, tolerance=0)
    assert torch.equal(got.decoded()[0], decode(known.pixels, 2))
    assert len(load(tmp_path / "data.pt", factor=1).decoded()[0]) == 6
    with pytest.raises(
        DataError, match=r"factor=9 does not fit images of 8 px; pass another synthetic\.factor\.$"
    ):
        load(tmp_path, factor=9)


def test_idc_stray_pixels_pass_and_normalised_images_do_not(tmp_path, known, load):
    stray = known.pixels.clone()
    stray[0, 0, 0, 0] = 1.2
    torch.save([stray, known.labels], tmp_path / "data.pt")
    assert float(load(tmp_path, factor=1).images.max()) == pytest.approx(1.2)
    torch.save([known.normalised * 3, known.labels], tmp_path / "data.pt")
    with pytest.raises(
        UnsupportedError, match=r"is a layout of pixels in \[0, 1\], and its values go from -"
    ):
        load(tmp_path, factor=1)


# --- HMDC
# --------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "factor"), [("aug_kmeans", 2), ("kmeans", 1)])
def test_hmdc(start, factor, tmp_path, known, load):
    images = known.normalised.view(3, 2, 1, 8, 8).requires_grad_()
    payload = {"synthetic_images": images, "init": start, "factor": 2, "n_ipc": 2, "iteration": 100}
    torch.save(payload, tmp_path / "synthetic_images.pth")
    got = load(tmp_path)
    assert known.same(got)
    assert (got.factor, got.align_corners, got.ipc) == (factor, True, 2)
    assert not got.images.requires_grad


def test_hmdc_of_another_shape(tmp_path, known, load):
    torch.save({"synthetic_images": known.normalised}, tmp_path / "synthetic_images.pth")
    with pytest.raises(
        ArtefactError,
        match=r"\(HMDC\): images must be \(classes, ipc, c, h, w\); got \(6, 1, 8, 8\)\.$",
    ):
        load(tmp_path)


# --- a dict of tensors
# --------------------------------------------------------------------------------


def test_images_and_labels(tmp_path, known, load):
    """What ``dcond export --to pt`` writes."""
    torch.save({"images": known.normalised, "labels": known.labels}, tmp_path / "x.pt")
    with pytest.raises(UnsupportedError, match="does not say whether its images are normalised"):
        load(tmp_path / "x.pt")
    assert known.same(load(tmp_path / "x.pt", normalised=True))


# --- dcond's own
# --------------------------------------------------------------------------------


def test_an_artefact_needs_no_options(tmp_path, known, load, toy):
    made = SyntheticSet(known.pixels, known.labels, toy.class_names, 2, (0.5,), (0.25,))
    artefact.save(made, tmp_path / "synthetic.safetensors")
    for path in (tmp_path, tmp_path / "synthetic.safetensors"):
        got = load(path)
        assert torch.equal(got.images, known.pixels)
        assert got.mean == (0.5,)
    with pytest.raises(ConfigError) as error:
        load(tmp_path, normalised=False, factor=2)
    assert str(error.value) == (
        f"{tmp_path} is an artefact of dcond, which needs no synthetic.normalised, "
        "synthetic.factor; remove it."
    )


def test_a_run_without_its_artefact(tmp_path, load):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(
        ArtefactError,
        match=r"^no artefact at .*synthetic\.safetensors; give a synthetic\.safetensors or",
    ):
        load(tmp_path)

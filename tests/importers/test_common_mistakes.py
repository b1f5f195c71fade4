"""Files of synthetic sets as users have them: read, or refused with the way out."""

import pickle

import pytest
import torch

from dcond.errors import ArtefactError


def test_the_pixels_of_mtts_whitened_sets_are_read(tmp_path, load, known):
    """``images_zca_N.pt`` holds the images after the whitening was undone; labels have no zca."""
    pixels = known.pixels.clone()
    pixels[0, 0, 0, 0] = -0.1  # undoing it is not clipped
    torch.save(pixels, tmp_path / "images_zca_1000.pt")
    torch.save(known.labels, tmp_path / "labels_1000.pt")
    torch.save(torch.tensor(0.01), tmp_path / "lr_1000.pt")
    for path in (tmp_path / "images_zca_1000.pt", tmp_path):
        synthetic = load(path)
        assert torch.equal(synthetic.images, pixels)
        assert synthetic.metadata["read_as"] == "pixels"
        assert synthetic.learned_lr == pytest.approx(0.01)


def test_a_folder_of_several_iterations_asks_for_one(tmp_path, load, known):
    for name in ("100", "200"):
        torch.save(known.pixels, tmp_path / f"images_{name}.pt")
    with pytest.raises(ArtefactError, match=r"holds images_100\.pt and images_200\.pt; give one"):
        load(tmp_path)


@pytest.mark.parametrize("keys", [("data", "label"), ("data", "labels"), ("x", "y")])
def test_dicts_of_two_tensors_are_read(keys, tmp_path, load, known):
    content = dict(zip(keys, (known.pixels, known.labels), strict=True))
    torch.save(content | {"dataset": "mnist"}, tmp_path / "x.pt")
    assert known.same(load(tmp_path / "x.pt", normalised=False))


@pytest.mark.parametrize("content", [torch.rand(10, 3), {"epoch": 3}, [1, 2]])
def test_unknown_contents_say_how_to_save_a_set(content, tmp_path, load):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ArtefactError) as error:
        load(tmp_path / "x.pt")
    assert str(error.value).endswith('or save it as torch.save({"images": x, "labels": y}, FILE).')


def test_images_without_labels_say_how_to_save_them(tmp_path, load):
    torch.save(torch.rand(10, 1, 8, 8), tmp_path / "bare.pt")
    with pytest.raises(ArtefactError) as error:
        load(tmp_path / "bare.pt")
    assert 'torch.save({"images": x, "labels": y}, FILE)' in str(error.value)


@pytest.mark.parametrize("name", ["x.pkl", "x.pickle"])
def test_a_pickle_is_refused_as_code(name, tmp_path, load):
    (tmp_path / name).write_bytes(pickle.dumps([torch.rand(2), torch.rand(2)]))
    with pytest.raises(ArtefactError, match=r"is a pickle, which may run code; save .*FILE\)\.$"):
        load(tmp_path / name)


def test_other_types_are_named(tmp_path, load):
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ArtefactError, match=r"x\.h5 has an unknown type \(an HDF5 file\)"):
        load(tmp_path / "x.h5")

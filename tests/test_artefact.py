"""The artefact: what is written is what is read, and everything else is refused in words."""

import json
import os
import pickle
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.data import DataLoader

import dcond
from dcond import artefact
from dcond.errors import ArtefactError
from dcond.types import SyntheticSet
from dcond.whitening import fit_whitening

NAMES = ("cat", 'say "hé" \\ 猫', "", "a,b\nc")


def made(factor=2, soft=False, images=None) -> SyntheticSet:
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


@pytest.fixture
def file(tmp_path) -> Path:
    return artefact.save(made(), tmp_path / "synthetic.safetensors")


def refused(path) -> str:
    with pytest.raises(ArtefactError) as error:
        artefact.load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("soft", [False, True])
def test_everything_comes_back(tmp_path, soft):
    saved = made(soft=soft)
    got = artefact.load(artefact.save(saved, tmp_path / "x.safetensors"))
    assert torch.equal(got.images, saved.images)
    assert torch.equal(got.labels, saved.labels)
    assert got.labels.dtype == saved.labels.dtype
    for name in ("class_names", "ipc", "mean", "std", "factor", "align_corners"):
        assert getattr(got, name) == getattr(saved, name)
    assert got.metadata.items() >= saved.metadata.items()


def test_the_metadata_is_the_contract(file):
    length = struct.unpack("<Q", file.read_bytes()[:8])[0]
    header = json.loads(file.read_bytes()[8 : 8 + length])
    metadata = header["__metadata__"]
    assert metadata.keys() >= {
        *("format", "method", "dataset", "class_names", "ipc", "factor", "align_corners", "mean", "std", "size"),
        *("seed", "dcond_version", "torch_version", "created", "evaluation"),
    }
    assert metadata["format"] == "dcond/1"
    assert json.loads(metadata["class_names"]) == list(NAMES)
    assert json.loads(metadata["size"]) == [6, 5]
    assert json.loads(metadata["mean"])[1] == 1 / 3
    assert (metadata["ipc"], metadata["factor"], metadata["align_corners"]) == ("2", "2", "true")
    assert metadata["dcond_version"] == dcond.__version__
    assert "pixel_range" not in metadata
    assert header["images"]["dtype"] == "F32"
    assert header["labels"]["dtype"] == "I64"


def test_a_set_under_optimisation_is_saved_as_it_stands(tmp_path):
    synthetic = made()
    synthetic.images.requires_grad_()
    got = artefact.load(artefact.save(synthetic, tmp_path / "x.safetensors"))
    assert not got.images.requires_grad
    assert torch.equal(got.images, synthetic.images)


def test_a_set_that_left_the_box_records_its_range(tmp_path):
    images = made().images.clone()
    images[0, 0, 0, :2] = torch.tensor([-0.25, 1.5])
    path = artefact.save(made(images=images), tmp_path / "x.safetensors")
    got = artefact.load(path)
    assert json.loads(got.metadata["pixel_range"]) == [-0.25, 1.5]
    assert torch.equal(got.images, images)
    got.images.clamp_(0, 1)  # and a set that came back into it does not
    assert "pixel_range" not in artefact.load(artefact.save(got, path)).metadata


def test_a_run_folder_stands_for_its_artefact(file):
    assert torch.equal(artefact.load(file.parent).images, made().images)
    assert torch.equal(artefact.load(str(file)).images, made().images)


def test_from_python_in_anybodys_training_loop(file):
    assert dcond.load is artefact.load
    assert dcond.SyntheticSet is SyntheticSet
    images, labels = next(iter(DataLoader(dcond.load(file).dataset(), batch_size=32)))
    assert images.shape == (32, 3, 6, 5)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 4
    decoded, _ = made().decoded()
    torch.testing.assert_close(images[:, 1], (decoded[:, 1] - 1 / 3) / 0.25)


def test_importing_dcond_is_instant_and_unknown_names_are_told():
    code = "import dcond, sys; assert 'torch' not in sys.modules; dcond.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, timeout=60)
    with pytest.raises(AttributeError, match="module 'dcond' has no attribute 'laod'"):
        _ = dcond.laod


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_missing_file(tmp_path):
    path = tmp_path / "nothing.safetensors"
    way_out = "; give a synthetic.safetensors or the run folder that holds one."
    assert refused(path) == f"no artefact at {path}{way_out}"
    assert refused(tmp_path) == f"no artefact at {tmp_path / 'synthetic.safetensors'}{way_out}"


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, 0.9, 0.999])
def test_a_truncated_file(file, keep):
    whole = file.read_bytes()
    file.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    message = refused(file)
    assert message.startswith(f"cannot read {file}: ")
    assert message.endswith(" It is damaged or no safetensors file.")


def test_a_flipped_bit_is_refused_or_only_changes_a_description(file):
    whole, saved = file.read_bytes(), made()
    refusals = 0
    for position in range(0, len(whole), 11):  # the header and the pixels
        broken = bytearray(whole)
        broken[position] ^= 1 << position % 8
        file.write_bytes(broken)
        try:
            got = artefact.load(file)
        except ArtefactError:
            refusals += 1
        else:
            assert torch.equal(got.images, saved.images)
            assert torch.equal(got.labels, saved.labels)
            assert (got.spec, got.class_names, got.ipc) == (saved.spec, saved.class_names, saved.ipc)
    assert refusals > 270  # nearly all of the file is pixels


def test_a_flipped_bit_in_a_pixel_is_named(file):
    whole = bytearray(file.read_bytes())
    whole[whole.index(made().images.numpy().tobytes())] ^= 1
    file.write_bytes(whole)
    assert refused(file) == (
        f"{file}: its content is not what was written, by its sha256; copy or make it again "
        "(whoever changed it on purpose leaves sha256 out of its metadata)."
    )


@pytest.mark.parametrize(
    "content", [b"hello, world, I am a text", pickle.dumps({"images": 1}), b"PK\x03\x04" + bytes(60)]
)
def test_a_file_of_another_kind(file, content):
    file.write_bytes(content)
    assert refused(file).startswith(f"cannot read {file}: ")


GOOD_TENSORS = {"images": torch.rand(8, 3, 6, 5), "labels": torch.arange(4).repeat_interleave(2)}
GOOD_METADATA = {
    "format": "dcond/1",
    "class_names": '["a", "b", "c", "d"]',
    "ipc": "2",
    "factor": "1",
    "align_corners": "false",
    "mean": "[0.5, 0.5, 0.5]",
    "std": "[0.2, 0.2, 0.2]",
}


def write(path, tensors=None, metadata=None) -> Path:
    tensors = {name: value for name, value in (GOOD_TENSORS | (tensors or {})).items() if value is not None}
    metadata = {name: value for name, value in (GOOD_METADATA | (metadata or {})).items() if value is not None}
    save_file(tensors, path, metadata=metadata)
    return path


def test_a_file_by_another_tool_that_keeps_the_format_is_read(tmp_path):
    got = artefact.load(write(tmp_path / "x.safetensors"))
    assert torch.equal(got.images, GOOD_TENSORS["images"])
    half = artefact.load(write(tmp_path / "x.safetensors", {"images": torch.full((8, 3, 6, 5), 0.5).half()}))
    assert half.images.dtype == torch.float32


def with_pixel(value):
    images = GOOD_TENSORS["images"].clone()
    images[3, 1, 2, 2] = value
    return {"images": images}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"images": None}, "lacks the tensor(s) images."),
        ({"images": None, "labels": None, "x": torch.ones(1)}, "lacks the tensor(s) images, labels."),
        ({"images": torch.rand(8, 6, 5)}, "images must be finite floats (n, c, h, w); got (8, 6, 5)."),
        ({"images": torch.ones(8, 3, 6, 5, dtype=torch.uint8)}, "images must be finite floats (n, c, h, w)"),
        (with_pixel(float("nan")), "images must be finite floats (n, c, h, w)"),
        (with_pixel(float("inf")), "images must be finite floats (n, c, h, w)"),
        (with_pixel(1.5), "pixels leave the recorded range [0.0, 1.0]."),
        (with_pixel(-0.01), "pixels leave the recorded range [0.0, 1.0]."),
        ({"labels": torch.arange(7)}, "8 images but labels (7,)."),
        ({"labels": torch.tensor(3)}, "8 images but labels ()."),
        ({"labels": torch.tensor([0, 0, 1, 1, 2, 2, 3, 4])}, "labels must lie in 0..3."),
        ({"labels": torch.tensor([0, 0, 1, 1, 2, 2, 3, -1])}, "labels must lie in 0..3."),
        ({"labels": torch.rand(8, 5)}, "soft labels must be finite floats (n, 4); got (8, 5)."),
        ({"labels": torch.rand(8)}, "soft labels must be finite floats (n, 4); got (8,)."),
        ({"labels": torch.ones(8, 4, dtype=torch.int64)}, "soft labels must be finite floats (n, 4); got (8, 4)."),
        ({"labels": torch.full((8, 4), float("nan"))}, "soft labels must be finite floats (n, 4)"),
        ({"images": torch.rand(9, 3, 6, 5), "labels": torch.zeros(9).long()}, "9 images are not 4 classes of ipc=2."),
    ],
)
def test_tensors_that_cannot_be(tmp_path, tensors, words):
    path = write(tmp_path / "x.safetensors", tensors)
    message = refused(path)
    assert message.startswith(str(path))
    assert words in message


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"format": None}, "has format None; this dcond reads 'dcond/1'."),
        ({"format": "dcond/2"}, "has format 'dcond/2'; this dcond reads 'dcond/1'."),
        ({"class_names": None}, "metadata 'class_names' is missing or unreadable (None)."),
        ({"class_names": '"abcd"'}, "metadata 'class_names' is missing or unreadable"),
        ({"class_names": "[1"}, "metadata 'class_names' is missing or unreadable ('[1')."),
        ({"ipc": "two"}, "metadata 'ipc' is missing or unreadable ('two')."),
        ({"ipc": "3"}, "8 images are not 4 classes of ipc=3."),
        ({"factor": "0"}, "metadata 'factor' is missing or unreadable ('0')."),
        ({"factor": "-1"}, "metadata 'factor' is missing or unreadable ('-1')."),
        ({"factor": "7"}, "factor=7 does not fit images of 6x5."),
        ({"align_corners": "maybe"}, "metadata 'align_corners' is missing or unreadable ('maybe')."),
        ({"align_corners": "3"}, "metadata 'align_corners' is missing or unreadable ('3')."),
        ({"mean": "[0.5]"}, "mean and std must give 3 numbers, std above 0;"),
        ({"std": "[0.2, 0.2, 0]"}, "mean and std must give 3 numbers, std above 0;"),
        ({"std": "[0.2, 0.2, NaN]"}, "metadata 'std' is missing or unreadable"),
        ({"mean": "0.5"}, "metadata 'mean' is missing or unreadable ('0.5')."),
        ({"mean": '["x", 0, 0]'}, "metadata 'mean' is missing or unreadable"),
        ({"pixel_range": "[0, 1, 2]"}, "metadata 'pixel_range' is missing or unreadable ('[0, 1, 2]')."),
        ({"pixel_range": "[0.2, 0.3]"}, "pixels leave the recorded range [0.2, 0.3]."),
    ],
)
def test_metadata_that_cannot_be(tmp_path, metadata, words):
    path = write(tmp_path / "x.safetensors", metadata=metadata)
    message = refused(path)
    assert message.startswith(str(path))
    assert words in message


def test_nothing_is_unpickled(file, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    file.write_bytes(pickle.dumps(Bomb()))
    refused(file)
    assert not (tmp_path / "harm").exists()


# --- writing ------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path):
    path = tmp_path / "no" / "x.safetensors"
    with pytest.raises(ArtefactError) as error:
        artefact.save(made(), path)
    assert str(error.value).startswith(f"cannot write {path}: ")
    assert str(error.value).endswith(" Free some space or choose another folder.")


def test_a_failed_write_leaves_the_old_file_and_no_debris(file, monkeypatch):
    before = file.read_bytes()

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artefact, "save_file", full)
    with pytest.raises(ArtefactError, match="No space left on device"):
        artefact.save(made(factor=1), file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_interrupted_write_leaves_no_debris_either(file, monkeypatch):
    def interrupted(tensors, path, metadata):
        raise KeyboardInterrupt

    monkeypatch.setattr(artefact, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        artefact.save(made(factor=1), file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_file_is_an_ordinary_one(file):
    mask = os.umask(0)
    os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask


# --- whitening ----------------------------------------------------------------------------------------------------


def whitened(tmp_path) -> Path:
    real = torch.randint(256, (40, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    saved = replace(made(factor=1), whitening=fit_whitening(real))
    return artefact.save(saved, tmp_path / "x.safetensors")


def test_a_whitening_comes_back_and_networks_see_the_same(tmp_path):
    path = whitened(tmp_path)
    got = artefact.load(path)
    real = torch.randint(256, (40, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    wanted = replace(made(factor=1), whitening=fit_whitening(real))
    assert torch.equal(got.dataset().tensors[0], wanted.dataset().tensors[0])
    images = got.images
    assert torch.allclose(got.spec.denormalise(got.spec.normalise(images)), images, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"zca_mean": None}, "zca_mean and zca_matrix go together."),
        ({"zca_mean": torch.zeros(3)}, "zca_mean and zca_matrix must be finite, of 90 and 90 x 90 numbers."),
        ({"zca_matrix": torch.full((90, 90), torch.nan)}, "zca_mean and zca_matrix must be finite,"),
        ({"zca_matrix": torch.zeros(90, 90)}, "zca_matrix has no inverse, so it is no whitening."),
    ],
)
def test_a_whitening_that_cannot_be(change, words, tmp_path):
    path = whitened(tmp_path)
    with safe_open(str(path), framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kept = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    save_file(kept, path, metadata=metadata)
    assert words in refused(path)

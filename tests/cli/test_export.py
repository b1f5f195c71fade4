"""``dcond export``: what comes out is what the artefact holds, and nothing that exists is touched."""

import errno

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from dcond import artefact
from dcond.cli import export_formats
from dcond.data.statistics import LEGACY
from dcond.errors import DataError
from dcond.importers import Source
from dcond.importers import image_folder as folder_layout
from dcond.importers import npz as npz_layout
from dcond.types import RealData, Split, SyntheticSet
from dcond.whitening import fit_whitening

NAMES = ("T-shirt/top", "..", "CON")


def made(channels=1, factor=1, dataset="mine", **changed):
    """Three classes, two images each, 8 x 8, made of exact 8-bit levels."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (6, channels, 8, 8), generator=rng) / 255
    fields = {
        "images": images,
        "labels": torch.tensor([0, 0, 1, 1, 2, 2]),
        "class_names": NAMES,
        "ipc": 2,
        "mean": (0.25,) * channels,
        "std": (0.5,) * channels,
        "factor": factor,
        "metadata": {"dataset": dataset},
    }
    return SyntheticSet(**fields | changed)


@pytest.fixture
def saved(folder):
    """Save a set in a run folder of its own; return it and the folder."""

    def save(**settings):
        run = folder / "run"
        run.mkdir(exist_ok=True)
        synthetic = made(**settings)
        artefact.save(synthetic, run / "synthetic.safetensors")
        return synthetic, run

    return save


@pytest.mark.parametrize("channels", [1, 3])
def test_png_holds_every_pixel_in_folders_of_its_class(channels, saved, run_cli, caplog):
    synthetic, run = saved(channels=channels)
    done = run_cli("export", run, "--to", "png")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"6 images in 3 class folders -> {run / 'export_png'}\n"
    assert "is not that of the classes: match labels by name" in caplog.text  # as ImageFolder sorts
    files = sorted(path.relative_to(run / "export_png").as_posix() for path in run.rglob("*.png"))
    assert files == [
        "T-shirt_top/00000.png",
        "T-shirt_top/00001.png",
        "_CON/00004.png",
        "_CON/00005.png",
        "class/00002.png",
        "class/00003.png",
    ]
    for file in files:
        pixels = np.asarray(Image.open(run / "export_png" / file)).reshape(8, 8, channels)
        assert np.array_equal(
            pixels, (synthetic.images[int(file[-9:-4])] * 255).round().permute(1, 2, 0).numpy()
        )


def test_png_of_a_factor_is_stored_or_decoded_as_asked(saved, run_cli):
    synthetic, run = saved(factor=2)
    done = run_cli("export", run, "--to", "png", "--out", "a")
    assert done.out == "6 images, each holding 4 (--decoded unpacks) in 3 class folders -> a\n"
    assert run_cli("export", run, "--to", "png", "--decoded", "--out", "b").code == 0
    assert len(list((run.parent / "a").rglob("*.png"))) == 6
    assert len(list((run.parent / "b").rglob("*.png"))) == 24
    images, labels = synthetic.decoded()
    row = 17
    file = next((run.parent / "b").rglob(f"{row:05d}.png"))
    assert file.parent.name == export_formats.class_folders(NAMES)[int(labels[row])]
    assert np.array_equal(np.asarray(Image.open(file)), (images[row, 0] * 255).round().numpy())


@pytest.mark.parametrize(
    ("arguments", "factor", "aligned"), [((), 2, True), (("--decoded",), 1, False)]
)
@pytest.mark.parametrize(("kind", "read"), [("png", folder_layout.read), ("npz", npz_layout.read)])
def test_a_factor_is_read_as_what_it_is(kind, read, arguments, factor, aligned, saved, run_cli):
    _, run = saved(factor=2, align_corners=True)
    assert run_cli("export", run, "--to", kind, "--out", "a", *arguments).code == 0
    found = read(run.parent / "a")
    assert (found.factor, found.align_corners) == (factor, aligned)


def test_png_files_of_different_factors_are_refused(saved, run_cli, folder):
    _, run = saved(factor=2)
    assert run_cli("export", run, "--to", "png", "--out", "a").code == 0
    odd = sorted((folder / "a").rglob("*.png"))[3]
    Image.open(odd).save(odd)  # as a program does that keeps the pixels alone
    with pytest.raises(
        DataError, match=rf"{odd.name} have different factors; export the set again"
    ):
        folder_layout.read(folder / "a")


def test_png_clips_pixels_out_of_the_box_and_takes_the_class_of_the_row(saved, run_cli):
    """What a soft label says most may be another class; only a set of other code goes by it."""
    images = torch.full((6, 1, 8, 8), -0.5)
    images[1] = 1.5
    soft = torch.tensor([[0.1, 0.7, 0.2], [0.1, 0.2, 0.7]]).repeat(3, 1)
    _, run = saved(images=images, labels=soft)
    done = run_cli("export", run, "--to", "png", "--out", "x")
    assert done.out == (
        "6 images in 3 class folders, without the soft labels, 100 % of pixel values clipped to "
        "[0, 1] -> x\n"
    )
    assert np.all(np.asarray(Image.open("x/T-shirt_top/00000.png")) == 0)
    assert np.all(np.asarray(Image.open("x/T-shirt_top/00001.png")) == 255)
    _, run = saved(images=images, labels=soft, factor=2, metadata={"read_as": "npz"})
    done = run_cli("export", run, "--to", "png", "--decoded", "--out", "y")
    assert done.out.startswith("24 images in 2 class folders, ")
    assert np.all(np.asarray(Image.open("y/class/00006.png")) == 0)
    assert np.all(np.asarray(Image.open("y/_CON/00007.png")) == 255)


def test_png_tells_the_share_of_clipped_values(saved, run_cli):
    images = torch.full((6, 1, 8, 8), 1 + 1e-4)  # less than half a level
    images[2, 0, :3] = -0.1
    _, run = saved(images=images, labels=torch.eye(3).repeat_interleave(2, 0) * 9, logits=True)
    done = run_cli("export", run, "--to", "png", "--out", "x")
    assert done.out == (
        "6 images in 3 class folders, without the soft labels, 6.25 % of pixel values clipped to "
        "[0, 1] -> x\n"
    )


def test_npz_keeps_pixels_out_of_the_box(saved, run_cli):
    _, run = saved(images=torch.linspace(-1, 2, 6 * 64).view(6, 1, 8, 8))
    assert run_cli("export", run, "--to", "npz").code == 0
    with np.load(run / "export_npz.npz", allow_pickle=False) as file:
        assert (file["images"].min(), file["images"].max()) == (-1, 2)


def test_png_refuses_two_channels(saved, run_cli, folder):
    _, run = saved(channels=2)
    assert run_cli("export", run, "--to", "png").line == (
        "PNG files have 1 or 3 channels, these images 2; export to npz."
    )
    assert sorted(path.name for path in run.iterdir()) == ["synthetic.safetensors"]


@pytest.mark.parametrize("decoded", [False, True])
def test_npz_holds_the_pixels_and_what_is_needed_to_use_them(decoded, saved, run_cli):
    synthetic, run = saved(channels=3, factor=2)
    done = run_cli("export", run / "synthetic.safetensors", "--to", "npz", *["--decoded"] * decoded)
    assert done.code == 0
    images, labels = synthetic.decoded() if decoded else (synthetic.images, synthetic.labels)
    with np.load(run / "export_npz.npz", allow_pickle=False) as file:
        content = dict(file)
    assert sorted(content) == [
        "align_corners",
        "class_names",
        "factor",
        "images",
        "labels",
        "mean",
        "std",
    ]
    assert content["images"].dtype == np.float32
    assert np.array_equal(content["images"], images.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(content["labels"], labels.numpy())
    assert content["labels"].dtype == np.int64
    assert tuple(content["class_names"]) == NAMES
    assert content["mean"].tolist() == [0.25] * 3
    assert content["std"].tolist() == [0.5] * 3
    assert int(content["factor"]) == (1 if decoded else 2)
    assert ("--decoded unpacks" in done.out) is not decoded


def test_pt_is_decoded_and_normalised_as_in_the_public_code(saved, run_cli):
    synthetic, run = saved(dataset="fashion_mnist", factor=2)
    done = run_cli("export", run, "--to", "pt")
    assert done.out == (
        f"24 images, normalised by the public DC code's fashion_mnist mean and std -> {run / 'export_pt.pt'}\n"
    )
    content = torch.load(run / "export_pt.pt", weights_only=True)
    assert sorted(content) == ["class_names", "images", "labels", "mean", "std"]
    assert content["class_names"] == list(NAMES)
    assert (content["mean"], content["std"]) == ([0.2861], [0.3530])
    images, labels = synthetic.decoded()
    assert_close(content["images"], (images - 0.2861) / 0.3530)
    assert torch.equal(content["labels"], labels)
    assert content["labels"].dtype == torch.int64


def test_pt_of_another_set_is_normalised_by_its_own_statistics(saved, run_cli):
    synthetic, run = saved()
    assert "the set's own mean and std" in run_cli("export", run, "--to", "pt").out
    content = torch.load(run / "export_pt.pt", weights_only=True)
    assert_close(content["images"], (synthetic.images - 0.25) / 0.5)
    _, whose = export_formats.dc_spec(
        made(channels=1, dataset="cifar10")
    )  # a grey set that only bears the name
    assert whose == "the set's own"
    spec, _ = export_formats.dc_spec(made(channels=3, dataset="cifar10"))
    assert (spec.mean, spec.std) == LEGACY["cifar10"]


def test_pt_of_a_whitened_set_is_as_its_networks_see_it(saved, run_cli):
    """The public code's constants are of images that are not whitened."""
    whitening = fit_whitening((made(channels=3).images * 255).byte())
    synthetic, run = saved(
        channels=3, dataset="cifar10", whitening=whitening, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    done = run_cli("export", run, "--to", "pt")
    assert done.out.startswith("6 images, normalised by the set's own whitening, mean and std -> ")
    content = torch.load(run / "export_pt.pt", weights_only=True)
    assert_close(content["images"], whitening.apply(synthetic.images))
    assert "mean" not in content


@pytest.mark.parametrize("kind", ["png", "npz", "pt"])
def test_what_is_exported_is_read_back_for_classes_of_another_order(kind, saved, run_cli, folder):
    """Names that a folder shortens, too, and statistics that are not those of the data."""
    names = ("b" * 60, "a" * 55, "A" * 55)
    synthetic, run = saved(class_names=names)
    assert run_cli("export", run, "--to", kind).code == 0
    order = [2, 0, 1]
    splits = [Split(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.arange(3)) for _ in "ab"]
    real = RealData("mine", *splits, tuple(names[row] for row in order), (0.1,), (0.9,))
    suffix = {"png": "", "npz": ".npz", "pt": ".pt"}[kind]
    source = Source(path=str(run / f"export_{kind}{suffix}"))
    found = source.fitted(source.read(), real)
    assert found.class_names == real.class_names
    wanted = synthetic.by_class[order].flatten(0, 1)
    assert_close(found.images, wanted, rtol=0, atol=1e-6)
    own = (0.1, 0.9) if kind == "png" else (0.25, 0.5)
    assert (*found.mean, *found.std) == pytest.approx(own)
    if kind == "png":  # whoever renames a folder means it
        (run / "export_png" / ("b" * 50)).rename(run / "export_png" / "c")
        assert sorted(source.read().class_names) == ["A" * 55, "a" * 55, "c"]


@pytest.mark.parametrize("kind", ["png", "npz", "pt"])
def test_what_exists_is_never_overwritten(kind, saved, run_cli, folder):
    _, run = saved()
    out = folder / "out"
    out.write_text("precious")
    line = run_cli("export", run, "--to", kind, "--out", out).line
    assert line == f"{out} exists and is not overwritten; remove it or choose another --out."
    assert out.read_text() == "precious"


@pytest.mark.parametrize("kind", ["png", "npz", "pt"])
def test_a_full_disk_leaves_nothing(kind, saved, run_cli, folder, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(torch, "save", full)
    _, run = saved()
    line = run_cli("export", run, "--to", kind, "--out", folder / "new" / "out").line
    assert (
        line
        == f"cannot write {folder}/new/out: No space left on device. Free some space or choose another --out."
    )
    assert list((folder / "new").iterdir()) == []


def test_too_little_memory_is_not_called_a_full_disk(saved, run_cli, monkeypatch):
    def too_large(*_, **__):
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"
        )

    monkeypatch.setattr(torch, "save", too_large)
    line = run_cli("export", saved()[1], "--to", "pt").line
    assert line.startswith("out of memory")


def test_a_file_in_the_way_of_a_folder(saved, run_cli, folder):
    _, run = saved()
    (folder / "file").touch()
    line = run_cli("export", run, "--to", "npz", "--out", "file/x.npz").line
    assert line.startswith("cannot write file/x.npz: ")


def test_no_artefact_and_wrong_usage(run_cli, folder):
    assert run_cli("export", "nowhere", "--to", "pt").line == (
        "no artefact at nowhere; give a synthetic.safetensors or the run folder that holds one."
    )
    for arguments in (["nowhere"], ["nowhere", "--to", "gif"], ["--to", "pt"]):
        done = run_cli("export", *arguments)
        assert done.code == 2
        assert "usage: dcond export" in done.err
    assert "dcond export RUN --to npz --decoded" in run_cli("export", "--help").out


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("cat", "dog"), ["cat", "dog"]),
        (("a/b", "a_b", "A_B"), ["a_b", "a_b_1", "A_B_2"]),
        (("../x", "/etc/passwd", "..\\y"), ["_x", "_etc_passwd", "_y"]),
        (("", ".", ".."), ["class", "class_1", "class_2"]),
        (("nul", "lpt1.txt", "console"), ["_nul", "_lpt1.txt", "console"]),
        (("お", "a\nb", "a:b*?"), ["お", "a_b", "a_b__"]),
        (("x" * 300, "x" * 299), ["x" * 50, "x" * 50 + "_1"]),
        (("a/b", "a_b_1", "a_b"), ["a_b", "a_b_1", "a_b_2"]),
    ],
)
def test_class_folders_suit_every_file_system_and_differ(names, folders):
    assert export_formats.class_folders(names) == folders

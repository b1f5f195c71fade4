"""``dcond export`` of files in public layouts: every layout that ``dcond evaluate`` reads."""

import logging

import numpy as np
import pytest
import torch

from dcond.artefact import load
from dcond.cli.export import main
from dcond.errors import ConfigError, UnsupportedError

PIXELS = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(10)
STATISTICS = ["synthetic.mean=[0.5]", "synthetic.std=[0.25]"]


def normalised(pixels):
    return (pixels - 0.5) / 0.25


LAYOUTS = {
    "dc.pt": ({"data": [[normalised(PIXELS), LABELS]]}, STATISTICS),
    "data.pt": ([PIXELS, LABELS], ["synthetic.factor=1"]),
    "dict.pt": ({"images": PIXELS, "labels": LABELS}, ["synthetic.normalised=false"]),
    "synthetic_images.pth": (
        {"synthetic_images": normalised(PIXELS)[:, None], "init": "real"},
        STATISTICS,
    ),
}


def export(path, tmp_path, *settings):
    out = tmp_path / "out.npz"
    assert main([str(path), "--to", "npz", "--out", str(out), *settings]) == 0
    with np.load(out) as loaded:
        return torch.from_numpy(loaded["images"]).permute(0, 3, 1, 2), loaded["labels"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_torch_files(name, tmp_path):
    content, settings = LAYOUTS[name]
    torch.save(content, tmp_path / name)
    images, labels = export(tmp_path / name, tmp_path, "dataset=digits", *settings)
    assert torch.allclose(images, PIXELS, atol=1e-6)
    assert labels.tolist() == list(range(10))


def test_a_run_starts_from_a_converted_file(tmp_path, run_cli):
    torch.save([PIXELS, LABELS], tmp_path / "data.pt")
    file = tmp_path / "set.safetensors"
    settings = ["--out", str(file), "dataset=digits", "synthetic.factor=1"]
    assert main([str(tmp_path / "data.pt"), "--to", "dcond", *settings]) == 0
    arguments = ("method=dm", "evaluate=false", "debug=tiny", "max_steps=0", "hydra.run.dir=run")
    done = run_cli("condense", "init=file", f"init.path={file}", *arguments)
    assert done.code == 0, done.err
    assert torch.allclose(load("run").images, PIXELS, atol=1e-6)


def test_mtts_files_and_npz(tmp_path):
    torch.save(PIXELS, tmp_path / "images_best.pt")
    torch.save(LABELS, tmp_path / "labels_best.pt")
    images, _ = export(tmp_path, tmp_path, "dataset=digits", "synthetic.normalised=false")
    assert torch.equal(images, PIXELS)
    (tmp_path / "out.npz").rename(tmp_path / "first.npz")
    images, _ = export(tmp_path / "first.npz", tmp_path, "dataset=digits")
    assert torch.equal(images, PIXELS)


def test_a_folder_of_images(tmp_path):
    torch.save([PIXELS, LABELS], tmp_path / "data.pt")
    settings = ["dataset=digits", "synthetic.factor=1"]
    folder = tmp_path / "folder"
    main([str(tmp_path / "data.pt"), "--to", "png", "--out", str(folder), *settings])
    images, _ = export(folder, tmp_path, "dataset=digits")
    assert torch.allclose(images, PIXELS, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            [],
            r"which is not an artefact of dcond, needs the data set that it was made from; add "
            "dataset=NAME",
        ),
        (["dataset=digts"], "'digts' is unknown; .*Did you mean 'digits'"),
        (["dataset=digits", "synthetic.factr=1"], r"synthetic\.factr"),
        (["dataset=digits", "synthetic.mean=[0.5"], "is not a valid override; write KEY=VALUE"),
        (["dataset=digits", "+new=1"], r"\+new=1 is not a setting of a data set"),
    ],
)
def test_wrong_settings_are_one_line(settings, message, tmp_path):
    torch.save([PIXELS, LABELS], tmp_path / "data.pt")
    with pytest.raises(ConfigError, match=message) as error:
        main([str(tmp_path / "data.pt"), "--to", "npz", *settings])
    assert "\n" not in str(error.value)


def test_unequal_classes_are_evaluated_and_not_an_artefact(tmp_path, evaluate, folder):
    labels = np.append(np.arange(10), [3, 3])
    images = np.append(PIXELS.numpy(), PIXELS.numpy()[[3, 3]], 0)
    np.savez(folder / "set.npz", images=images, labels=labels)
    done, result = evaluate("set.npz")
    assert done.code == 0, done.err
    assert "1 to 3 images per class" in done.err
    assert result["images_stored"] == 12
    assert result["baselines"]["random"] is not None
    with pytest.raises(UnsupportedError, match=r"this set 1 to 3; export to npz\."):
        main(["set.npz", "--to", "dcond", "dataset=digits"])
    from dcond.cli.relabel import main as relabel

    with pytest.raises(UnsupportedError, match=r"this set 1 to 3; export to npz\."):
        relabel(["set.npz", "dataset=digits", "teacher=convnet", "--out", "soft"])
    assert not (folder / "soft").exists()
    assert not (folder / "outputs" / "cache").exists()


def test_it_says_which_of_several_sets_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    content = [[normalised(PIXELS), LABELS]] * 2
    torch.save({"data": content}, tmp_path / "res_DC.pt")
    export(tmp_path / "res_DC.pt", tmp_path, "dataset=digits", *STATISTICS)
    assert "holds 2 sets; reading the first" in capsys.readouterr().err

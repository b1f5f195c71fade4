"""``dcond data``: every data set's YAML can be made, and the two verbs say what they should."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dcond
from dcond.cli.data import main
from dcond.cli.instantiate import make_dataset
from dcond.data import Dataset
from dcond.errors import ConfigError, DataError
from dcond.paths import conf_dir

NAMES = sorted(file.stem for file in (conf_dir() / "dataset").glob("*.yaml"))
NEEDS_PATH = {"npz", "image_folder"}


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DCOND_DATA", str(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_makes_a_data_set_of_its_name(name, tmp_path):
    dataset = make_dataset(name, ["dataset.path=x"] if name in NEEDS_PATH else [])
    assert isinstance(dataset, Dataset)
    assert dataset.name == name
    assert dataset.stats == "pixel"
    assert getattr(dataset, "data_dir", str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_opens_with_one_line_and_says_whether_mirroring_is_safe(name):
    text = (conf_dir() / "dataset" / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert "\nflip: " in text


def test_every_torchvision_source_exists():
    from torchvision import datasets

    sources = [
        getattr(make_dataset(name, []), "source", None) for name in NAMES if name not in NEEDS_PATH
    ]
    assert len([source for source in sources if source]) == 7
    assert all(hasattr(datasets, source) for source in sources if source)


def test_info_of_digits(capsys):
    assert main(["info", "digits"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "1,257 train, 540 test",
        "8 x 8 pixels",
        "1 channel (grey)",
        "min 122, median 126.5, max 128",
    ):
        assert text in shown
    assert "124    54" in shown  # classes one by one


def test_info_takes_settings_and_checks_a_users_file(tmp_path, capsys):
    images = np.zeros((4, 6, 6, 3), np.uint8)
    labels = np.array([0, 1, 0, 1])
    file = tmp_path / "mine.npz"
    np.savez(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    assert main(["info", "npz", f"dataset.path={file}"]) == 0
    assert "4 train, 4 test" in capsys.readouterr().out
    np.savez(
        file, train_images=images, train_labels=labels - 1, test_images=images, test_labels=labels
    )
    with pytest.raises(DataError, match=r"mine\.npz: train_labels\[0\] is -1"):
        main(["info", "npz", f"dataset.path={file}"])


def test_info_shows_names_as_they_are(tmp_path, capsys):
    """Nothing in them is taken for markup."""
    images, labels, names = (
        np.zeros((3, 6, 6, 3), np.uint8),
        np.arange(3),
        ["[/INST]", "house [red]", ":bee:"],
    )
    content = {
        "train_images": images,
        "train_labels": labels,
        "test_images": images,
        "test_labels": labels,
    }
    np.savez(tmp_path / "mine.npz", **content, class_names=np.array(names))
    assert main(["info", "npz", f"dataset.path={tmp_path / 'mine.npz'}"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_prepare_reads_what_needs_no_preparation(tmp_path):
    with pytest.raises(DataError, match=r"missing\.npz"):
        main(["prepare", "npz", f"dataset.path={tmp_path / 'missing.npz'}"])


def test_prepare_prints_what_it_did(tmp_path, capsys):
    assert main(["prepare", "digits"]) == 0
    assert capsys.readouterr().out == "digits: nothing to prepare, it is read as it is\n"
    images, labels = np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1])
    np.savez(
        tmp_path / "cifar10.npz",
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
    )
    assert main(["prepare", "cifar10"]) == 0  # there already: checked and kept
    assert capsys.readouterr().out == f"cifar10: prepared {tmp_path / 'cifar10.npz'} (0.0 MB)\n"


@pytest.mark.parametrize("name", ["image_folder", "cifar100"])
def test_prepare_writes_over_no_other_data_set(name, tmp_path):
    (tmp_path / "imagewoof.npz").write_bytes(b"precious")
    path = [f"dataset.path={tmp_path}"] if name in NEEDS_PATH else []
    with pytest.raises(ConfigError) as error:
        main(["prepare", name, *path, "dataset.name=imagewoof"])
    assert str(error.value) == (
        "dataset.name=imagewoof is the name of another data set of dcond, which reads imagewoof.npz; choose another name."
    )
    assert (tmp_path / "imagewoof.npz").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["info", "cifar"],
            "data set='cifar' is unknown; allowed: cifar10,.*Did you mean 'cifar10'",
        ),
        (
            ["info", "npz"],
            r"^dataset=npz needs dataset\.path; add dataset\.path=\.\.\. to the command\.$",
        ),
        (
            ["info", "digits", "dataset.tset_count=3"],
            r"^dataset\.tset_count is not a setting of dataset=digits\. Did you mean dataset\.test_count\?$",
        ),
        (
            ["info", "digits", "dataset.test_count=3"],
            r"test_count=3 is out of range; allowed: whole numbers from 10, up to 1700",
        ),
        (
            ["info", "digits", "dataset.test_count=["],
            r"^'dataset\.test_count=\[' is not a valid override; write KEY=VALUE",
        ),
        (
            ["info", "cifar10", "+dataset.colour=3"],
            r"^dataset\.colour is unknown; dcond\.data\.TorchvisionSet takes ",
        ),
        (["info", "npz", "dataset.path=null"], r"^dataset\.path=null must be text\.$"),
        (
            ["info", "npz", "dataset=3"],
            "^Config group override must be a string",
        ),
        (
            ["info", "npz", "dataset={a: 1}"],
            r"^dataset\.a is not a setting of dataset=npz\.$",
        ),
        (["info", "npz", "~dataset"], "Key 'dataset' is not in struct"),
        (["info", "digits", "+="], "^'\\+=' is not an override; write KEY=VALUE without spaces"),
        (
            ["info", "digits", "+newkey=1"],
            r"^\+newkey=1 is not a setting of a data set; allowed: dataset\.KEY=VALUE, ",
        ),
        (["info", "digits", "pool=tiny"], "^pool=tiny is not a setting of a data set; "),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        main(arguments)
    assert "\n" not in str(caught.value)


def test_own_yaml_from_a_search_path(tmp_path):
    folder = tmp_path / "conf" / "dataset"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# mine\n_target_: dcond.data.Digits\nname: mine\n")
    assert make_dataset("mine", [f"hydra.searchpath=[file://{tmp_path / 'conf'}]"]).name == "mine"


@pytest.mark.parametrize("arguments", [[], ["info"], ["show", "digits"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: dcond data" in capsys.readouterr().err


def test_help_has_examples_and_imports_neither_torch_nor_hydra():
    code = (
        "import sys\nfrom dcond.cli.data import main\n"
        "try:\n    main(['info', '--help'])\nexcept SystemExit as end:\n"
        "    sys.exit(end.code or [m for m in ('torch', 'hydra', 'numpy') if m in sys.modules] or 0)\n"
    )
    source = str(Path(dcond.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": source},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "dcond data info npz dataset.path=birds.npz" in done.stdout


def test_optional_arguments_are_not_called_required(capsys):
    with pytest.raises(SystemExit):
        main(["info"])
    assert capsys.readouterr().err.endswith("the following arguments are required: NAME\n")


@pytest.mark.parametrize("path", ["5", "[a]", "a=b, c"])
def test_any_text_is_a_path(path):
    with pytest.raises(DataError) as caught:
        main(["info", "npz", f"dataset.path={path}"])
    assert str(caught.value) == f"{path} does not exist; give the path of an npz file."


def test_prepare_takes_all_classes():
    with pytest.raises(ConfigError, match="writes all classes; omit it"):
        main(["prepare", "digits", "dataset.classes=[1,2]"])


def test_a_path_that_the_system_refuses_is_one_line(capsys):
    from dcond.cli.main import main as dcond_command

    name = "a" * 300
    assert dcond_command(["data", "info", "image_folder", f"dataset.path={name}"]) == 1
    assert capsys.readouterr().err == (
        f"dcond: {name} cannot be used: File name too long; choose another path.\n"
    )


def test_too_little_memory_is_one_line(capsys, monkeypatch):
    from dcond.cli.main import main as dcond_command

    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 4 TB")

    monkeypatch.setattr("dcond.data.Digits.load", full)
    assert dcond_command(["data", "info", "digits"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dcond: out of memory (DefaultCPUAllocator")
    assert line.endswith(". Start again with smaller networks.")

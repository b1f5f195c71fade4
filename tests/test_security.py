"""Guarantees of `SECURITY.md` without a test elsewhere; the page names existing tests."""

import ast
import gzip
import io
import os
import pickle
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import dcond
from dcond.data import Archive, Npz, TorchvisionSet
from dcond.errors import ConfigError, DataError
from dcond.models import Timm
from dcond.paths import conf_dir
from dcond.types import ImageSpec

ROOT = Path(__file__).parents[1]
SOURCE = Path(dcond.__file__).parent
FILES = [
    *sorted(SOURCE.rglob("*.py")),
    *sorted((ROOT / "scripts").glob("*.py")),
    *sorted((ROOT / "benchmarks").glob("*.py")),
]
UNSAFE_CALLS = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "pickle.load",
        "pickle.loads",
    ),
    *(
        "yaml.load",
        "yaml.unsafe_load",
        "marshal.loads",
        "shelve.open",
        "joblib.load",
        "tempfile.mktemp",
    ),
    *("shutil.unpack_archive", "urllib.request.urlopen", "urllib.request.urlretrieve"),
}
UNSAFE_METHODS = {"extractall", "extract"}
UNSAFE_MODULES = {
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "paramiko",
    "dill",
    "cloudpickle",
    "xmlrpc",
}
NEEDED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


class Sesame:
    """Create the folder "opened" in the current folder when unpickled."""

    def __reduce__(self):
        return os.mkdir, ("opened",)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Run in an empty folder and fail if the folder "opened" exists at the end."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "opened").exists()


# --- the source


def forbidden(tree: ast.AST) -> list[str]:
    """Return the calls and imports of a module that this project forbids."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
            found += [name for name in names if name.partition(".")[0] in UNSAFE_MODULES]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if (
            name in UNSAFE_CALLS
            or name.rpartition(".")[2] in UNSAFE_METHODS
            or arguments.get("shell", "False") != "False"
        ):
            found.append(ast.unparse(node))
        if name in NEEDED and arguments.get(NEEDED[name][0]) != str(NEEDED[name][1]):
            found.append(ast.unparse(node))
        if (
            name.startswith("subprocess.")
            and node.args
            and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
        ):
            found.append(ast.unparse(node))  # a command string needs a shell
    return found


def test_no_shell_no_pickle_no_unpacking_no_download():
    found = {path.name: forbidden(ast.parse(path.read_text(encoding="utf-8"))) for path in FILES}
    assert len(found) > 50
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        "os.system('ls')",
        "subprocess.run('ls', check=True)",
        "subprocess.run(f'ls {x}')",
        "subprocess.run(['ls'], shell=True)",
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "tar.extractall(folder)",
        "eval(text)",
        "import requests",
    ],
)
def test_forbidden_code_is_detected(code):
    assert forbidden(ast.parse(code))


# --- files from outside


def test_an_object_array_in_a_users_npz_is_rejected_and_not_run(empty_folder):
    fields = {
        name: np.zeros(3, np.uint8) for name in ("train_labels", "test_images", "test_labels")
    }
    np.savez(empty_folder / "x.npz", train_images=np.array([Sesame()] * 3), **fields)
    with pytest.raises(DataError, match=r"x\.npz"):
        Npz(path=str(empty_folder / "x.npz")).load()


@pytest.mark.parametrize("requested", [{}, {"weights_only": False}], ids=["default", "unsafe"])
def test_pretrained_weights_are_read_as_tensors_whatever_timm_requests(
    requested, empty_folder, monkeypatch
):
    """The supported versions of timm pass different arguments to torch.load."""
    from timm.models import _helpers

    real = torch.load
    monkeypatch.setattr(
        _helpers, "_torch_load", lambda path, **arguments: real(path, **{**arguments, **requested})
    )
    torch.save({"head.weight": Sesame()}, empty_folder / "weights.pth")
    recipe = Timm(
        name="T",
        architecture="test_vit",
        pretrained=True,
        checkpoint=str(empty_folder / "weights.pth"),
    )
    with pytest.raises(ConfigError, match="the pretrained weights of 'test_vit' cannot be read"):
        recipe.build(ImageSpec(3, 32, 32, 10, (0.5,) * 3, (0.5,) * 3), torch.Generator())
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/secret.png", "sub/x.JPEG", "..", ""])
def test_an_annotation_file_may_only_name_files_in_its_own_folder(name, empty_folder):
    from PIL import Image

    for file in ("train/n01/0.png", "val/images/0.png", "val/images/sub/x.JPEG", "secret.png"):
        (empty_folder / "tiny" / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(empty_folder / "tiny" / file)
    (empty_folder / "tiny" / "val" / "val_annotations.txt").write_text(f"0.png\tn01\n{name}\tn01\n")
    dataset = Archive(name="tiny", url="x", data_dir=".", path=str(empty_folder / "tiny"), size=8)
    with pytest.raises(
        DataError, match=rf"line 2 names {name!r}, which is not a file in .*images; "
    ):
        dataset.load()


# --- downloads


def escaping_archive() -> bytes:
    """Return a tar.gz whose file would be written outside the target folder."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo("../../../opened")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"harm"))
    return file.getvalue()


@pytest.mark.parametrize(
    "dataset",
    ["cifar10", "cifar100", "fashion_mnist", "kmnist", "mnist", "stl10", "svhn", "imagenette"],
)
def test_a_download_with_a_wrong_checksum_is_rejected_unopened(dataset, empty_folder, monkeypatch):
    utils = pytest.importorskip("torchvision.datasets.utils")
    content, fetched = escaping_archive(), []

    def deliver(url, filename, *_):
        fetched.append(url)
        Path(filename).write_bytes(content)

    def opened(*_, **__):
        pytest.fail("an archive was opened")

    monkeypatch.setattr(utils, "_urlretrieve", deliver)
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, max_hops: url)
    for opener in (tarfile, zipfile, gzip):
        monkeypatch.setattr(
            opener, {tarfile: "open", zipfile: "ZipFile", gzip: "open"}[opener], opened
        )
    inside = empty_folder / "a" / "b" / "c" / "d"  # so that ../../.. is still below the folder
    inside.mkdir(parents=True)
    with pytest.raises(DataError, match=f"{dataset} could not be fetched"):
        packaged(dataset, inside).load()
    assert fetched
    left = {path.name for path in empty_folder.rglob("*") if path.is_file()}
    assert left <= {url.rpartition("/")[2] for url in fetched}  # only the downloaded files


def test_a_planted_cifar_batch_is_not_unpickled(empty_folder, monkeypatch):
    """torchvision unpickles CIFAR's files, but checks their checksums first."""
    utils = pytest.importorskip("torchvision.datasets.utils")

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(utils, "_urlretrieve", offline)
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, max_hops: url)
    folder = empty_folder / "raw" / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (folder / name).write_bytes(pickle.dumps(Sesame()))
    with pytest.raises(DataError, match="cifar10 could not be fetched"):
        packaged("cifar10", empty_folder).load()


def packaged(name: str, data_dir: Path) -> TorchvisionSet | Archive:
    """Build a packaged data set that reads and writes in ``data_dir``."""
    from hydra.utils import instantiate

    cfg = OmegaConf.load(conf_dir() / "dataset" / f"{name}.yaml")
    cfg.data_dir = str(data_dir)
    return instantiate(cfg, _convert_="all")


def test_downloads_are_limited_to_the_data_sets_tested_above():
    """A new source needs a review: torchvision has sets without checksums and unpickles some."""
    nodes = [OmegaConf.load(file) for file in sorted((conf_dir() / "dataset").glob("*.yaml"))]
    sources = {node.source for node in nodes if "source" in node}
    assert sources == {"CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "STL10", "SVHN"}
    assert {node.name for node in nodes if node.get("download")} == {"imagenette"}


# --- the page


def test_every_guarantee_names_an_existing_test():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    section = text.partition("## What is guaranteed")[2].partition("\n## ")[0]
    guarantees = re.split(r"^- ", section, flags=re.MULTILINE)[1:]
    assert len(guarantees) >= 5
    for guarantee in guarantees:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", guarantee)
        assert named, f"no test named for: {guarantee}"
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"

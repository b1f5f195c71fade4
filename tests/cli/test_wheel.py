"""The wheel: built from this checkout, installed elsewhere, run from another folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dcond
from dcond.paths import conf_dir

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="needs the checkout"
)


def run(*arguments: object, **settings: object) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, **settings
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    done = run("-m", "hatchling", "build", "-t", "wheel", "-d", target, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (file,) = target.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder the wheel is installed in."""
    target = tmp_path_factory.mktemp("installed")
    arguments = (
        "install",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--disable-pip-version-check",
        "--target",
        target,
    )
    done = run("-m", "pip", *arguments, wheel)
    assert done.returncode == 0, done.stderr
    return target


def test_the_wheel_holds_conf_once_and_nothing_beside_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    shipped = {name.removeprefix("dcond/conf/") for name in names if name.endswith(".yaml")}
    assert shipped == {
        file.relative_to(conf_dir()).as_posix() for file in conf_dir().rglob("*.yaml")
    }
    assert all(name.startswith("dcond/conf/") for name in names if name.endswith(".yaml"))
    assert {name.split("/")[0] for name in names} == {
        "dcond",
        f"dcond-{dcond.__version__}.dist-info",
    }
    assert "dcond/py.typed" in names
    modules = {file.relative_to(ROOT / "src").as_posix() for file in (ROOT / "src").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}


def test_the_command_is_installed_and_lists_from_its_own_conf(installed, folder):
    assert (installed / "bin" / "dcond").is_file()
    env = {**os.environ, "PYTHONPATH": str(installed)}
    where = run(
        "-c",
        "import dcond, dcond.paths; print(dcond.__file__, dcond.paths.conf_dir())",
        env=env,
        cwd=folder,
    )
    assert where.stdout.split() == [
        str(installed / "dcond/__init__.py"),
        str(installed / "dcond/conf"),
    ]
    done = run("-m", "dcond", "list", "methods", env=env, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("m3d ") for line in done.stdout.splitlines())


@pytest.mark.slow
def test_the_installed_command_condenses_from_another_folder(installed, folder):
    env = {**os.environ, "PYTHONPATH": str(installed)}
    arguments = ("debug=tiny", "method=dm", "pool=convnet", "hydra.run.dir=run")
    done = run("-m", "dcond", "condense", *arguments, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "synthetic.safetensors").is_file()
    assert "average test accuracy" in done.stdout

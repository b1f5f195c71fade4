"""``dcond list``: name, description and paper of every file, without importing the parts."""

import subprocess
import sys
from pathlib import Path

import pytest

import dcond
from dcond.cli import list as app
from dcond.paths import conf_dir


@pytest.mark.parametrize("kind", app.KINDS)
def test_every_file_of_a_kind_has_a_line(kind, run_cli):
    folder = conf_dir() / app.KINDS[kind]
    names = {file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml")}
    done = run_cli("list", kind)
    assert done.code == 0
    assert {line.split()[0] for line in done.out.splitlines()} == names


def test_lines_off_a_terminal_are_whole_and_in_columns(run_cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = run_cli("list", "methods").out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(line.split()[0] for line in lines)
    dm = next(line for line in lines if line.startswith("dm "))
    assert dm.endswith("DM, arXiv 2110.04181")
    assert "DM: match the class means of random features." in dm
    m3d = next(line for line in lines if line.startswith("m3d "))
    assert dm.index("DM, arXiv") == m3d.index("M3D, arXiv")


def test_on_a_terminal_it_is_a_table(monkeypatch, run_cli):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    out = run_cli("list", "methods").out
    assert "methods" in out.splitlines()[1]
    assert "description" in out
    assert "arXiv 2110.04181" in out


def test_sub_folders_and_odd_first_lines(tmp_path):
    (tmp_path / "m3d").mkdir()
    (tmp_path / "m3d" / "row.yaml").write_text(
        "# @package _global_\n# A row. Paper: M3D, arXiv 2312.15927\nipc: 1\n"
    )
    (tmp_path / "bare.yaml").write_text("ipc: 1\n")
    (tmp_path / "no_paper.yaml").write_text("# Mine.\n")
    (tmp_path / "empty.yaml").write_text("")
    assert app.entries(tmp_path) == [
        ("bare", "", ""),
        ("empty", "", ""),
        ("m3d/row", "A row.", "M3D, arXiv 2312.15927"),
        ("no_paper", "Mine.", ""),
    ]


def test_unknown_kind_names_the_kinds_and_the_nearest(run_cli):
    line = run_cli("list", "method").line
    assert line.startswith(
        "kind='method' is unknown; allowed: methods, datasets, models, pools, experiments,"
    )
    assert line.endswith("Did you mean 'methods'?")


def test_misuse_exits_with_2_and_help_has_examples(run_cli):
    done = run_cli("list")
    assert done.code == 2
    assert "usage: dcond list" in done.err
    done = run_cli("list", "--help")
    assert done.code == 0
    assert "dcond list datasets | grep grey" in done.out


def test_it_imports_neither_torch_nor_hydra():
    code = (
        "import sys; from dcond.cli.list import main; code = main(['methods']); "
        "heavy = {'torch', 'hydra', 'omegaconf', 'rich'} & set(sys.modules); "
        "sys.exit(code or ' '.join(heavy) or 0)"
    )
    source = str(Path(dcond.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": source}
    )
    assert done.returncode == 0, done.stderr

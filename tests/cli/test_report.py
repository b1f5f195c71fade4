"""The command ``dcond report``."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dcond


@pytest.fixture
def study(write_result):
    """Write two methods at two ipc, two seeds each, in ``tmp_path``: the current folder."""
    for method, mean in (("dm", 0.5), ("m3d", 0.7)):
        for ipc in (1, 10):
            for seed in (0, 1):
                means = {"A": mean + seed / 100, "B": mean}
                write_result(
                    f"sweep/{method}_{ipc}_{seed}", means, method=method, ipc=ipc, seed=seed
                )


def test_a_table_of_real_runs(condense, run_cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for seed in (0, 1):
        assert condense(f"seed={seed}", "hydra.run.dir=runs/${seed}").code == 0
    done = run_cli("report", "runs", "--out", "out")
    assert (done.code, done.err) == (0, "")
    rows = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "digits, protocol quick with epochs=2, ipc 1" in rows
    assert "method ConvNet average std n" in rows
    (dm,) = [row for row in rows if row.startswith("dm ") and "±" in row]
    assert dm.endswith(" 2")
    assert any(row.startswith("random real images ") for row in rows)
    assert rows[-1] == "-> out/index.html"
    assert max(map(len, done.out.splitlines())) <= 80
    page = Path("out/index.html").read_text()
    assert page.count("<img ") == 1  # the first seed's picture
    assert "Loss while condensing" in page


def test_out_has_all_files_and_can_be_overwritten(study, run_cli, folder):
    for _ in range(2):
        assert run_cli("report", "sweep", "--out", "out").code == 0
    names = sorted(
        path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*.*")
    )
    kinds = ("accuracy_over_ipc", "networks")
    figures = [
        f"figures/{kind}_digits_quick.{suffix}" for kind in kinds for suffix in ("png", "svg")
    ]
    assert names == [*figures, "index.html", "report.csv", "report.md", "report.tex"]


def test_out_is_written_though_the_tables_cannot_be_printed(study, run_cli, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run_cli("report", "sweep", "--out", "out").code == 1
    assert Path("out/index.html").is_file()


@pytest.mark.parametrize("kind", ["csv", "md", "tex"])
def test_stdout_is_data_and_nothing_else(kind, study, run_cli):
    done = run_cli("report", "sweep", "--format", kind, "--out", "out")
    assert done.code == 0
    assert done.out == Path(f"out/report.{kind}").read_text()
    assert done.err == "-> out/index.html\n"
    if kind == "csv":
        assert len(list(csv.DictReader(io.StringIO(done.out)))) == 2 * 2 * 3


def test_group_by(write_result, run_cli):
    for seed, steps in enumerate((10, 20, 30)):
        write_result(
            f"{seed}",
            {"A": 0.5},
            seed=0,
            settings={"method.steps": steps, "method.lr": float(seed > 1)},
        )
    rows = csv.DictReader(
        io.StringIO(run_cli("report", ".", "--format", "csv", "--group-by", "method.lr").out)
    )
    assert [(row["settings"], row["n"]) for row in rows if row["network"] == "A"] == [
        ("method.lr=0.0", "2"),
        ("method.lr=1.0", "1"),
    ]
    assert (
        "differ in settings not in --group-by: method.steps"
        in run_cli("report", ".", "--group-by", "method.lr").out
    )
    line = run_cli("report", ".", "--group-by", "method.step").line
    assert line.startswith("--group-by='method.step' is unknown; allowed: device, factor,")
    assert line.endswith("Did you mean 'method.steps'?")


def test_a_running_sweep(study, run_cli, folder):
    for name in ("a/.hydra", "b"):
        (folder / "sweep" / name).mkdir(parents=True)
    (folder / "sweep" / "b" / "result.json").write_text('{"status": "done", "meth')
    (folder / "sweep" / "foreign").mkdir()
    (folder / "sweep" / "foreign" / "result.json").write_text('{"accuracy": 99.9}')
    done = run_cli("report", "sweep")
    assert done.code == 0
    assert "no result (running, killed, or refused before it began): sweep/a\n" in done.out
    assert "skipped: sweep/b/result.json: not valid JSON, or incomplete\n" in done.out
    assert "skipped: sweep/foreign/result.json: not a result of dcond\n" in done.out


def test_failed_runs_alone_give_a_report(condense, run_cli):
    assert condense("ipc=0", "hydra.run.dir=run").code == 1
    done = run_cli("report", "run", "--out", "out")
    assert (done.code, done.err) == (0, "")
    assert "failed: run: ipc=0 is out of range; allowed: whole numbers from 1.\n" in done.out
    assert "1 run: 1 failed." in Path("out/index.html").read_text()


def test_errors_are_one_line(run_cli, study, folder):
    assert run_cli("report", "nowhere").line == (
        "nowhere does not exist; pass run folders, sweeps, or folders above them."
    )
    (folder / "taken").write_text("a file")
    line = run_cli("report", "sweep", "--out", "taken").line
    assert (
        line
        == "cannot write taken/figures: Not a directory. Free some space or choose another --out."
    )
    assert run_cli("report").code == 2


def test_out_may_be_in_the_home_folder(study, run_cli, monkeypatch, folder):
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert run_cli("report", "sweep", "--out=~/new").code == 0
    assert (folder / "home" / "new" / "index.html").is_file()


def test_without_matplotlib_the_rest_is_written(study, run_cli, monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run_cli("report", "sweep", "--out", "out")
    assert done.code == 0
    assert done.err == (
        "dcond: no figures: they need matplotlib, which is not installed; "
        "pip install '.[report]' in the checkout.\n"
    )
    assert list((folder / "out" / "figures").iterdir()) == []
    assert "<table>" in Path("out/index.html").read_text()


def test_help_has_examples_and_imports_neither_torch_nor_matplotlib():
    code = (
        "import sys; from dcond.cli.main import main\n"
        "try:\n    main(['report', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(' '.join({'torch', 'matplotlib', 'hydra', 'scipy'} & set(sys.modules)) or 0)"
    )
    source = str(Path(dcond.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "dcond report outputs --format csv > runs.csv" in done.stdout


def test_tables_and_data_need_no_torch(study, tmp_path):
    code = (
        "import sys; from dcond.cli.main import main\n"
        "assert main(['report', 'sweep', '--format', 'csv']) == 0\n"
        "heavy = {'torch', 'matplotlib', 'hydra', 'scipy.stats'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(dcond.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr

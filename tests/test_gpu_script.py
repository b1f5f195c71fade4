"""``benchmarks/gpu.py`` on the CPU at toy size: it writes at once and goes on where it stopped."""

import csv
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    def run(*arguments):
        gpu.main([*arguments, "--toy", "--device", "cpu", "--out", str(tmp_path)])

    yield run
    for name in ("gpu", "made_up"):
        sys.modules.pop(name, None)


def rows(folder, piece):
    return list(csv.DictReader((folder / f"gpu_{piece}.csv").read_text().splitlines()))


def test_what_is_missing_is_measured_and_what_is_there_is_kept(gpu, tmp_path, capsys):
    gpu("stacks", "--seconds", "-1")
    assert capsys.readouterr().out == "stacks: 2 rows left\n"
    gpu("stacks")
    first = rows(tmp_path, "stacks")
    assert [row["way"] for row in first] == ["in turn", "at once"]
    gpu("stacks")
    assert rows(tmp_path, "stacks") == first


@pytest.mark.slow
def test_every_piece_runs_on_a_cpu(gpu, tmp_path, capsys):
    gpu("all")
    assert capsys.readouterr().out.count("complete") == 6
    for row in rows(tmp_path, "gradients"):
        assert float(row["largest_difference"]) < 1e-5
    assert float(rows(tmp_path, "published")[0]["accuracy"]) > 0

"""Terminal, CSV, Markdown and LaTeX: their content and their escaping."""

import csv
import io
import re
import shutil
import subprocess

import pytest
from rich.console import Console

from dcond.report import text
from dcond.report.collect import collect
from dcond.report.grouping import build_report
from dcond.report.sheets import Cell, Sheet, accuracy_sheet, report_contents
from dcond.report.terminal import show, split_columns

EVIL = r"<script>alert(1)</script>|`a`*b*_c_[d](e)\f&g$h#i%{j}~^"


@pytest.fixture
def study(write_result, tmp_path):
    """Write two methods, two ipc and three seeds, one of which failed; return the report."""
    for ipc in (1, 10):
        for seed in (0, 1, 2):
            cost = {"start_wall_s": 9.0, "condense_wall_s": 81.0}  # 1:30 min in all
            cost |= {"step_s_median": 0.125, "peak_memory_bytes": 2e9, "evaluate_wall_s": 4.0}
            scores = {"ior": 0.5, "hlr": 0.25, "lrs": 0.125, "ars": None}
            up = seed / 100
            write_result(
                f"dm{ipc}{seed}",
                {"A": 0.5 + up, "B": 0.4},
                ipc=ipc,
                seed=seed,
                cost=cost,
                scores=scores,
            )
            write_result(
                f"m3d{ipc}{seed}", {"A": 0.7 + up, "B": 0.4}, ipc=ipc, seed=seed, method="m3d"
            )
    write_result("broken", seed=3, status="failed", error="loss is not finite")
    return build_report(collect([tmp_path]))


def terminal(report, width=80):
    file = io.StringIO()
    show(Console(width=width, file=file), *report_contents(report))
    return file.getvalue()


def test_the_terminal_shows_tables_costs_scores_and_what_is_missing(study):
    out = terminal(study)
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "digits, protocol quick, ipc 1" in rows
    assert "method A B average std n" in rows
    assert "dm 51.0 ± 2.5 40.0 ± 0.0 45.5 ± 1.2 0.5 3/4" in rows
    assert "1 failed" in rows
    assert "seed 3 missing" in rows  # of m3d
    assert (
        "method ipc condensing s/step peak MB evaluation IOR HLR LRS" in rows
    )  # no ARS: no run has it
    assert any(
        row.startswith("failed: ") and row.endswith("/broken: loss is not finite") for row in rows
    )
    assert all(
        len(line) <= 80 for line in out.splitlines() if "/broken" not in line
    )  # which is for grep


def test_a_wide_terminal_has_costs_and_scores_side_by_side(study):
    rows = [" ".join(line.split()) for line in terminal(study, 120).splitlines()]
    assert "method ipc condensing s/step peak MB evaluation IOR HLR LRS" in rows
    assert "dm 10 1:30 min 0.125 2,000 4.0 s 0.500 0.250 0.125" in rows
    assert "m3d 10 – – – – – – –" in rows


def test_bold_on_a_terminal_is_the_best_alone(study):
    file = io.StringIO()
    console = Console(
        width=80, file=file, force_terminal=True, color_system="standard", legacy_windows=False
    )
    show(console, [accuracy_sheet(study.blocks[0])], [], [])
    assert "\x1b[1m71.0 ± 2.5\x1b[0m" in file.getvalue()
    assert "\x1b[1m51.0" not in file.getvalue()
    assert "\x1b[1m40.0" not in file.getvalue()


def test_a_column_wider_than_the_terminal_is_a_separate_part():
    sheet = Sheet(
        "title", "caption", ("method", "a" * 60, "b" * 60), ((Cell("dm"), Cell("1"), Cell("2")),)
    )
    assert [part.columns for part in split_columns(sheet, 40)] == [
        ("method", "a" * 60),
        ("method", "b" * 60),
    ]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_wide_sheet_becomes_several_that_fit_and_lose_nothing(width):
    columns = ("method", *(f"Network-{index}" for index in range(9)), "n")
    rows = (
        (
            "a_very_long_name_of_a_method_that_wraps",
            *(f"{index}0.0 ± 1.0" for index in range(9)),
            "3",
        ),
    )
    sheet = Sheet("title", "caption", columns, tuple(tuple(map(Cell, row)) for row in rows))
    parts = list(split_columns(sheet, width))
    assert len(parts) == {40: 10, 80: 3, 200: 1}[width]
    assert tuple(name for part in parts for name in part.columns[1:]) == columns[1:]
    file = io.StringIO()
    show(Console(width=width, file=file), [sheet], [], [])
    assert max(map(len, file.getvalue().splitlines())) <= width
    for figure in rows[0][1:]:
        assert figure in file.getvalue()


def test_average_std_and_n_stay_together():
    columns = ("method", *(f"Network-{index}" for index in range(5)), "average", "std", "n")
    row = tuple(map(Cell, ("dm", *["50.0 ± 1.0"] * 6, "1.2", "3")))
    for width in range(40, 110):
        parts = list(split_columns(Sheet("title", "caption", columns, (row,), tail=3), width))
        assert parts[-1].columns[-3:] == columns[-3:]
        assert sum(len(part.columns) - 1 for part in parts) == len(columns) - 1


def test_a_study_of_four_networks_fits_eighty_columns_in_one_table():
    columns = ("method", "ConvNet", "MLP", "ResNet", "ViT", "average", "std", "n")
    row = tuple(map(Cell, ("random", *["51.2 ± 0.4"] * 5, "1.2", "3")))
    file = io.StringIO()
    show(Console(width=80, file=file), [Sheet("title", "caption", columns, (row,), tail=3)], [], [])
    assert " random  51.2 ± 0.4  51.2 ± 0.4" in file.getvalue()
    assert max(map(len, file.getvalue().splitlines())) <= 80
    assert file.getvalue().count("random") == 1


def test_many_notes_are_cut_on_a_terminal():
    file = io.StringIO()
    show(Console(width=80, file=file), [], [], [f"failed: {index}" for index in range(25)])
    assert "failed: 19\n" in file.getvalue()
    assert file.getvalue().endswith("and 5 more; --out FOLDER writes all of them\n")


def test_csv_has_a_line_per_row_and_network(study):
    lines = list(csv.DictReader(io.StringIO(text.as_csv(study))))
    assert len(lines) == 2 * 2 * 3
    found = {(line["ipc"], line["method"], line["network"]): line for line in lines}
    best = found["10", "m3d", "A"]
    assert float(best["mean"]) == pytest.approx(0.71)  # a fraction, as in the results
    assert float(best["std"]) == pytest.approx(0.01)
    assert float(best["ci95"]) == pytest.approx(4.302652729911275 * 0.01 / 3**0.5)  # t of 2
    assert (best["best"], best["n"], best["seeds"], best["condense_wall_s"]) == (
        "1",
        "3",
        "0 1 2",
        "",
    )
    dm = found["1", "dm", "average"]
    assert (dm["best"], dm["failed"], dm["missing_seeds"], dm["marks"]) == (
        "0",
        "1",
        "",
        "1 failed",
    )
    assert (dm["condense_wall_s"], dm["peak_memory_bytes"], dm["ior"], dm["ars"]) == (
        "81.0",
        "2000000000.0",
        "0.5",
        "",
    )
    assert {line["ior"] for line in lines if line["network"] != "average"} == {
        ""
    }  # those are of the pool
    assert {line["networks"] for line in lines} == {"A B"}


def test_csv_has_a_line_for_a_method_without_accuracy(write_result, tmp_path):
    write_result("a", status="failed", error="x")
    (line,) = csv.DictReader(io.StringIO(text.as_csv(build_report(collect([tmp_path])))))
    assert (line["method"], line["network"], line["n"], line["mean"], line["failed"]) == (
        "dm",
        "",
        "0",
        "",
        "1",
    )


def test_markdown(study):
    out = text.markdown(*report_contents(study))
    assert (
        "### digits, protocol quick, ipc 1\n\nAccuracy in %, mean ± 95 % interval of the mean.\n\n"
        "| method | A | B | average | std | n |\n|---|---:|---:|---:|---:|---:|\n" in out
    )
    assert "| dm (1 failed) | 51.0 ± 2.5 | 40.0 ± 0.0 | 45.5 ± 1.2 | 0.5 | 3/4 |\n" in out
    assert (
        "| m3d (seed 3 missing) | **71.0 ± 2.5** | 40.0 ± 0.0 | **55.5 ± 1.2** | 0.5 | 3/4 |\n"
        in out
    )


def test_latex(study):
    out = text.latex(*report_contents(study))
    assert r"\caption{digits, protocol quick, ipc 1. Accuracy after the last epoch" in out
    assert "method & A & B & average & std & n \\\\\n\\midrule\n" in out
    assert r"m3d {\scriptsize (seed 3 missing)} & \textbf{71.0 $\pm$ 2.5} & 40.0 $\pm$ 0.0 &" in out
    assert out.count(r"\begin{tabular}{lrrrrr}") == 2
    assert out.count(r"\begin{table}") == out.count(r"\end{table}") == 3
    assert [line for line in out.splitlines() if line.startswith("% failed: ")]


@pytest.fixture
def evil(write_result, tmp_path):
    """Write runs with LaTeX's special characters in all texts; return the report as LaTeX."""
    for ipc in (1, 10):
        for method in (EVIL, "dm"):
            write_result(
                f"{method[:2].strip('<')}{ipc}",
                {EVIL: 0.5, "B": 0.4},
                method=method,
                dataset=EVIL,
                ipc=ipc,
            )
    broken = "a \n} folder"
    write_result(broken, status="failed", error=EVIL, method=EVIL, dataset=EVIL, seed=3)
    return text.latex(*report_contents(build_report(collect([tmp_path]))))


def test_latex_is_well_formed_for_any_text(evil):
    """Environments and braces are balanced, and every row has as many cells as columns."""
    opened, columns, rows = [], 0, 0
    for line in evil.splitlines():
        bare = re.sub(
            r"(?<!\\)%.*", "", re.sub(r"\\[\\{}&%$#_]", "", line)
        )  # without what is escaped, then comments
        assert bare.count("{") == bare.count("}"), line
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
            opened.append(name) if kind == "begin" else None
            assert kind == "begin" or opened.pop() == name
        if found := re.search(r"begin\{tabular\}\{(l+r+)\}", bare):
            columns = len(found[1])
        elif opened[-1:] == ["tabular"] and line.endswith(r"\\"):
            rows += 1
            assert bare.count("&") == columns - 1, line
        assert not re.search(r"[#_~^|<>]", bare), line
    assert (opened, rows) == ([], 3 + 3 + 2 + 5)  # two ipc, the failed run, costs


@pytest.mark.slow
def test_latex_compiles(evil, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex on the PATH to compile the tables with")
    head = r"\documentclass{article}\usepackage{booktabs}\usepackage[T1]{fontenc}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{head}\n{evil}\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_markdown_escapes_special_characters(write_result, tmp_path):
    write_result("a", {EVIL: 0.5}, method=EVIL, settings={"method.name": EVIL})
    write_result("b", {EVIL: 0.5}, method=EVIL)
    out = text.markdown(*report_contents(build_report(collect([tmp_path]))))
    assert "<" not in out
    tables = [line for line in out.splitlines() if line.startswith("|")]
    bare = [line.replace(r"\\", "").replace(r"\|", "") for line in tables]
    assert len({line.count("|") for line in bare[:4]}) == 1  # no cell was split
    assert text.escape_markdown("a*b_c`d|e[f]\\g<h>&") == r"a\*b\_c\`d\|e\[f\]\\g&lt;h&gt;&amp;"


def test_latex_escapes_special_characters(write_result, tmp_path):
    assert text.escape_latex("a_b%c$d#e&f{g}\\h~i^j") == (
        r"a\_b\%c\$d\#e\&f\{g\}\textbackslash{}h\textasciitilde{}i\textasciicircum{}j"
    )
    assert text.escape_latex("<|>[*]±–") == r"\textless{}\textbar{}\textgreater{}{[}{*}{]}$\pm$--"
    write_result("a", {EVIL: 0.5}, method=EVIL, dataset=EVIL)
    out = text.latex(*report_contents(build_report(collect([tmp_path]))))
    rows = [line for line in out.splitlines() if "script" in line and line.endswith(r"\\")]
    assert rows
    for row in rows:
        plain = row.replace(r"\&", "").replace(r"\\", "")
        assert plain.count("&") in (4, 5)  # the cells' own, and no other
    assert "<" not in out

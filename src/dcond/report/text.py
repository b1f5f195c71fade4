"""The report as CSV, Markdown and LaTeX; all texts of results are escaped."""

import csv
import io
import re
from collections.abc import Callable, Iterable

from dcond.evaluation.scores import SCORES
from dcond.report.rows import AVERAGE, Report, Row
from dcond.report.sheets import LEGEND, Cell, Sheet, marks
from dcond.run.tables import markdown_table

COSTS = (
    *("start_wall_s", "condense_wall_s", "steps", "step_s_median"),
    *("evaluate_wall_s", "peak_memory_bytes"),
)
COLUMNS = (
    *("dataset", "ipc", "protocol", "tested_on", "comparison", "networks"),
    *("method", "settings", "baseline", "network"),
    *("n", "mean", "std", "ci95", "best"),
    *("seeds", "missing_seeds", "failed", "interrupted", "marks"),
    *COSTS,
    *SCORES,
)
LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"±": r"$\pm$", "–": "--", "·": r"$\cdot$", "√": r"$\surd$"},
    **{letter: f"{{{letter}}}" for letter in "[]*"},  # else read as an argument of \\
}


def as_csv(report: Report) -> str:
    """Return a line per row and network, the average included.

    Accuracies are fractions; ``ci95`` is the half width of the mean's 95 % interval; unknown values
    are empty. Scores are on the line of the average.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for block in report.blocks:
        common = {
            "dataset": block.dataset,
            "ipc": block.ipc,
            "protocol": block.protocol,
            "tested_on": block.tested_on,
            "comparison": block.note,
            "networks": " ".join(block.networks),
        }
        for row in block.rows:
            for network in row.accuracies or ("",):
                writer.writerow(common | _csv_fields(row) | _csv_numbers(row, network))
    return file.getvalue()


def _csv_fields(row: Row) -> dict[str, object]:
    seeds = {run.set_id: str(run.seed) for run in row.runs if run.evaluated}
    costs = {name: row.cost(name) for name in COSTS}
    return {
        "method": row.title,
        "settings": row.note,
        "baseline": int(row.baseline),
        "seeds": " ".join(seeds.values()),
        "missing_seeds": " ".join(map(str, row.missing)),
        "failed": row.without_accuracy["failed"],
        "interrupted": row.without_accuracy["interrupted"],
        "marks": marks(row),
        **{name: estimate.mean for name, estimate in costs.items() if estimate},
    }


def _csv_numbers(row: Row, network: str) -> dict[str, object]:
    numbers: dict[str, object] = {"n": 0}
    if estimate := row.accuracies.get(network):
        numbers = {
            "network": network,
            "n": estimate.n,
            "mean": estimate.mean,
            "std": estimate.std,
            "ci95": estimate.ci95,
            "best": int(network in row.best),
        }
    if network in (AVERAGE, ""):
        scores = {name: row.score(name) for name in SCORES}
        numbers |= {name: score.mean for name, score in scores.items() if score}
    return numbers


def markdown(sheets: Iterable[Sheet], costs: Iterable[Sheet], notes: Iterable[str]) -> str:
    """Return pipe tables, each below a heading."""
    parts = [*map(_markdown_table, sheets), LEGEND + "\n", *map(_markdown_table, costs)]
    parts += ["".join(f"- {escape_markdown(note)}\n" for note in notes)]
    return "\n".join(filter(None, parts))


def _markdown_table(sheet: Sheet) -> str:
    caption = escape_markdown(sheet.caption[0].upper() + sheet.caption[1:])
    rows = [
        [_format(cell, escape_markdown, "**{}**", " ({})") for cell in row] for row in sheet.rows
    ]
    table = markdown_table(map(escape_markdown, sheet.columns), rows)
    return f"### {escape_markdown(sheet.title)}\n\n{caption}.\n\n{table}"


def _format(cell: Cell, escape: Callable[[str], str], bold: str, small: str) -> str:
    text, below = escape(cell.text), "; ".join(filter(None, (cell.small, cell.warning)))
    text = bold.format(text) if cell.bold else text
    return text + (small.format(escape(below)) if below else "")


def escape_markdown(text: str) -> str:
    """Escape every character with a meaning in Markdown or HTML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$!])", r"\\\1", text)


def latex(sheets: Iterable[Sheet], costs: Iterable[Sheet], notes: Iterable[str]) -> str:
    r"""Return tables for the packages ``booktabs`` and ``[T1]{fontenc}``."""
    parts = ["% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}\n"]
    parts += [_latex_table(sheet, LEGEND) for sheet in sheets]
    parts += [_latex_table(sheet, "Means over the runs.") for sheet in costs]
    parts += ["".join(f"% {' '.join(note.splitlines())}\n" for note in notes)]  # paths
    return "\n".join(filter(None, parts))


def _latex_table(sheet: Sheet, legend: str) -> str:
    def line(cells: Iterable[str]) -> str:
        return rf"{' & '.join(cells)} \\"

    rows = [
        [_format(cell, escape_latex, r"\textbf{{{}}}", r" {{\scriptsize ({})}}") for cell in row]
        for row in sheet.rows
    ]
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escape_latex(sheet.title)}. {escape_latex(legend)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(sheet.columns) - 1)}}}",
        r"\toprule",
        line(map(escape_latex, sheet.columns)),
        r"\midrule",
        *map(line, rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Escape every character with a meaning in LaTeX; ±, –, · and √ become commands."""
    return "".join(LATEX.get(letter, letter) for letter in text)

"""The report as CSV for programs, as Markdown and as LaTeX; whatever a result says is escaped."""

import csv
import io
import re
from collections.abc import Iterable

from dcond.report.block import AVERAGE, Row
from dcond.report.grouping import Report
from dcond.report.sheets import LEGEND, SCORES, Cell, Sheet, marks

COSTS = (
    "start_wall_s",
    "condense_wall_s",
    "steps",
    "step_s_median",
    "evaluate_wall_s",
    "peak_memory_bytes",
)
COLUMNS = (
    *(
        "dataset",
        "ipc",
        "protocol",
        "tested_on",
        "comparison",
        "networks",
        "method",
        "settings",
        "baseline",
        "network",
    ),
    *(
        "n",
        "mean",
        "std",
        "ci95",
        "best",
        "seeds",
        "missing_seeds",
        "failed",
        "interrupted",
        "marks",
    ),
    *COSTS,
    *SCORES,
)
TEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{
        "±": r"$\pm$",
        "–": "--",
        "[": "{[}",
        "]": "{]}",
        "*": "{*}",
    },  # the last three would belong to the \\ before
}


def as_csv(report: Report) -> str:
    """Write a line per row and network, the average among them; accuracies are fractions, empty is unknown."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for block in report.blocks:
        where = {"dataset": block.dataset, "ipc": block.ipc, "protocol": block.protocol}
        where |= {
            "tested_on": block.tested_on,
            "comparison": block.note,
            "networks": " ".join(block.networks),
        }
        for row in block.rows:
            for name in row.accuracies or ("",):
                scores = _scores(row) if name in (AVERAGE, "") else {}
                writer.writerow({**where, **_fields(row), **_figures(row, name), **scores})
    return file.getvalue()


def _fields(row: Row) -> dict[str, object]:
    counted = {run.sample: str(run.seed) for run in row.outcomes if run.evaluated}.values()
    means = {name: row.figure("cost", name) for name in COSTS}
    return {
        "method": row.title,
        "settings": row.note,
        "baseline": int(row.baseline),
        "seeds": " ".join(counted),
        "missing_seeds": " ".join(map(str, row.missing)),
        "failed": row.lacking["failed"],
        "interrupted": row.lacking["interrupted"],
        "marks": marks(row),
        **{name: estimate.mean for name, estimate in means.items() if estimate},
    }


def _scores(row: Row) -> dict[str, float]:
    """Return the scores, which are of all networks together."""
    found = {name: row.figure("scores", name) for name in SCORES}
    return {name: estimate.mean for name, estimate in found.items() if estimate}


def _figures(row: Row, name: str) -> dict[str, object]:
    estimate = row.accuracies.get(name)
    if estimate is None:
        return {"n": 0}
    return {
        "network": name,
        "n": estimate.n,
        "mean": estimate.mean,
        "std": estimate.std,
        "ci95": estimate.ci95,
        "best": int(name in row.best),
    }


def markdown(sheets: Iterable[Sheet], costs: Iterable[Sheet], notes: Iterable[str]) -> str:
    """Write pipe tables under a heading each."""
    parts = [_markdown_table(sheet) for sheet in sheets]
    parts += [LEGEND + "\n"]
    parts += [_markdown_table(sheet) for sheet in costs]
    parts += ["".join(f"- {escape_markdown(note)}\n" for note in notes)]
    return "\n".join(part for part in parts if part)


def _markdown_table(sheet: Sheet) -> str:
    head = " | ".join(map(escape_markdown, sheet.columns))
    lines = [
        f"### {escape_markdown(sheet.title)}",
        "",
        f"| {head} |",
        f"|---|{'---:|' * (len(sheet.columns) - 1)}",
    ]
    lines += [f"| {' | '.join(map(_markdown_cell, row))} |" for row in sheet.rows]
    return "\n".join(lines) + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    small = "; ".join(filter(None, (cell.small, cell.warn)))
    return (f"**{text}**" if cell.bold else text) + (
        f" ({escape_markdown(small)})" if small else ""
    )


def escape_markdown(text: str) -> str:
    """Take the meaning from every letter that has one in Markdown or HTML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$!])", r"\\\1", text)


def latex(sheets: Iterable[Sheet], costs: Iterable[Sheet], notes: Iterable[str]) -> str:
    r"""Write booktabs tables; the document needs ``\usepackage{booktabs}``, and T1 fonts for the quotation mark."""
    parts = ["% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}\n"]
    parts += [_latex_table(sheet, LEGEND) for sheet in sheets]
    parts += [_latex_table(sheet, "Means over the runs.") for sheet in costs]
    parts += ["".join(f"% {note}\n" for note in notes)]
    return "\n".join(part for part in parts if part)


def _latex_table(sheet: Sheet, legend: str) -> str:
    columns = "l" + "r" * (len(sheet.columns) - 1)
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escape_latex(sheet.title)}. {escape_latex(legend)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf"{' & '.join(map(escape_latex, sheet.columns))} \\",
        r"\midrule",
        *(rf"{' & '.join(map(_latex_cell, row))} \\" for row in sheet.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    small = "; ".join(filter(None, (cell.small, cell.warn)))
    return (rf"\textbf{{{text}}}" if cell.bold else text) + (
        rf" {{\scriptsize ({escape_latex(small)})}}" if small else ""
    )


def escape_latex(text: str) -> str:
    """Take the meaning from every letter that has one in LaTeX; ± and – become commands."""
    return "".join(TEX.get(letter, letter) for letter in text)

"""The report as one HTML page that needs nothing else: no script, no file, no network.

Everything that a result says goes through :func:`html.escape`; a content security policy forbids
the browser to load or run anything all the same.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape

from dcond.report.block import Block, Row
from dcond.report.figure_style import COLOURS, INK, Drawing
from dcond.report.grouping import Report
from dcond.report.run_files import picture
from dcond.report.sheets import (
    LEGEND,
    Cell,
    Sheet,
    accuracy_sheet,
    cost_sheet,
    notes,
    row_of_methods,
)

LIGHTER = (
    "#56a8e0",
    "#f08a4b",
    "#3ecf9f",
    "#e6a3c8",
    "#f0b840",
    "#8accf5",
    "#c9a66b",
    "#a99be8",
)  # on dark paper
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --pale: #646b73; --line: #d8dce1; --warn: #9a5b00;
  --best: #e8f3ec; LIGHT }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e6e8eb; --pale: #9aa1a9; --line: #343a41;
  --warn: #f0b25a; --best: #1d3a2b; DARK } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 1120px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; margin: 0 0 .25rem } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line) } h3 { font-size: 1rem; margin: 1.5rem 0 .25rem }
p, ul { margin: .25rem 0 } a { color: inherit } .pale { color: var(--pale) }
.wide { overflow-x: auto; margin: .25rem 0 1rem }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; overflow-wrap: normal }
th, td { padding: .3rem .8rem; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid var(--line) }
th { font-weight: 600; color: var(--pale) } th:first-child, td:first-child { text-align: left; padding-left: 0;
  white-space: normal; min-width: min(9rem, 28vw); position: sticky; left: 0; background: var(--paper) padding-box }
  tr:last-child td { border-bottom: 0 }
td b { background: var(--best); margin: 0 -.3rem; padding: 0 .3rem; border-radius: .25rem }
small { display: block; color: var(--pale); overflow-wrap: anywhere } small.warn, li.warn { color: var(--warn) }
figure { margin: 1rem 0 } figcaption { color: var(--pale); font-size: .85rem }
figure .wide { margin-bottom: .25rem } svg { display: block; max-width: 100%; height: auto }
.grids { display: flex; flex-wrap: wrap; gap: 1rem; margin: .5rem 0 1.5rem }
.grids figure { margin: 0; max-width: min(100%, 330px) }
.grids img { display: block; max-width: 100%; height: auto; border: 1px solid var(--line); image-rendering: pixelated }
"""
LEAST = (
    0.6  # of a figure's own width; its letters are then 7 pixels high, and one panel fits a phone
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Report, drawings: Sequence[Drawing] = ()) -> str:
    """Write the page, with the pictures that lie beside the results."""
    parts = []
    for index, blocks in enumerate(report.families):
        inside = [drawing for drawing in drawings if drawing.family == index]
        parts.append(_family(index, blocks, inside))
    links = [
        f'<li><a href="#f{index}">{escape(f[0].subject)}</a></li>'
        for index, f in enumerate(report.families)
    ]
    body = "\n".join(
        [
            "<h1>dcond report</h1>",
            f"<p>{escape(summary(report))}</p>",
            f'<p class="pale">{escape(LEGEND)}</p>',
            f"<ul>{''.join(links)}</ul>" if len(links) > 1 else "",
            *parts,
            _notes(notes(report)),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>dcond report</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<link rel="icon" href="data:,">\n<style>{_style()}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n'
    )


def summary(report: Report) -> str:
    """Say how many runs there are, and how they ended."""
    runs, waiting = report.outcomes, len(report.found.unfinished)
    counts = [
        (status, sum(run.status == status for run in runs))
        for status in ("done", "failed", "interrupted")
    ]
    words = [f"{count} {status}" for status, count in counts if count] + (
        [f"{waiting} unfinished"] if waiting else []
    )
    total = len(runs) + waiting
    return f"{total} {'run' if total == 1 else 'runs'}: {', '.join(words)}."


def _style() -> str:
    light, dark = (
        " ".join(f"--c{index}: {colour};" for index, colour in enumerate(colours))
        for colours in (COLOURS, LIGHTER)
    )
    return STYLE.replace("LIGHT", light).replace("DARK", dark)


def _family(index: int, blocks: list[Block], drawings: Iterable[Drawing]) -> str:
    cost = cost_sheet(blocks)
    parts = [f'<h2 id="f{index}">{escape(blocks[0].subject)}</h2>']
    for block in blocks:
        images = "image" if block.ipc == 1 else "images"
        parts += [f"<h3>{block.ipc} {images} per class</h3>", _table(accuracy_sheet(block))]
    parts += [_figure(f"f{index}-{number}-", drawing) for number, drawing in enumerate(drawings)]
    parts += ["<h3>Cost</h3>", _table(cost)] if cost.rows else []
    pictures = [
        shown
        for block in blocks
        if (shown := "".join(_picture(block, row) for row in row_of_methods(block)))
    ]
    parts += (
        ["<h3>Images</h3>", *(f'<div class="grids">{shown}</div>' for shown in pictures)]
        if pictures
        else []
    )
    return "\n".join(parts)


def _table(sheet: Sheet) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in sheet.columns)
    rows = "\n".join(
        f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in sheet.rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'


def _cell(cell: Cell) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.bold else escape(cell.text)
    small = f"<small>{escape(cell.small)}</small>" if cell.small else ""
    return text + small + (f'<small class="warn">{escape(cell.warn)}</small>' if cell.warn else "")


def _figure(prefix: str, drawing: Drawing) -> str:
    """Put a figure into the page: its own names, and colours that follow the page's."""
    svg = drawing.svg[drawing.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{prefix}", svg)
    for index, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{index})")
    points = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1])  # type: ignore[index]
    least = f"min-width: {LEAST * points * 4 / 3:.0f}px"  # narrower windows scroll it sideways
    head = f'<svg role="img" aria-label="{escape(drawing.title)}" style="{least}"'
    svg = svg.replace(INK, "currentColor").replace("<svg", head, 1)
    return f'<figure><div class="wide">{svg}</div><figcaption>{escape(drawing.title)}</figcaption></figure>'


def _picture(block: Block, row: Row) -> str:
    """Show the images of a row's first run that has a picture."""
    for run in row.of_status("done"):
        uri = picture(run.folder)
        if uri is not None:
            seed = "" if run.seed is None else f", seed {run.seed}"
            words = escape(f"{row.name}, ipc {block.ipc}{seed}")
            return f'<figure><img src="{uri}" alt="Images of {words}"><figcaption>{words}</figcaption></figure>'
    return ""


def _notes(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = (f"<li{_warning(line)}>{escape(line)}</li>" for line in lines)
    return f"<h2>Not in the tables</h2>\n<ul>{''.join(items)}</ul>"


def _warning(line: str) -> str:
    return ' class="warn"' if line.startswith("failed") else ""

"""The report as one HTML page: no scripts, no other files, no network.

All texts of results are escaped (:func:`html.escape`); a content security policy also forbids the
browser to load or run anything.
"""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from dcond.report.figure_style import COLOURS, INK
from dcond.report.figures import Drawing
from dcond.report.rows import Block, Report, Row
from dcond.report.sheets import LEGEND, Cell, Sheet, accuracy_sheet, cost_sheet, notes

DARK_COLOURS = (  # in place of COLOURS on a dark background
    *("#56a8e0", "#f08a4b", "#3ecf9f", "#e6a3c8"),
    *("#f0b840", "#8accf5", "#c9a66b", "#a99be8"),
)
MIN_SCALE = 0.6  # of a figure's own width: text is then 7 pixels high, and a panel fits a phone
MAX_PIXELS = 900  # of a picture's longer side
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Report, drawings: Sequence[Drawing] = ()) -> str:
    """Return the page, with the pictures beside the results."""
    parts, links = [], []
    for index, blocks in enumerate(report.families):
        own = [drawing for drawing in drawings if drawing.family == index]
        parts.append(_family(index, blocks, own))
        links.append(f'<li><a href="#f{index}">{escape(blocks[0].subject)}</a></li>')
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
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<title>dcond report</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<link rel="icon" href="data:,">\n<style>{_style()}</style>\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def summary(report: Report) -> str:
    """Return the number of runs by status."""
    counts = {
        status: sum(run.status == status for run in report.runs)
        for status in ("done", "failed", "interrupted")
    } | {"unfinished": len(report.collected.unfinished)}
    total = sum(counts.values())
    parts = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{total} {'run' if total == 1 else 'runs'}: {parts}."


def _style() -> str:
    light, dark = (
        " ".join(f"--c{index}: {colour};" for index, colour in enumerate(colours))
        for colours in (COLOURS, DARK_COLOURS)
    )
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return style.replace("LIGHT_COLOURS", light).replace("DARK_COLOURS", dark)


def _family(index: int, blocks: list[Block], drawings: Iterable[Drawing]) -> str:
    parts = [f'<h2 id="f{index}">{escape(blocks[0].subject)}</h2>']
    for block in blocks:
        images = "image" if block.ipc == 1 else "images"
        parts += [f"<h3>{block.ipc} {images} per class</h3>", _table(accuracy_sheet(block))]
    parts += [_figure(f"f{index}-{number}-", drawing) for number, drawing in enumerate(drawings)]
    costs = cost_sheet(blocks)
    parts += ["<h3>Cost</h3>", _table(costs)] if costs.rows else []
    pictures = ["".join(_picture(block, row) for row in block.method_rows) for block in blocks]
    parts += ["<h3>Images</h3>"] if any(pictures) else []
    parts += [f'<div class="grids">{each}</div>' for each in pictures if each]
    return "\n".join(parts)


def _table(sheet: Sheet) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in sheet.columns)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in sheet.rows)
    return (
        f'<div class="wide"><table>\n<caption>{escape(sheet.caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _cell(cell: Cell) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.bold else escape(cell.text)
    text += f"<small>{escape(cell.small)}</small>" if cell.small else ""
    text += f'<small class="warn">{escape(cell.warning)}</small>' if cell.warning else ""
    return f"<td>{text}</td>"


def _figure(prefix: str, drawing: Drawing) -> str:
    """Return a figure with unique ids, in the colours of the page."""
    svg = drawing.svg[drawing.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{prefix}", svg)
    for index, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{index})")
    points = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1])  # type: ignore[index]
    style = f"min-width: {MIN_SCALE * points * 4 / 3:.0f}px"  # narrower windows scroll sideways
    title = escape(drawing.title)
    svg = svg.replace(INK, "currentColor")
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{title}" style="{style}"', 1)
    return f'<figure><div class="wide">{svg}</div><figcaption>{title}</figcaption></figure>'


def _picture(block: Block, row: Row) -> str:
    """Return the images of a row's first finished run that has a picture."""
    for run in row.done:
        uri = picture(run.folder)
        if uri is not None:
            seed = "" if run.seed is None else f", seed {run.seed}"
            title = escape(f"{row.name}, ipc {block.ipc}{seed}")
            image = f'<img src="{uri}" alt="Images of {title}">'
            return f"<figure>{image}<figcaption>{title}</figcaption></figure>"
    return ""


def picture(folder: Path) -> str | None:
    """Return a run's ``grid.png`` as a data URI, shrunk if large; None without a valid one."""
    file = io.BytesIO()
    try:
        with Image.open(folder / "grid.png", formats=["PNG"]) as image:
            image.thumbnail((MAX_PIXELS, MAX_PIXELS))
            mode = "L" if image.mode in ("L", "1", "I;16") else "RGB"
            image.convert(mode).save(file, format="PNG", optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _notes(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    failed = ' class="warn"'
    items = (
        f"<li{failed if line.startswith('failed') else ''}>{escape(line)}</li>" for line in lines
    )
    return f"<h2>Not in the tables</h2>\n<ul>{''.join(items)}</ul>"

"""The report on a terminal: tables that fit its width, then the notes."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dcond.report.sheets import LEGEND, Cell, Sheet

MAX_NOTES = 20
COLUMN_GAP = 2
MAX_NAME_WIDTH = 26  # longer names in the first column are wrapped


def show(
    console: Console, sheets: Iterable[Sheet], costs: Iterable[Sheet], notes: list[str]
) -> None:
    """Print the report; a table that is too wide is split by columns."""
    for sheet in sheets:
        _print(console, sheet)
    console.print(Text(LEGEND, "dim"))
    console.print()
    for sheet in costs:
        _print(console, sheet)
    for note in notes[:MAX_NOTES]:
        console.print(Text(note), soft_wrap=True)
    if len(notes) > MAX_NOTES:
        console.print(Text(f"and {len(notes) - MAX_NOTES} more; --out FOLDER writes all of them"))


def _print(console: Console, sheet: Sheet) -> None:
    console.print(Text(f" {sheet.title}", "bold"))
    console.print(Text(f" {sheet.caption}", "dim"))
    for part in split_columns(sheet, console.width):
        console.print(_table(part))


def split_columns(sheet: Sheet, width: int) -> Iterator[Sheet]:
    """Yield the sheet in parts that fit the width.

    Each part has the head columns; the tail columns stay together in the last part.
    """
    widths = [_width(sheet, column) + COLUMN_GAP for column in range(len(sheet.columns))]
    first = min(widths[0], MAX_NAME_WIDTH + COLUMN_GAP)
    available = width - 1 - first - sum(widths[1 : sheet.heads])
    end = len(sheet.columns) - sheet.tail
    units = [[column] for column in range(sheet.heads, end)]
    units += [[*range(end, len(sheet.columns))]] if sheet.tail else []
    part: list[int] = []
    for unit in units:
        if part and sum(widths[column] for column in part + unit) > available:
            yield _select(sheet, part)
            part = []
        part += unit
    yield _select(sheet, part)


def _width(sheet: Sheet, column: int) -> int:
    cells = [row[column] for row in sheet.rows]
    texts = [text for cell in cells for text in (cell.text, cell.small, cell.warning)]
    return max(map(len, [sheet.columns[column], *texts]))


def _select(sheet: Sheet, columns: list[int]) -> Sheet:
    columns = [*range(sheet.heads), *columns]
    rows = tuple(tuple(row[column] for column in columns) for row in sheet.rows)
    return replace(sheet, columns=tuple(sheet.columns[column] for column in columns), rows=rows)


def _table(sheet: Sheet) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(sheet.columns):
        justify = "right" if index else "left"
        table.add_column(Text(name), justify=justify, no_wrap=index > 0, overflow="fold")  # type: ignore[arg-type]
    for row in sheet.rows:
        table.add_row(*map(_text, row))
    return table


def _text(cell: Cell) -> Text:
    text = Text(cell.text, "bold" if cell.bold else "")
    for line in cell.small.replace(", ", ",\n").splitlines():  # one setting per line
        text.append(f"\n  {line}", "dim")
    if cell.warning:
        text.append(f"\n  {cell.warning}", "yellow")
    return text

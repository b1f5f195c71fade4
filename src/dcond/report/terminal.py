"""The report on a terminal: tables that fit its width, then what is not in them."""

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dcond.report.sheets import LEGEND, Cell, Sheet

MOST_NOTES = 20
BETWEEN = 2  # characters between two columns
WORDS = 26  # characters that the first column may take before its words are broken


def show(
    console: Console, sheets: Iterable[Sheet], costs: Iterable[Sheet], notes: list[str]
) -> None:
    """Print everything; a sheet that is too wide becomes several, each with the columns that say what it is about."""
    for sheet in sheets:
        _print(console, sheet)
    console.print(Text(LEGEND, "dim"))
    console.print()
    for sheet in costs:
        _print(console, sheet)
    for note in notes[:MOST_NOTES]:
        console.print(Text(note), soft_wrap=True)
    if len(notes) > MOST_NOTES:
        console.print(Text(f"and {len(notes) - MOST_NOTES} more; --out FOLDER writes them all"))


def _print(console: Console, sheet: Sheet) -> None:
    console.print(Padding(Text(sheet.title, "bold"), (0, 0, 0, 1)))
    for part in fitted(sheet, console.width):
        console.print(_table(part))


def fitted(sheet: Sheet, width: int) -> Iterator[Sheet]:
    """Yield a sheet in parts whose columns fit a width together; the heads are in each, the tail is in one."""
    needs = [_needed(sheet, column) + BETWEEN for column in range(len(sheet.columns))]
    room = width - 1 - min(needs[0], WORDS + BETWEEN) - sum(needs[1 : sheet.heads])
    end = len(sheet.columns) - sheet.tail
    units = [(column,) for column in range(sheet.heads, end)] + [
        tuple(range(end, len(sheet.columns)))
    ]
    chosen: list[int] = []
    for unit in filter(None, units):
        if chosen and sum(needs[column] for column in (*chosen, *unit)) > room:
            yield _part(sheet, chosen)
            chosen = []
        chosen += unit
    yield _part(sheet, chosen)


def _needed(sheet: Sheet, column: int) -> int:
    cells = [row[column] for row in sheet.rows]
    words = [
        sheet.columns[column],
        *(part for cell in cells for part in (cell.text, cell.small, cell.warn)),
    ]
    return max(len(word) for word in words)


def _part(sheet: Sheet, columns: list[int]) -> Sheet:
    kept = [*range(sheet.heads), *columns]
    rows = tuple(tuple(row[column] for column in kept) for row in sheet.rows)
    return Sheet(sheet.title, tuple(sheet.columns[column] for column in kept), rows)


def _table(sheet: Sheet) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(sheet.columns):
        table.add_column(
            Text(name), justify="right" if index else "left", no_wrap=index > 0, overflow="fold"
        )
    for row in sheet.rows:
        table.add_row(*map(_text, row))
    return table


def _text(cell: Cell) -> Text:
    text = Text(cell.text, "bold" if cell.bold else "")
    for small, style in ((cell.small, "dim"), (cell.warn, "yellow")):
        for line in filter(
            None, small.replace(", ", ",\n").split("\n") if style == "dim" else [small]
        ):
            text.append(f"\n  {line}", style)
    return text

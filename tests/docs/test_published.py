"""The table of published settings is what its script prints from the CSV."""

from pathlib import Path

import published

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_table_of_the_csv(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    published.show()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    text = (ROOT / "docs/studies/published.md").read_text()
    assert [line for line in lines if line not in text] == []


def test_every_row_of_the_csv_has_a_command_of_the_script(monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = {f"dcond condense {row.arguments} seed=0" for row in published.ROWS}
    assert {row["command"] for row in published.read(published.TABLE)} <= commands

"""The Python code of docs/python.md and the example script run."""

import re
import runpy
from pathlib import Path

import pytest

import dcond

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_blocks_of_the_page_run_in_order(empty_folder, capsys):
    blocks = BLOCK.findall((ROOT / "docs" / "python.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 7
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), namespace)
    written = {path.name for path in empty_folder.iterdir()}
    assert written == {"my_run", "mine.npz"}  # only what the page asks for
    assert isinstance(namespace["synthetic"], dcond.SyntheticSet)
    assert "m4d" in capsys.readouterr().out  # the error that the page shows


def test_the_example_script_runs(empty_folder, capsys):
    runpy.run_path(str(ROOT / "docs" / "examples" / "condense_from_python.py"), run_name="__main__")
    assert "test accuracy" in capsys.readouterr().out
    assert list(empty_folder.iterdir()) == []

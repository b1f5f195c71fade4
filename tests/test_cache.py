"""Cached results: found again by their key, computed again if damaged, optional if not writable."""

import hashlib
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from dcond import cache
from dcond.cache import cache_file, own_code, read_entry, write_entry
from dcond.models import MLP


def parse(file: Path) -> float:
    return float(json.loads(file.read_text(encoding="utf-8"))["value"])


def test_an_entry_is_read_back(tmp_path):
    file = cache_file(tmp_path / "new" / "folder", "digits", "key")
    write_entry(file, json.dumps({"value": 0.5}), "the value")
    assert read_entry(file, parse) == 0.5


def test_the_name_of_an_entry_holds_the_hash_of_its_key(tmp_path, monkeypatch):
    digest = hashlib.sha256(b"key").hexdigest()[:16]
    assert cache_file(tmp_path, "digits", "key", ".pt") == tmp_path / f"digits_{digest}.pt"
    assert cache_file(tmp_path, "digits", b"key", ".pt") == tmp_path / f"digits_{digest}.pt"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_file(Path("~/cache"), "digits", "key", ".pt").parent == tmp_path / "cache"
    assert cache_file(tmp_path, "digits", "other") != cache_file(tmp_path, "digits", "key")


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"{", b"[]", b"3", b'{"value": "x"}'])
def test_a_missing_or_damaged_entry_is_none(tmp_path, content):
    file = cache_file(tmp_path, "digits", "key")
    if content is not None:
        file.write_bytes(content)
    assert read_entry(file, parse) is None


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04half"])
def test_a_damaged_file_of_weights_is_none(tmp_path, content):
    file = tmp_path / "teacher.pt"
    file.write_bytes(content)
    assert read_entry(file, lambda path: torch.load(path, weights_only=True)) is None


def test_an_entry_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "blocked").write_text("a file, not a folder")
    write_entry(cache_file(tmp_path / "blocked", "digits", "key"), b"content", "the value")
    assert "cannot cache the value in" in caplog.text


def test_code_that_is_not_dconds_is_part_of_a_key(tmp_path, monkeypatch):
    """A network of one name from two modules, or edited, is another network."""
    monkeypatch.syspath_prepend(tmp_path)
    codes = []
    for module, layers in (("mine_a", 1), ("mine_b", 1), ("mine_b", 2)):
        (tmp_path / f"{module}.py").write_text(f"class Net:\n    layers = {layers}\n")
        sys.modules.pop(module, None)
        importlib.invalidate_caches()
        codes.append(own_code(importlib.import_module(module).Net()))
        sys.modules.pop(module)
        cache._source.cache_clear()
        cache._imported.cache_clear()
    assert len(set(codes)) == 3
    assert "class Net" in codes[0]


def test_modules_that_own_code_imports_are_part_of_a_key(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_c.py").write_text("import torch\nfrom mine_d import WIDTH\nclass Net: pass\n")
    codes = []
    for width in (1, 2):
        (tmp_path / "mine_d.py").write_text(f"import mine_e\nWIDTH = {width}\n")
        (tmp_path / "mine_e.py").write_text("import mine_d\n")  # in a circle
        importlib.invalidate_caches()
        codes.append(own_code(importlib.import_module("mine_c").Net()))
        for module in ("mine_c", "mine_d", "mine_e"):
            sys.modules.pop(module)
        cache._source.cache_clear()
        cache._imported.cache_clear()
    assert len(set(codes)) == 2
    assert "mine_e: import mine_d" in codes[0]
    assert "torch: " not in codes[0]


def test_dconds_own_parts_add_nothing_to_a_key():
    assert own_code(MLP(name="MLP"), 1, "text") == ""

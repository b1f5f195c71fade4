"""Files of another type are named by their first bytes."""

import gzip
import pickle

import numpy as np
import pytest
import torch

from dcond import artefact
from dcond.data import read_prepared
from dcond.errors import DcondError
from dcond.importers import Source
from dcond.paths import file_kind

HTML = b"\n<!DOCTYPE html><html>" + b"x" * 100
KINDS = {
    b"": "empty",
    HTML: "an HTML page",
    b"<html lang=en>": "an HTML page",
    b"version https://git-lfs.github.com/spec/v1\noid": "a Git LFS pointer",
    b"PK\x03\x04half": "an incomplete zip archive",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    gzip.compress(b"x"): "a gzip archive",
    pickle.dumps([1]): "a pickle",
    b"\x93NUMPY\x01": "a .npy array",
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"%PDF-1.7": "a PDF document",
    b'{"message": "not found"}': "a JSON text",
    bytes(range(200, 256)): "",
}


@pytest.mark.parametrize("content", KINDS, ids=lambda content: KINDS[content] or "unknown")
def test_file_kind(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    assert KINDS[content] in file_kind(tmp_path / "x")
    assert bool(KINDS[content]) == bool(file_kind(tmp_path / "x"))


def test_a_complete_zip_archive_is_recognised(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(1))
    assert file_kind(tmp_path / "x.npz") == "a zip archive"


@pytest.mark.parametrize("name", ["data.pt", "data.npz", "data.safetensors"])
def test_a_web_page_in_place_of_a_set_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(HTML)
    with pytest.raises(DcondError, match=r"it is an HTML page, not the file that it links to"):
        Source(path=str(tmp_path / name)).read()


def test_a_truncated_download_is_named(tmp_path):
    torch.save([torch.rand(10, 3, 8, 8), torch.arange(10)], tmp_path / "data.pt")
    content = (tmp_path / "data.pt").read_bytes()
    (tmp_path / "data.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(DcondError, match=r"it is an incomplete zip archive"):
        Source(path=str(tmp_path / "data.pt")).read()


@pytest.mark.parametrize("read", [read_prepared, artefact.load])
def test_data_sets_and_artefacts_are_named_too(read, tmp_path):
    (tmp_path / "x.npz").write_bytes(HTML)
    with pytest.raises(DcondError, match="it is an HTML page"):
        read(tmp_path / "x.npz")

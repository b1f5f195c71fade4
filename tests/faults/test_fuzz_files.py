"""Artefacts, npz files and folders of arbitrary content: read, or an error of one line."""

import io
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from PIL import Image
from safetensors.torch import save

from dcond import artefact
from dcond.data.image_folder import ImageFolder
from dcond.data.npz import Npz
from dcond.errors import DcondError
from dcond.importers import Source

TENSORS = {"images": torch.full((4, 1, 4, 4), 0.5), "labels": torch.tensor([0, 0, 1, 1])}
METADATA = {
    "format": "dcond/1",
    "class_names": '["a", "b"]',
    "ipc": "2",
    "factor": "1",
    "align_corners": "false",
    "mean": "[0.5]",
    "std": "[0.25]",
    "pixel_range": "[0, 1]",
}


def one_line_or(call):
    """Return the result of a call; None after a DcondError of one line."""
    try:
        return call()
    except DcondError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) > 20
    return None


# --- Artefacts -----------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, 2, -1, 1e308, 10**400]))
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts, lambda inner: st.lists(inner, max_size=4)
)
values = texts | anything.map(json.dumps) | st.integers(0, 3000).map(lambda depth: "[" * depth)


@given(st.dictionaries(st.sampled_from(sorted(METADATA)) | texts, values, min_size=1, max_size=4))
def test_metadata(changed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.safetensors")
        path.write_bytes(save(TENSORS, METADATA | changed))
        got = one_line_or(lambda: artefact.load(path))
    if got is not None:
        images, labels = got.dataset().tensors
        assert len(images) == len(labels)


@given(st.integers(0, 400), st.binary(max_size=12), st.booleans())
def test_bytes_of_an_artefact(position, content, insert):
    whole = save(TENSORS, METADATA)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.safetensors")
        path.write_bytes(
            whole[:position] + content + whole[position + len(content) * (not insert) :]
        )
        one_line_or(lambda: artefact.load(path))


# --- npz files -----------------------------------------------------------------------------------

shapes = st.tuples(
    st.integers(0, 4), st.integers(0, 3), st.integers(0, 3), st.sampled_from([0, 1, 2, 3])
)
some_shape = shapes | arrays_of.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)
some_type = st.sampled_from(
    ["uint8", "float32", "float16", "float64", "int64", "uint64", "int8", "bool", "complex64"]
)
arrays = st.one_of(
    arrays_of.arrays(some_type | st.sampled_from(["U3", "S2", "M8[s]"]), some_shape),
    arrays_of.arrays("int64", st.integers(0, 4), elements=st.integers(-1, 3)),
)
NAMES = (
    "train_images",
    "train_labels",
    "test_images",
    "test_labels",
    "class_names",
    "images",
    "labels",
    "factor",
)


@given(st.dictionaries(st.sampled_from(NAMES), arrays))
def test_npz_data_of_the_user(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npz")
        np.savez(path, **content)
        one_line_or(lambda: Npz(path=str(path)).load())
        one_line_or(lambda: Source(path=str(path)).read())


@given(
    arrays_of.arrays(some_type, shapes),
    st.lists(st.integers(-1, 2), max_size=4),
    st.none() | arrays,
)
def test_nearly_valid_npz(images, labels, names):
    """All arrays are present; only their content may be invalid."""
    content = {f"{split}_images": images for split in ("train", "test")}
    content |= {f"{split}_labels": labels for split in ("train", "test")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npz")
        np.savez(path, **content, **({} if names is None else {"class_names": names}))
        one_line_or(lambda: Npz(path=str(path)).load())


# --- Folders -------------------------------------------------------------------------------------


def picture(mode: str, width: int, height: int, kind: str, keep: float) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height), 1).save(out, kind)
    return out.getvalue()[: max(1, int(keep * len(out.getvalue())))]


pictures = st.builds(
    picture,
    st.sampled_from(["L", "RGB", "P", "1"]),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(["PNG", "GIF", "BMP"]),
    st.sampled_from([1.0, 1.0, 1.0, 0.5]),
)
parts = st.sampled_from(
    ["train", "test", "val", "a", "b", "ü", ".hidden", "images", "with space", "n01440764"]
)
files = st.sampled_from(
    ["1.png", "2.PNG", "3.gif", ".4.png", "notes.txt", "words.txt", "val_annotations.txt", "x.bmp"]
)
lines = st.lists(st.sampled_from(["1.png", "a", "b", "\t", "\n", "\x00", "\xff"]), max_size=8).map(
    "".join
)
paths = st.builds(
    lambda folders, file: "/".join((*folders, file)), st.lists(parts, max_size=3), files
)
contents = pictures | st.binary(max_size=8) | lines.map(lambda text: text.encode("latin-1"))


@given(
    st.dictionaries(paths, contents, max_size=8),
    st.none() | st.integers(1, 4),
    st.sampled_from(["crop", "pad"]),
)
def test_a_folder_of_images(tree, size, resize):
    with tempfile.TemporaryDirectory() as folder:
        for path, content in tree.items():
            Path(folder, path).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, path).write_bytes(content)
        one_line_or(lambda: ImageFolder(path=folder, size=size, resize=resize).load())
        one_line_or(lambda: Source(path=folder).read())


layouts = st.lists(st.tuples(parts, parts, files), min_size=1, max_size=6)


@given(layouts, pictures, lines)
def test_a_class_layout(places, content, text):
    """Every file is an image and the lists of all layouts exist; only the layout may be invalid."""
    with tempfile.TemporaryDirectory() as folder:
        for split, name, file in places:
            Path(folder, split, name).mkdir(parents=True, exist_ok=True)
            Path(folder, split, name, file).write_bytes(content)
            Path(folder, split, "val_annotations.txt").write_bytes(text.encode("latin-1"))
        Path(folder, "words.txt").write_bytes(text.encode("latin-1"))
        one_line_or(lambda: ImageFolder(path=folder, size=4).load())

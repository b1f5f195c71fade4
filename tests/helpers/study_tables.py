"""Values in the CSV files of the studies and in the tables of the docs, in one form."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

NETWORKS = ("ConvNet", "MLP", "ResNet", "ViT", "average")

# Names of the methods in the docs, where they differ from those in the studies.
METHODS = {
    "shrunken random": "random_decoded",
    "random, shrunken": "random_decoded",
    "k-means": "kmeans",
    "DSA": "dsa",
    "DSA, 300 steps": "dsa",
    "IDC": "idc",
    "IDC, 300 steps, factor 1": "idc",
    "DM": "dm",
    "DM, 500 steps": "dm",
    "M3D": "m3d",
    "random, four quarter-size images in each": "random_decoded",
    "M3D, `method.targets=50`": "m3d_bank",
    "the same, `init=aug_kmeans` (k-means images)": "m3d_kmeans",
    "NCFM": "ncfm",
    "IDM": "idm",
    "RDED": "rded",
    "DC": "dc",
    "M": "degm_m",
    "MD": "degm_md",
    "MDA": "degm_mda",
    "MD, 1 epoch": "degm_md_t1",
    "MD, 10 epochs": "degm_md_t10",
    "MD, 50 epochs": "degm_md_t50",
    "float32": "exact",
    "ConvNet alone": "hmdc_convnet",
    "its ConvNet alone": "hmdc_convnet",
    "HMDC, ConvNet alone": "hmdc_convnet",
    "HMDC's parts: ConvNet alone": "hmdc_convnet",
    "the same, 180 steps": "hmdc_convnet_long",
    "the same, three times the steps": "hmdc_convnet_long",
    "ViT alone": "hmdc_vit",
    "two networks": "hmdc_two",
    "ConvNet and ViT": "hmdc_two",
    "HMDC, two networks, no other part": "hmdc_two",
    "its two networks without the parts": "hmdc_two",
    "both, gradients balanced": "hmdc_gbm",
    "both, mutual distillation": "hmdc_md",
    "HMDC": "hmdc",
    "HMDC: both parts": "hmdc",
}
for _often, _name in (("20", "o20"), ("80", "o80"), ("320", "s320"), ("1,280", "s1280")):
    _rows = {"ConvNet alone": "hmdc_convnet", "ConvNet and ViT": "hmdc_two", "both parts": "hmdc"}
    METHODS |= {f"{label}, {_often}": f"{method}_{_name}" for label, method in _rows.items()}

BLOCKS = {
    "Fashion-MNIST, ipc 1": "fashion_mnist, ipc 1",
    "Fashion-MNIST, ipc 10": "fashion_mnist, ipc 10",
    "CIFAR-10, ipc 1": "cifar10, ipc 1",
    "CIFAR-10, ipc 10": "cifar10, ipc 10",
    "fashion_mnist": "fashion_mnist, ipc 1",
    "cifar10": "cifar10, ipc 1",
    "five classes of CIFAR-10, ipc 1": "npz, ipc 1",
    "five classes of CIFAR-10, ipc 1, networks pretrained on the others": "npz, ipc 1",
}

Key = tuple[str, str, str]  # block, method or "first - second", network
Facts = dict[Key, str]


def rows_of(lines: Iterator[str] | list[str]) -> Iterator[list[list[str]]]:
    """Yield the Markdown tables of some lines as rows of cells, without the rule below the head."""
    rows: list[list[str]] = []
    for line in [*lines, ""]:
        if line.strip().startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            yield [rows[0], *rows[2:]]
            rows = []


def facts(printed: str) -> Facts:
    """Parse the output of ``study.py STUDY show``, without empty cells."""
    found = {}
    for (title, *heads), *rows in rows_of(printed.splitlines()):
        for what, *cells in rows:
            for head, cell in zip(heads, cells, strict=True):
                block, _, network = (
                    head.partition(": ") if title == "difference" else (title, "", head)
                )
                found[block, what, network] = cell
    return {key: cell for key, cell in found.items() if cell}


def label(text: str, title: str = "") -> dict[str, str]:
    """Parse a label of a table: a block, a network, one or two methods, or unknown."""
    whole = (
        {"block": BLOCKS.get(text, text)}
        if text in BLOCKS or re.fullmatch(r"\w+, ipc \d+", text)
        else {}
    )
    if whole:
        return whole
    first, colon, last = text.partition(": ")
    if colon and last in NETWORKS and label(first):
        return label(first) | label(last)
    if text in NETWORKS:
        return {"network": text}
    if text.startswith("ConvNet-3 of width 32"):
        return {"network": "ConvNet"}
    first, minus, second = text.removesuffix(", seed by seed").partition(" - ")
    if minus:
        return {"what": f"{METHODS.get(first, first)} - {METHODS.get(second, second)}"}
    method = METHODS.get(text, text)
    if title == "HMDC against":
        return {"what": f"hmdc - {method}"}
    return {"what": method} if text else {}


def groups(page: str) -> Iterator[tuple[str, Facts]]:
    """Yield the values of each block in each table with intervals, with a name for the table.

    A table without a block continues the one above it; without a network it holds averages.
    """
    block = ""
    for (title, *heads), *rows in rows_of(page.splitlines()):
        known: dict[str, Facts] = defaultdict(dict)
        shared = label(title)
        prefix: dict[str, str] = {}
        columns = []
        for head in heads:
            column = label(head, title)
            prefix = {"block": column["block"]} if {"block", "network"} <= column.keys() else prefix
            columns.append(prefix | column)
        for name, *cells in rows:
            for column, cell in zip(columns, cells, strict=False):  # code in a cell may hold a bar
                if "±" in cell:
                    place = (
                        {"block": block, "network": "average"}
                        | shared
                        | column
                        | label(name, title)
                    )
                    block = place["block"]
                    known[block][block, place.get("what", ""), place["network"]] = cell.strip("*")
        for of, cells in known.items():
            yield f"{title or heads}: {of}", cells


def pages(root: Path) -> dict[str, str]:
    """Return the README and the pages of the docs, without the example reports."""
    files = [
        root / "README.md",
        *sorted((root / "docs").glob("*.md")),
        *sorted((root / "docs/methods").glob("*.md")),
        *sorted((root / "docs/studies").glob("*.md")),
    ]
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def prose(page: str) -> str:
    """Return a page without its tables and without output of commands."""
    text = re.sub(
        r"^```.*?^```$|<!-- output -->.*?<!-- end of output -->", "", page, flags=re.M | re.S
    )
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith("|"))

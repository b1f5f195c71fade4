"""Compare HMDC, M3D, MTT and DATM with random images on digits: ipc 1 and 10, three seeds.

    python scripts/digits_table.py      # write or complete benchmarks/cpu/digits.csv

A row is one network of the pool in one run of ``dcond condense``, whose command is in the CSV;
``seconds`` is the duration of the whole command with imports and evaluation. Column ``random`` is
the accuracy on random images in the same run, with labels of the same kind. ``random_decoded``
(four shrunken images in each stored one) has rows of its own.
"""

import datetime
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from study import read, write

TABLE = Path("benchmarks/cpu/digits.csv")
METHODS = {
    "hmdc": "method=hmdc",
    "m3d": "method=m3d method.targets=null",
    "mtt": "method=mtt",
    "datm": "method=datm",
    "random_decoded": "method=random method.factor=2 baselines=false",
}


def run(method: str, overrides: str, folder: Path) -> list[dict[str, object]]:
    """Run one job and return its rows."""
    command = [
        sys.executable,
        "-m",
        "dcond",
        "condense",
        *overrides.split(),
        f"hydra.run.dir={folder}",
    ]
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.monotonic() - start
    result = json.loads((folder / "result.json").read_text())
    random = (result["baselines"]["random"] or {"networks": {}})["networks"]
    return [
        {
            "dataset": result["dataset"],
            "ipc": result["ipc"],
            "method": method,
            "seed": result["seed"],
            "network": network,
            "accuracy": figures["mean"],
            "ci95": figures["ci95"],
            "random": random.get(network, {}).get("mean", ""),
            "random_ci95": random.get(network, {}).get("ci95", ""),
            "repeats": len(figures["accuracies"]),
            "condense_s": round(result["cost"]["condense_wall_s"], 1),
            "seconds": round(seconds, 1),
            "torch": result["versions"]["torch"],
            "machine": f"{platform.machine()}, {os.cpu_count()} threads",
            "date": datetime.date.today().isoformat(),
            "command": f"dcond condense {overrides}",
        }
        for network, figures in result["evaluation"]["networks"].items()
    ]


def main() -> None:
    """Run what the table does not have yet."""
    rows: list[dict[str, object]] = [*read(TABLE)]
    known = {row["command"] for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        for method, ipc, seed in itertools.product(METHODS, (1, 10), (0, 1, 2)):
            overrides = f"{METHODS[method]} evaluation.epochs=300 ipc={ipc} seed={seed}"
            if f"dcond condense {overrides}" not in known:
                rows += run(method, overrides, Path(scratch) / f"{method}_{ipc}_{seed}")
                write(rows, TABLE)  # after each run, so that an interruption loses only one
                print(f"{method}, ipc {ipc}, seed {seed}: {rows[-1]['seconds']} s", flush=True)
    print(f"not above random real images: {len(not_above_random(rows))} of {len(rows)} rows")


def not_above_random(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the rows not above both kinds of random images of the same ipc and seed."""
    key_fields = ("ipc", "seed", "network")
    shrunken = {
        tuple(str(row[key]) for key in key_fields): row
        for row in rows
        if row["method"] == "random_decoded"
    }
    return [
        row
        for row in rows
        if row["method"] != "random_decoded"
        and float(str(row["accuracy"]))
        <= max(
            float(str(row["random"])),
            float(str(shrunken[tuple(str(row[key]) for key in key_fields)]["accuracy"])),
        )
    ]


if __name__ == "__main__":
    main()

"""The default data set: HMDC and M3D on digits at ipc 1 and 10 next to both kinds of random real images, three seeds.

    python scripts/digits_table.py      # writes benchmarks/cpu/digits.csv, or goes on with it

A row is one network of the pool in one run of ``dcond condense``, whose words are in the CSV;
``seconds`` is what the whole command took, imports and evaluation included. ``random`` stands
beside each row, trained by the same run; ``random_decoded`` (four shrunken images in each) has rows
of its own and none beside it, since digits are condensed without packing.
"""

import csv
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

TABLE = Path("benchmarks/cpu/digits.csv")
METHODS = {
    "hmdc": "method=hmdc",
    "m3d": "method=m3d",
    "random_decoded": "method=random method.factor=2 baselines=false",
}


def run(method: str, words: str, folder: Path) -> list[dict[str, object]]:
    """Run one job and return its rows."""
    command = [sys.executable, "-m", "dcond", "condense", *words.split(), f"hydra.run.dir={folder}"]
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
            "accuracy": found["mean"],
            "ci95": found["ci95"],
            "random": random.get(network, {}).get("mean", ""),
            "random_ci95": random.get(network, {}).get("ci95", ""),
            "repeats": len(found["accuracies"]),
            "condense_s": round(result["cost"]["condense_wall_s"], 1),
            "seconds": round(seconds, 1),
            "torch": result["versions"]["torch"],
            "machine": f"{platform.machine()}, {os.cpu_count()} threads",
            "date": datetime.date.today().isoformat(),
            "command": f"dcond condense {words}",
        }
        for network, found in result["evaluation"]["networks"].items()
    ]


def main() -> None:
    rows: list[dict[str, object]] = []
    if TABLE.is_file():
        with TABLE.open() as file:
            rows += csv.DictReader(file)
    known = {row["command"] for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        for method, ipc, seed in itertools.product(METHODS, (1, 10), (0, 1, 2)):
            words = f"{METHODS[method]} ipc={ipc} seed={seed}"
            if f"dcond condense {words}" not in known:
                rows += run(method, words, Path(scratch) / f"{method}_{ipc}_{seed}")
                write(rows)  # after each, so that a sitting that is cut loses one
                print(f"{method}, ipc {ipc}, seed {seed}: {rows[-1]['seconds']} s", flush=True)
    print(f"{len(rows)} rows -> {TABLE}; at or below random real images: {len(beaten(rows))}")


def write(rows: list[dict[str, object]]) -> None:
    """Write the table."""
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def beaten(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the rows that are no better than random images, whole or shrunken, of the same ipc and seed."""
    place = ("ipc", "seed", "network")
    shrunken = {
        tuple(str(row[key]) for key in place): row
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
            float(str(shrunken[tuple(str(row[key]) for key in place)]["accuracy"])),
        )
    ]


if __name__ == "__main__":
    main()

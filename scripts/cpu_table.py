"""Random, herding, k-means, DM and M3D on real images, sized for two CPU cores.

    DCOND_DATA=DIR python scripts/cpu_table.py run        # goes on where it stopped; --workers jobs side by side
    DCOND_DATA=DIR python scripts/cpu_table.py collect    # writes benchmarks/cpu/selection_dm_m3d.csv
    DCOND_DATA=DIR python scripts/cpu_table.py time       # writes benchmarks/cpu/step_seconds.csv; quiet machine
    python scripts/cpu_table.py show                      # the first CSV as the Markdown tables of the docs

Every job is one ``dcond condense experiment=cpu/table ...``; its words are in the CSV. A row is one network trained on
one set; the seeds are independent sets.
"""

import argparse
import csv
import datetime
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dcond.evaluate.results import interval95

DATASETS = ("fashion_mnist", "cifar10")
IPCS = (1, 10)
SEEDS = (0, 1, 2)
METHODS = {  # name in the table: words on the command line
    "random": "method=random",
    "random_decoded": "method=random method.factor=2",
    "herding": "method=herding method.rule.embedding.train_steps=100",
    "kmeans": "method=kmeans method.rule.embedding.train_steps=100",
    "dm": "method=dm method.steps=200 method.batch_real=128",
    "m3d_f1": "method=m3d method.steps=200 method.factor=1",
    "m3d": "method=m3d method.steps=200",
}
ALONE = "max_steps=20 evaluate=false threads=null"  # for the timing
FOLDER = Path("outputs/cpu_table")
TABLE = Path("benchmarks/cpu/selection_dm_m3d.csv")
TIMES = Path("benchmarks/cpu/step_seconds.csv")


def jobs() -> list[tuple[Path, str]]:
    """Return every job's run folder and words, the cheap ones of all kinds first."""
    made = []
    for seed, ipc, dataset, name in itertools.product(SEEDS, IPCS, DATASETS, METHODS):
        words = f"experiment=cpu/table dataset={dataset} ipc={ipc} seed={seed} {METHODS[name]}"
        made.append((FOLDER / f"{name}_{dataset}_ipc{ipc}_seed{seed}", words))
    return made


def status(folder: Path) -> str | None:
    result = folder / "result.json"
    return json.loads(result.read_text())["status"] if result.is_file() else None


def run(job: tuple[Path, str]) -> None:
    folder, words = job
    if status(folder) == "done":
        return
    where = f"resume={folder}" if (folder / "checkpoint.pt").exists() else f"{words} hydra.run.dir={folder}"
    done = subprocess.run(
        [sys.executable, "-m", "dcond", "condense", *where.split()], capture_output=True, text=True, check=False
    )
    print(f"{folder.name}: {'done' if done.returncode == 0 else done.stderr.strip().splitlines()[-1]}", flush=True)


def collect() -> None:
    rows = []
    for folder, words in jobs():
        if status(folder) != "done":
            print(f"missing: {folder.name}", file=sys.stderr)
            continue
        result = json.loads((folder / "result.json").read_text())
        name = folder.name.split(f"_{result['dataset']}_")[0]
        for network, found in result["evaluation"]["networks"].items():
            rows.append(
                {
                    "dataset": result["dataset"],
                    "ipc": result["ipc"],
                    "method": name,
                    "factor": result["factor"],
                    "seed": result["seed"],
                    "network": network,
                    "accuracy": found["mean"],
                    "steps": result["cost"]["steps"],
                    "torch": result["versions"]["torch"],
                    "machine": f"{platform.machine()}, 1 thread",
                    "command": f"dcond condense {words}",
                }
            )
    rows.sort(
        key=lambda row: (row["dataset"], row["ipc"], [*METHODS].index(row["method"]), row["network"], row["seed"])
    )
    write(rows, TABLE)


def cell(values: list[float]) -> str:
    spread = interval95(values)
    return (f"{statistics.fmean(values):.1f}" if values else "") + (f" ± {spread:.1f}" if spread else "")


def show() -> None:
    """Print mean ± half width of the 95 % interval over the seeds, per cent."""
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    networks = list(dict.fromkeys(row["network"] for row in rows))
    for dataset, ipc in itertools.product(DATASETS, IPCS):
        print(f"\n| {dataset}, ipc {ipc} | {' | '.join(networks)} |\n|---|{'---|' * len(networks)}")
        for method in METHODS:
            cells = []
            for network in networks:
                key = (dataset, str(ipc), method, network)
                found = [r for r in rows if (r["dataset"], r["ipc"], r["method"], r["network"]) == key]
                cells.append(cell([100 * float(r["accuracy"]) for r in found]))
            print(f"| {method} | {' | '.join(cells)} |")


def time_steps() -> None:
    """Median seconds per step of the methods that take steps, alone on the machine, with all its threads."""
    rows = []
    for ipc, dataset, name in itertools.product(IPCS, DATASETS, ("dm", "m3d_f1", "m3d")):
        words = f"experiment=cpu/table dataset={dataset} ipc={ipc} {METHODS[name]} {ALONE}"
        folder = FOLDER / f"time_{name}_{dataset}_ipc{ipc}"
        shutil.rmtree(folder, ignore_errors=True)
        run((folder, words))
        result = json.loads((folder / "result.json").read_text())
        rows.append(
            {
                "dataset": dataset,
                "ipc": ipc,
                "method": name,
                "step_s_median": result["cost"]["step_s_median"],
                "peak_memory_bytes": result["cost"]["peak_memory_bytes"],
                "torch": result["versions"]["torch"],
                "machine": f"{platform.machine()}, {os.cpu_count()} threads",
                "date": datetime.date.today().isoformat(),
                "command": f"dcond condense {words}",
            }
        )
    write(rows, TIMES)


def write(rows: list[dict[str, object]], table: Path) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows -> {table}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "collect", "time", "show"))
    parser.add_argument("--workers", type=int, default=2, help="jobs side by side, one thread each")
    options = parser.parse_args()
    if options.what == "collect":
        return collect()
    if options.what == "show":
        return show()
    if options.what == "time":
        return time_steps()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(run, jobs()))
    return collect()


if __name__ == "__main__":
    main()

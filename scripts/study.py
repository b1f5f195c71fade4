"""Studies that compare methods on real images, sized for two CPU cores.

    DCOND_DATA=DIR python scripts/study.py STUDY run        # goes on after the rows of the CSV; --workers side by side
    DCOND_DATA=DIR python scripts/study.py STUDY collect    # writes benchmarks/cpu/STUDY.csv from what is done
    python scripts/study.py STUDY show                      # that CSV as the Markdown tables of the docs
    DCOND_DATA=DIR python scripts/study.py STUDY time       # writes benchmarks/cpu/STUDY_seconds.csv; quiet machine

Every job is one ``dcond condense``; its words are in the CSV. A row is one network trained on one
set; the seeds are independent sets.
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

from studies import STUDIES

from dcond.stats import interval95

SEEDS = (0, 1, 2)
ALONE = "max_steps=20 max_seconds=null evaluate=false threads=null"  # for the timing


def jobs(
    name: str, only: list[str] | None = None, datasets: list[str] | None = None
) -> list[tuple[Path, str]]:
    """Return every job's run folder and words, the cheap ones of all kinds first."""
    made = []
    study = STUDIES[name]
    kinds = (SEEDS, study.words, datasets or study.datasets, only or study.methods)
    for seed, ipc, dataset, method in itertools.product(*kinds):
        folder = Path("outputs/studies") / name / f"{method}_{dataset}_ipc{ipc}_seed{seed}"
        made.append((folder, f"{words(name, ipc, dataset, method)} seed={seed}"))
    return made


def words(name: str, ipc: int, dataset: str, method: str) -> str:
    study = STUDIES[name]
    return " ".join(
        f"{study.common} dataset={dataset} ipc={ipc} {study.methods[method]} {study.words[ipc]}".split()
    )


def table(name: str, what: str = "") -> Path:
    return Path(f"benchmarks/cpu/{name}{what}.csv")


def status(folder: Path) -> str | None:
    result = folder / "result.json"
    return json.loads(result.read_text())["status"] if result.is_file() else None


def recorded(study: str) -> list[dict[str, str]]:
    """Return the rows that are in the CSV already: a study may be made in several sittings, on several machines."""
    if not table(study).is_file():
        return []
    with table(study).open() as file:
        return list(csv.DictReader(file))


def command(words: str) -> str:
    return f"dcond condense {words}"


def run(job: tuple[Path, str]) -> None:
    folder, words = job
    if status(folder) == "done":
        return
    where = (
        f"resume={folder}"
        if (folder / "checkpoint.pt").exists()
        else f"{words} hydra.run.dir={folder}"
    )
    done = subprocess.run(
        [sys.executable, "-m", "dcond", "condense", *where.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    print(f"{folder.name}: {'done' if done.returncode == 0 else said[-1]}", flush=True)


def collect(study: str) -> None:
    rows: list[dict[str, object]] = []
    before = recorded(study)
    for folder, words in jobs(study):
        if status(folder) != "done":
            kept = [row for row in before if row["command"] == command(words)]
            rows += [{**row, "ipc": int(row["ipc"])} for row in kept]
            if not kept:
                print(f"missing: {folder.name}", file=sys.stderr)
            continue
        file = folder / "result.json"
        result = json.loads(file.read_text())
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
                    "condense_s": round(result["cost"]["condense_wall_s"], 1),
                    "torch": result["versions"]["torch"],
                    "machine": f"{platform.machine()}, 1 thread",
                    "date": datetime.date.fromtimestamp(file.stat().st_mtime).isoformat(),
                    "command": command(words),
                }
            )
    order = [*STUDIES[study].methods]
    rows.sort(
        key=lambda row: (
            row["dataset"],
            row["ipc"],
            order.index(row["method"]),
            row["network"],
            str(row["seed"]),
        )
    )
    write(rows, table(study))


def cell(values: list[float]) -> str:
    spread = interval95(values)
    return (f"{statistics.fmean(values):.1f}" if values else "") + (
        f" ± {spread:.1f}" if spread else ""
    )


def show(study: str) -> None:
    """Print mean ± half width of the 95 % interval over the seeds, per cent."""
    rows = recorded(study)
    networks = list(dict.fromkeys(row["network"] for row in rows))
    for dataset, ipc in itertools.product(STUDIES[study].datasets, STUDIES[study].words):
        heads = [*networks, "average"]
        print(f"\n| {dataset}, ipc {ipc} | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
        for method in STUDIES[study].methods:
            found = [row for row in rows if (row["dataset"], row["ipc"]) == (dataset, str(ipc))]
            values = [
                [mean_of(found, method, seed, network) for seed in SEEDS]
                for network in [*networks, None]
            ]
            cells = [cell([value for value in own if value is not None]) for own in values]
            if any(cells):
                print(f"| {method} | {' | '.join(cells)} |")
    show_pairs(study)


def show_pairs(study: str) -> None:
    """Print the differences of the pairs, seed by seed: mean ± half width of the 95 % interval, per cent."""
    rows = recorded(study)
    blocks = list(itertools.product(STUDIES[study].datasets, STUDIES[study].words))
    heads = [
        f"{dataset}, ipc {ipc}: {what}"
        for dataset, ipc in blocks
        for what in ("ConvNet", "average")
    ]
    if STUDIES[study].pairs:
        print(f"\n| difference | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for first, second in STUDIES[study].pairs:
        cells = []
        for dataset, ipc in blocks:
            found = [r for r in rows if (r["dataset"], r["ipc"]) == (dataset, str(ipc))]
            for only in ("ConvNet", None):
                both = [
                    [mean_of(found, method, seed, only) for method in (first, second)]
                    for seed in SEEDS
                ]
                gaps = [a - b for a, b in both if a is not None and b is not None]
                cells.append(
                    f"{statistics.fmean(gaps):+.1f} ± {interval95(gaps):.1f}"
                    if len(gaps) > 1
                    else ""
                )
        if any(cells):
            print(f"| {first} - {second} | {' | '.join(cells)} |")


def mean_of(rows: list[dict[str, str]], method: str, seed: int, only: str | None) -> float | None:
    """Return one network's accuracy, or the mean over the networks, per cent; None where the run is missing."""
    chosen = [row for row in rows if (row["method"], row["seed"]) == (method, str(seed))]
    found = [100 * float(row["accuracy"]) for row in chosen if only in (None, row["network"])]
    return statistics.fmean(found) if found else None


def time_steps(study: str) -> None:
    """Median seconds per step of the methods that take steps, alone on the machine, with all its threads."""
    rows = []
    chosen = STUDIES[study]
    for ipc, dataset, method in itertools.product(chosen.words, chosen.datasets, chosen.methods):
        alone = f"{words(study, ipc, dataset, method)} {ALONE}"
        folder = Path("outputs/studies") / study / f"time_{method}_{dataset}_ipc{ipc}"
        shutil.rmtree(folder, ignore_errors=True)
        run((folder, alone))
        result = json.loads((folder / "result.json").read_text())
        if not result["cost"]["steps"]:
            continue
        rows.append(
            {
                "dataset": dataset,
                "ipc": ipc,
                "method": method,
                "step_s_median": result["cost"]["step_s_median"],
                "peak_memory_bytes": result["cost"]["peak_memory_bytes"],
                "torch": result["versions"]["torch"],
                "machine": f"{platform.machine()}, {os.cpu_count()} threads",
                "date": datetime.date.today().isoformat(),
                "command": f"dcond condense {alone}",
            }
        )
    write(rows, table(study, "_seconds"))


def write(rows: list[dict[str, object]], file_name: Path) -> None:
    if not rows:
        sys.exit(f"nothing is done yet, so there is no {file_name} to write")
    file_name.parent.mkdir(parents=True, exist_ok=True)
    with file_name.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows -> {file_name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("what", choices=("run", "collect", "time", "show"))
    parser.add_argument(
        "--only", nargs="+", metavar="METHOD", help="run these methods of the study, and no others"
    )
    parser.add_argument(
        "--datasets", nargs="+", metavar="DATASET", help="run on these data sets, and no others"
    )
    parser.add_argument("--workers", type=int, default=2, help="jobs side by side, one thread each")
    options = parser.parse_args()
    own = STUDIES[options.study]
    for chosen, known in ((options.only, own.methods), (options.datasets, own.datasets)):
        if unknown := set(chosen or ()) - set(known):
            parser.error(f"{', '.join(sorted(unknown))} not in {options.study}: {', '.join(known)}")
    if options.what == "run":
        done = {row["command"] for row in recorded(options.study)}
        wanted = [
            job
            for job in jobs(options.study, options.only, options.datasets)
            if command(job[1]) not in done
        ]
        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(run, wanted))
    {"run": collect, "collect": collect, "show": show, "time": time_steps}[options.what](
        options.study
    )


if __name__ == "__main__":
    main()

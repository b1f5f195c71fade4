"""Run the studies that compare methods on real images, sized for two CPU cores.

    DCOND_DATA=DIR python scripts/study.py STUDY run      # run what is not in the CSV yet
    DCOND_DATA=DIR python scripts/study.py STUDY collect  # write benchmarks/cpu/STUDY.csv
    python scripts/study.py STUDY show                    # print the CSV as Markdown tables
    DCOND_DATA=DIR python scripts/study.py STUDY time     # write benchmarks/cpu/STUDY_seconds.csv

Every job is one ``dcond condense``, whose command is in the CSV. A row is one network trained on
one set; every seed makes a set of its own. ``--workers`` sets the number of parallel jobs.
``--soft`` gives the sets of finished jobs soft labels and evaluates these, in STUDY_soft.csv;
``--long`` evaluates them by a ConvNet for 100 epochs, in STUDY_long.csv.
``time`` needs a quiet machine.
"""

import argparse
import csv
import datetime
import itertools
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import yaml
from studies import LONG, STUDIES, TEACHER

from dcond.stats import Estimate

SEEDS = (0, 1, 2)
ALONE = "max_steps=20 max_seconds=null evaluate=false threads=null"  # overrides of a timed job


def jobs(
    name: str,
    only: list[str] | None = None,
    datasets: list[str] | None = None,
    ipcs: list[int] | None = None,
) -> list[tuple[Path, str]]:
    """Return the run folder and overrides of every job, cheap jobs first."""
    result = []
    study = STUDIES[name]
    grid = (
        *(SEEDS, ipcs or study.overrides),
        *(datasets or study.datasets, only or study.methods),
    )
    for seed, ipc, dataset, method in itertools.product(*grid):
        folder = Path("outputs/studies") / name / f"{method}_{dataset}_ipc{ipc}_seed{seed}"
        result.append((folder, f"{overrides(name, ipc, dataset, method)} seed={seed}"))
    return result


def overrides(name: str, ipc: int, dataset: str, method: str) -> str:
    """Return the overrides of a job without its seed."""
    study = STUDIES[name]
    limit = study.overrides[ipc]
    if steps := study.steps.get((method, dataset, ipc)):
        limit = re.sub(r"max_seconds=\d+", f"max_steps={steps} engine.precision=float32", limit)
    parts = (study.common, f"dataset={dataset} ipc={ipc}", study.methods[method], limit)
    return " ".join(" ".join(parts).split())


def table(name: str, suffix: str = "") -> Path:
    """Return the path of a study's CSV."""
    return Path(f"benchmarks/cpu/{name}{suffix}.csv")


def status(folder: Path) -> str | None:
    """Return the status in a folder's result.json; None if there is none."""
    result = folder / "result.json"
    return json.loads(result.read_text())["status"] if result.is_file() else None


def is_of(folder: Path, overrides: str) -> bool:
    """Return whether the run in a folder was started with these overrides."""
    file = folder / ".hydra" / "overrides.yaml"
    saved = yaml.safe_load(file.read_text()) if file.is_file() else []
    own = {each.replace("'", "") for each in saved if not each.startswith("hydra.")}
    return own == set(overrides.split())


def recorded(study: str, suffix: str = "") -> list[dict[str, str]]:
    """Return the rows of the CSV, which several sessions and machines can add to."""
    return read(table(study, suffix))


def command(overrides: str) -> str:
    """Return the command of a job, as the CSV has it."""
    return f"dcond condense {overrides}"


def run(job: tuple[Path, str]) -> None:
    """Run a job, or resume it from its checkpoint; skip a finished one."""
    folder, overrides = job
    if (folder / ".hydra").is_dir() and not is_of(folder, overrides):
        print(f"{folder} was run with other settings; remove it to run it again", flush=True)
        return
    if status(folder) == "done":
        return
    arguments = (
        f"resume={folder}"
        if (folder / "checkpoint.pt").exists()
        else f"{overrides} hydra.run.dir={folder}"
    )
    call(folder.name, f"condense {arguments}")


def call(name: str, arguments: str) -> None:
    """Run ``dcond`` and print how it ended."""
    done = subprocess.run(
        [sys.executable, "-m", "dcond", *arguments.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    message = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    print(f"{name}: {'done' if done.returncode == 0 else message[-1]}", flush=True)


def again_commands(study: str, kind: str, folder: str | Path, overrides: str) -> list[str]:
    """Return the arguments that evaluate the set of a job in another way, in ``folder``/KIND.

    Args:
        study: its name.
        kind: "soft": relabelled first; "long": trained on for 100 epochs, by the ConvNet alone.
        folder: of the job's run.
        overrides: of the job.
    """
    seed = overrides.split()[-1]
    if kind == "long":
        return [f"evaluate {folder} {LONG} {seed} hydra.run.dir={folder}/long"]
    own = [word for word in overrides.split() if word.startswith(("+model@pool", "evaluation."))]
    evaluation = " ".join([STUDIES[study].evaluation, *own, seed])
    return [
        f"relabel {folder} {TEACHER} --no-evaluate --out {folder}/soft",
        f"evaluate {folder}/soft {evaluation} hydra.run.dir={folder}/soft",
    ]


def run_again(study: str, kind: str, job: tuple[Path, str]) -> None:
    """Evaluate the set of a finished job in another way; skip what is done."""
    folder, overrides = job
    if status(folder) != "done" or status(folder / kind) == "done":
        return
    *first, evaluate = again_commands(study, kind, folder, overrides)
    if first and not (folder / kind / "synthetic.safetensors").exists():
        call(f"{folder.name}, labels", first[0])
    call(f"{folder.name}, {kind}", evaluate)


def again_command(study: str, kind: str, overrides: str) -> str:
    """Return the commands of a set that is evaluated in another way, as the CSV has them."""
    condense = f"{command(overrides)} hydra.run.dir=RUN"
    again = again_commands(study, kind, "RUN", overrides)
    return " && ".join([condense, *(f"dcond {words}" for words in again)])


def collect(study: str, suffix: str = "") -> None:
    """Write the CSV from the finished runs, and keep the rows of runs made elsewhere."""
    rows: list[dict[str, object]] = []
    before, missing = recorded(study, suffix), 0
    for folder, overrides in jobs(study):
        kind = suffix.removeprefix("_")
        place = folder / kind if kind else folder
        line = again_command(study, kind, overrides) if kind else command(overrides)
        if status(place) != "done" or not is_of(folder, overrides):
            existing = [row for row in before if row["command"] == line]
            rows += [{**row, "ipc": int(row["ipc"])} for row in existing]
            missing += not existing
            continue
        file = place / "result.json"
        result = json.loads((folder / "result.json").read_text())
        name = folder.name.split(f"_{result['dataset']}_")[0]
        evaluated = json.loads(file.read_text())["evaluation"]
        for network, figures in evaluated["networks"].items():
            rows.append(
                {
                    "dataset": result["dataset"],
                    "ipc": result["ipc"],
                    "method": name,
                    "factor": result["factor"],
                    "seed": result["seed"],
                    "network": network,
                    "accuracy": figures["mean"],
                    "steps": result["cost"]["steps"],
                    "condense_s": round(result["cost"]["condense_wall_s"], 1),
                    "torch": result["versions"]["torch"],
                    "machine": f"{platform.machine()}, 1 thread",
                    "date": datetime.date.fromtimestamp(file.stat().st_mtime).isoformat(),
                    "command": line,
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
    if missing:
        print(f"{missing} jobs have no result yet", file=sys.stderr)
    write(rows, table(study, suffix))


def cell(values: list[float]) -> str:
    """Format mean ± half width of the 95 % interval; empty without values."""
    half_width = Estimate(tuple(values)).ci95
    return (f"{statistics.fmean(values):.1f}" if values else "") + (
        f" ± {half_width:.1f}" if half_width else ""
    )


def show(study: str, suffix: str = "") -> None:
    """Print the accuracies: mean ± half width of the 95 % interval over the seeds, in per cent."""
    rows = recorded(study, suffix)
    networks = list(dict.fromkeys(row["network"] for row in rows))
    for dataset, ipc in blocks(study, rows):
        heads = [*networks, "average"]
        print(f"\n| {dataset}, ipc {ipc} | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
        for method in STUDIES[study].methods:
            block = [row for row in rows if (row["dataset"], row["ipc"]) == (dataset, str(ipc))]
            values = [
                [mean_of(block, method, seed, network) for seed in SEEDS]
                for network in [*networks, None]
            ]
            cells = [cell([value for value in own if value is not None]) for own in values]
            if any(cells):
                print(f"| {method} | {' | '.join(cells)} |")
    show_pairs(study, rows)


def blocks(study: str, rows: list[dict[str, str]]) -> list[tuple[str, int]]:
    """Return the data sets and ipc of a study that have rows."""
    found = {(row["dataset"], int(row["ipc"])) for row in rows}
    product = itertools.product(STUDIES[study].datasets, STUDIES[study].overrides)
    return [block for block in product if block in found]


def show_pairs(study: str, rows: list[dict[str, str]]) -> None:
    """Print the paired differences: mean ± half width of the 95 % interval, in per cent."""
    heads = [
        f"{dataset}, ipc {ipc}: {what}"
        for dataset, ipc in blocks(study, rows)
        for what in ("ConvNet", "average")
    ]
    lines = []
    for first, second in STUDIES[study].pairs:
        cells = []
        for dataset, ipc in blocks(study, rows):
            block = [r for r in rows if (r["dataset"], r["ipc"]) == (dataset, str(ipc))]
            for only in ("ConvNet", None):
                both = [
                    [mean_of(block, method, seed, only) for method in (first, second)]
                    for seed in SEEDS
                ]
                gaps = [a - b for a, b in both if a is not None and b is not None]
                cells.append(
                    f"{statistics.fmean(gaps):+.1f} ± {Estimate(tuple(gaps)).ci95:.1f}"
                    if len(gaps) > 1
                    else ""
                )
        if any(cells):
            lines.append(f"| {first} - {second} | {' | '.join(cells)} |")
    if lines:
        print(f"\n| difference | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
        print("\n".join(lines))


def mean_of(rows: list[dict[str, str]], method: str, seed: int, only: str | None) -> float | None:
    """Return the accuracy of a network, or the mean over all, in per cent; None without a run."""
    chosen = [row for row in rows if (row["method"], row["seed"]) == (method, str(seed))]
    values = [100 * float(row["accuracy"]) for row in chosen if only in (None, row["network"])]
    return statistics.fmean(values) if values else None


def time_steps(study: str) -> None:
    """Write the median seconds per step of every method that takes steps, one job at a time."""
    rows = []
    chosen = STUDIES[study]
    for ipc, dataset, method in itertools.product(
        chosen.overrides, chosen.datasets, chosen.methods
    ):
        alone = f"{overrides(study, ipc, dataset, method)} {ALONE}"
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


def read(file_name: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV; none if it is missing."""
    if not file_name.is_file():
        return []
    with file_name.open() as file:
        return list(csv.DictReader(file))


def write(rows: list[dict[str, object]], file_name: Path) -> None:
    """Write rows as CSV; exit if there are none."""
    if not rows:
        sys.exit(f"No finished run: {file_name} is not written.")
    file_name.parent.mkdir(parents=True, exist_ok=True)
    with file_name.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows -> {file_name}")


def main() -> None:
    """Parse the command line and do one of run, collect, show, time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("what", choices=("run", "collect", "time", "show"))
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="run only these methods")
    parser.add_argument(
        "--datasets", nargs="+", metavar="DATASET", help="run only on these data sets"
    )
    parser.add_argument("--ipc", nargs="+", type=int, help="run only these images per class")
    parser.add_argument("--workers", type=int, default=2, help="parallel jobs of one thread each")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--soft", action="store_true", help="the sets with soft labels")
    again.add_argument("--long", action="store_true", help="a ConvNet for 100 epochs")
    options = parser.parse_args()
    own = STUDIES[options.study]
    kind = "soft" if options.soft else "long" if options.long else ""
    if kind and not own.evaluation:
        parser.error(f"{options.study} has no other evaluation")
    for chosen, known in (
        (options.only, own.methods),
        (options.datasets, own.datasets),
        (options.ipc, own.overrides),
    ):
        if unknown := {*map(str, chosen or ())} - {*map(str, known)}:
            parser.error(
                f"{', '.join(sorted(unknown))} unknown in {options.study}; "
                f"allowed: {', '.join(map(str, known))}"
            )
    suffix = f"_{kind}" if kind else ""
    if options.what == "run":
        done = {row["command"] for row in recorded(options.study, suffix)}
        line, task = command, run
        if kind:
            line = partial(again_command, options.study, kind)
            task = partial(run_again, options.study, kind)
        wanted = jobs(options.study, options.only, options.datasets, options.ipc)
        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(task, (job for job in wanted if line(job[1]) not in done)))
    if options.what == "time":
        time_steps(options.study)
    elif options.what == "show":
        show(options.study, suffix)
    else:
        collect(options.study, suffix)


if __name__ == "__main__":
    main()

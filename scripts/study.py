"""Studies that compare methods on real images, sized for two CPU cores.

    DCOND_DATA=DIR python scripts/study.py STUDY run        # goes on after the rows of the CSV; --workers side by side
    DCOND_DATA=DIR python scripts/study.py STUDY collect    # writes benchmarks/cpu/STUDY.csv from what is done
    python scripts/study.py STUDY show                      # that CSV as the Markdown tables of the docs
    DCOND_DATA=DIR python scripts/study.py STUDY time       # writes benchmarks/cpu/STUDY_seconds.csv; quiet machine

Every job is one ``dcond condense``; its words are in the CSV. A row is one network trained on one set; the seeds are
independent sets.
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
from dataclasses import dataclass
from pathlib import Path

from dcond.evaluate.results import interval95

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Study:
    """What is compared: for every method its words on the command line, for every ipc the words of all methods."""

    methods: dict[str, str]
    words: dict[int, str]
    datasets: tuple[str, ...] = ("fashion_mnist", "cifar10")
    common: str = "experiment=cpu/table"
    pairs: tuple[tuple[str, str], ...] = ()  # claims: the first of two is better


HMDC = {  # what HMDC is without its parts
    "hmdc_convnet": "method=hmdc ~learners.networks.ViT",
    "hmdc_vit": "method=hmdc ~learners.networks.ConvNet",
    "hmdc_two": "method=hmdc method.gbm=false method.distillation=none",
    "hmdc_gbm": "method=hmdc method.distillation=none",
    "hmdc_md": "method=hmdc method.gbm=false",
    "hmdc": "method=hmdc",
}
SMALL = (  # two small networks and short runs
    "pool@learners=convnet_vit_small method.steps=60 method.outer=4 method.inner_steps=4 method.lr=0.1 "
    "method.schedule=linear method.choice=random method.batch_real=64 method.batch_train=64"
)
DIGITS = "threads=1 baselines=false tensorboard=false"
FAMILY = "method=degm init=real"  # the noise of the published runs wants thousands of steps
STUDIES = {
    "selection_dm_m3d": Study(
        {
            "random": "method=random",
            "random_decoded": "method=random method.factor=2",
            "herding": "method=herding method.rule.embedding.train_steps=100",
            "kmeans": "method=kmeans method.rule.embedding.train_steps=100",
            "dm": "method=dm method.steps=200 method.batch_real=128",
            "m3d_f1": "method=m3d method.steps=200 method.factor=1",
            "m3d": "method=m3d method.steps=200",
        },
        dict.fromkeys((1, 10), ""),
    ),
    "gradient_matching": Study(  # at equal time
        {
            "dc": f"{FAMILY} method.levels=intra method.distance=rowwise_cosine method.inner=fixed",
            "degm_m": f"{FAMILY} method.distance=rowwise_cosine method.inner=fixed",
            "degm_md": f"{FAMILY} method.inner=fixed",
            "degm_mda": FAMILY,
            "dsa": "method=dsa",
            "idc": "method=idc",
            "dm": "method=dm",
            "m3d": "method=m3d",
        },
        {
            1: "max_seconds=25 method.batch_real=128 engine.compile=false",
            10: "max_seconds=60 method.batch_real=128 engine.compile=false",
        },
        pairs=(("degm_m", "dc"), ("degm_md", "degm_m"), ("degm_mda", "degm_md"), ("degm_mda", "dc")),
    ),
    "inner_epochs": Study(  # at equal steps
        {f"degm_md_t{epochs}": f"{FAMILY} method.inner=fixed method.inner_epochs={epochs}" for epochs in (1, 10, 50)},
        {10: "method.steps=27 method.batch_real=128 engine.compile=false"},
        datasets=("fashion_mnist",),
        pairs=(("degm_md_t1", "degm_md_t50"), ("degm_md_t10", "degm_md_t50")),
    ),
    "precision": Study(  # the same run in float32 and in the default mixed mode
        {"exact": "engine=exact", "mixed": "engine.precision=bfloat16 engine.compile=false"},
        {10: "method=dsa method.batch_real=128 method.steps=40 method.inner_epochs=5"},
        pairs=(("mixed", "exact"),),
        datasets=("cifar10",),
    ),
    "precision_features": Study(  # the same for what embeds real images
        {
            f"{method}_{name}": f"method={method} {words}"
            for method in ("dm", "m3d")
            for name, words in (("exact", "engine=exact"), ("mixed", "engine.precision=bfloat16 engine.compile=false"))
        },
        {10: "method.batch_real=128 method.steps=60"},
        pairs=(("dm_mixed", "dm_exact"), ("m3d_mixed", "m3d_exact")),
        datasets=("cifar10",),
    ),
    "hmdc_digits": Study(  # beside methods with one network
        {"dm": "method=dm method.steps=500", "m3d": "method=m3d", **HMDC},
        {1: ""},
        datasets=("digits",),
        common=DIGITS,
        pairs=(("hmdc_two", "hmdc_convnet"), ("hmdc", "hmdc_convnet"), ("hmdc", "hmdc_two")),
    ),
    "hmdc_outer": Study(  # networks that learn for longer before new ones come
        {
            f"{name}_o{outer}": f"{HMDC[name]} method.outer={outer}"
            for outer in (20, 80)
            for name in ("hmdc_convnet", "hmdc_two", "hmdc")
        },
        {1: ""},
        datasets=("digits",),
        common=DIGITS,
        pairs=tuple(
            (f"{name}_o{outer}", f"hmdc_convnet_o{outer}") for outer in (20, 80) for name in ("hmdc_two", "hmdc")
        ),
    ),
    "hmdc_steps": Study(  # four and sixteen times the steps: what one network's set loses, and two networks' keeps
        {
            f"{name}_s{steps}": f"{HMDC[name]} method.steps={steps}"
            for steps in (320, 1280)
            for name in ("hmdc_convnet", "hmdc_two")
        },
        {1: ""},
        datasets=("digits",),
        common=DIGITS,
        pairs=tuple((f"hmdc_two_s{steps}", f"hmdc_convnet_s{steps}") for steps in (320, 1280)),
    ),
    "hmdc": Study(  # every family of methods in the time of two networks; HMDC's own rows at equal steps
        {
            "random_decoded": "method=random method.factor=2",
            **{
                method: f"method={method} method.batch_real=128 max_seconds=150"
                for method in ("dsa", "idc", "dm", "m3d")
            },
            **{name: f"{words} {SMALL}" for name, words in HMDC.items()},
        },
        {1: "engine.compile=false", 10: "engine.compile=false"},
        common="experiment=cpu/table +model@pool.networks.ViT=vit_small",
        pairs=(
            *(("hmdc_two", method) for method in ("hmdc_convnet", "idc", "dsa", "dm", "m3d")),
            ("hmdc", "hmdc_convnet"),
            ("hmdc", "hmdc_two"),
        ),
    ),
}
ALONE = "max_steps=20 max_seconds=null evaluate=false threads=null"  # for the timing


def jobs(name: str, only: list[str] | None = None) -> list[tuple[Path, str]]:
    """Return every job's run folder and words, the cheap ones of all kinds first."""
    made = []
    study = STUDIES[name]
    for seed, ipc, dataset, method in itertools.product(SEEDS, study.words, study.datasets, only or study.methods):
        folder = Path("outputs/studies") / name / f"{method}_{dataset}_ipc{ipc}_seed{seed}"
        made.append((folder, f"{words(name, ipc, dataset, method)} seed={seed}"))
    return made


def words(name: str, ipc: int, dataset: str, method: str) -> str:
    study = STUDIES[name]
    return " ".join(f"{study.common} dataset={dataset} ipc={ipc} {study.methods[method]} {study.words[ipc]}".split())


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
    where = f"resume={folder}" if (folder / "checkpoint.pt").exists() else f"{words} hydra.run.dir={folder}"
    done = subprocess.run(
        [sys.executable, "-m", "dcond", "condense", *where.split()], capture_output=True, text=True, check=False
    )
    print(f"{folder.name}: {'done' if done.returncode == 0 else done.stderr.strip().splitlines()[-1]}", flush=True)


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
                    "condense_s": round(result["cost"]["condense_wall_s"], 1),
                    "torch": result["versions"]["torch"],
                    "machine": f"{platform.machine()}, 1 thread",
                    "command": command(words),
                }
            )
    order = [*STUDIES[study].methods]
    rows.sort(
        key=lambda row: (row["dataset"], row["ipc"], order.index(row["method"]), row["network"], str(row["seed"]))
    )
    write(rows, table(study))


def cell(values: list[float]) -> str:
    spread = interval95(values)
    return (f"{statistics.fmean(values):.1f}" if values else "") + (f" ± {spread:.1f}" if spread else "")


def show(study: str) -> None:
    """Print mean ± half width of the 95 % interval over the seeds, per cent."""
    rows = recorded(study)
    networks = list(dict.fromkeys(row["network"] for row in rows))
    for dataset, ipc in itertools.product(STUDIES[study].datasets, STUDIES[study].words):
        heads = [*networks, "average"]
        print(f"\n| {dataset}, ipc {ipc} | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
        for method in STUDIES[study].methods:
            found = [row for row in rows if (row["dataset"], row["ipc"]) == (dataset, str(ipc))]
            values = [[mean_of(found, method, seed, network) for seed in SEEDS] for network in [*networks, None]]
            cells = [cell([value for value in own if value is not None]) for own in values]
            print(f"| {method} | {' | '.join(cells)} |")
    show_pairs(study)


def show_pairs(study: str) -> None:
    """Print the differences of the pairs, seed by seed: mean ± half width of the 95 % interval, per cent."""
    rows = recorded(study)
    blocks = list(itertools.product(STUDIES[study].datasets, STUDIES[study].words))
    heads = [f"{dataset}, ipc {ipc}: {what}" for dataset, ipc in blocks for what in ("ConvNet", "average")]
    if STUDIES[study].pairs:
        print(f"\n| difference | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for first, second in STUDIES[study].pairs:
        cells = []
        for dataset, ipc in blocks:
            found = [r for r in rows if (r["dataset"], r["ipc"]) == (dataset, str(ipc))]
            for only in ("ConvNet", None):
                both = [[mean_of(found, method, seed, only) for method in (first, second)] for seed in SEEDS]
                gaps = [a - b for a, b in both if a is not None and b is not None]
                cells.append(f"{statistics.fmean(gaps):+.1f} ± {interval95(gaps):.1f}" if len(gaps) > 1 else "")
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
    file_name.parent.mkdir(parents=True, exist_ok=True)
    with file_name.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows -> {file_name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("what", choices=("run", "collect", "time", "show"))
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="run these methods of the study, and no others")
    parser.add_argument("--workers", type=int, default=2, help="jobs side by side, one thread each")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - set(STUDIES[options.study].methods):
        parser.error(
            f"{', '.join(sorted(unknown))} not in {options.study}: {', '.join(STUDIES[options.study].methods)}"
        )
    if options.what == "run":
        done = {row["command"] for row in recorded(options.study)}
        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(run, [job for job in jobs(options.study, options.only) if command(job[1]) not in done]))
    {"run": collect, "collect": collect, "show": show, "time": time_steps}[options.what](options.study)


if __name__ == "__main__":
    main()

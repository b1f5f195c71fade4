"""Run published settings on a CPU, and compare their accuracies with the published ones.

    DCOND_DATA=DIR python scripts/published.py run [ROW ...]   # all rows without a result, or these
    python scripts/published.py collect                        # write benchmarks/cpu/published.csv
    python scripts/published.py show                           # print the CSV as a Markdown table

Every row is one ``dcond condense`` with the settings of the paper, seed 0, and three evaluation
networks; a row that was interrupted goes on from its checkpoint. What differs from the published
settings is in its command: a bank of real targets, or fewer steps.
"""

import argparse
import datetime
import json
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study import cell, command, is_of, read, run, status, write

TABLE = Path("benchmarks/cpu/published.csv")
SELECTION = "dataset.stats=legacy pool=convnet evaluation=dsa1000"
UNAUGMENTED = "dataset.stats=legacy pool=convnet evaluation=dc300"  # DC's own protocol
BASELINES = ("random", "random_decoded")  # columns, named as in result.json
ALONE = "baselines=false"  # random images would take as long as the set
BANK, FEWER = "method.targets=300", "method.targets=100"


@dataclass(frozen=True)
class Row:
    """A published figure and the run that is compared with it.

    Args:
        method: name in the table.
        dataset: option of the group ``dataset``.
        ipc: images per class.
        published: test accuracy in per cent; None if the paper has none.
        steps: image updates of the published run; 0 for selections.
        overrides: of the command, without data set and ipc.
    """

    method: str
    dataset: str
    ipc: int
    published: float | None
    steps: int
    overrides: str

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path("outputs/published") / f"{self.method}_{self.dataset}_{self.ipc}"

    @property
    def arguments(self) -> str:
        """Overrides of the command."""
        return (
            f"{self.overrides} dataset={self.dataset} ipc={self.ipc} evaluation.repeats=3 threads=1"
        )


ROWS = (
    Row("M3D", "cifar10", 1, 45.3, 10000, f"experiment=m3d {BANK}"),
    Row("DM", "cifar10", 1, 26.0, 20000, f"experiment=dm {BANK}"),
    Row("DSA", "cifar10", 1, 28.8, 1000, "experiment=dsa method.targets=200"),
    Row("DC", "cifar10", 1, 28.3, 1000, f"experiment=dc {FEWER}"),
    Row("DEGM-MDA", "cifar10", 1, 30.0, 1000, f"experiment=degm/mda {FEWER}"),
    Row("DEGM-M", "cifar10", 1, None, 1000, f"experiment=degm/m {FEWER}"),
    Row("DEGM-DC", "cifar10", 1, None, 1000, f"experiment=degm/dc {FEWER}"),
    Row("DSA", "fashion_mnist", 1, 70.6, 1000, f"experiment=dsa {FEWER}"),
    Row("DC", "fashion_mnist", 1, 70.5, 1000, f"experiment=dc {FEWER}"),
    Row("DEGM-MDA", "fashion_mnist", 1, 71.4, 1000, f"experiment=degm/mda {FEWER}"),
    Row("DEGM-M", "fashion_mnist", 1, None, 1000, f"experiment=degm/m {FEWER}"),
    Row("DEGM-DC", "fashion_mnist", 1, None, 1000, f"experiment=degm/dc {FEWER}"),
    Row("DM", "fashion_mnist", 1, None, 20000, f"experiment=dm {BANK}"),
    Row("random", "cifar10", 1, 14.4, 0, f"method=random {SELECTION}"),
    Row("herding", "cifar10", 1, 21.5, 0, f"method=herding {SELECTION}"),
    Row("k-means", "cifar10", 1, 25.2, 0, f"method=kmeans {SELECTION}"),
    Row("random", "cifar10", 10, 26.0, 0, f"method=random {SELECTION} {ALONE}"),
    Row("random-dc300", "cifar10", 10, 26.0, 0, f"method=random {UNAUGMENTED} {ALONE}"),
    Row("herding", "cifar10", 10, 31.6, 0, f"method=herding {SELECTION} {ALONE}"),
    Row("herding-dc300", "cifar10", 10, 31.6, 0, f"method=herding {UNAUGMENTED} {ALONE}"),
    Row("k-means", "cifar10", 10, 41.5, 0, f"method=kmeans {SELECTION} {ALONE}"),
    Row("random", "cifar10", 50, 43.4, 0, f"method=random {UNAUGMENTED} {ALONE}"),
    Row("DM", "cifar10", 10, 48.9, 20000, f"experiment=dm {BANK} {ALONE}"),
    Row("M3D", "cifar10", 10, 63.5, 10000, f"experiment=m3d {BANK} method.steps=2000 {ALONE}"),
)


def collect() -> None:
    """Write the CSV from the finished runs, and keep the rows of runs made elsewhere."""
    before = {row["command"]: row for row in read(TABLE)}
    rows: list[dict[str, object]] = []
    for row in ROWS:
        if status(row.folder) != "done" or not is_of(row.folder, f"{row.arguments} seed=0"):
            kept = before.get(f"{command(row.arguments)} seed=0")
            rows += [dict(kept)] if kept else []
            continue
        file = row.folder / "result.json"
        result = json.loads(file.read_text())
        (found,) = result["evaluation"]["networks"].values()
        rows.append(
            {
                "method": row.method,
                "dataset": row.dataset,
                "ipc": row.ipc,
                "published": row.published,
                "accuracies": percents(found),
                **{name: percents(own) for name, own in baselines(result).items()},
                "published_steps": row.steps,
                "steps": result["cost"]["steps"],
                "condense_s": round(result["cost"]["condense_wall_s"]),
                "evaluate_s": round(result["cost"]["evaluate_wall_s"]),
                "protocol": result["evaluation"]["protocol"],
                "torch": result["versions"]["torch"],
                "machine": f"{platform.machine()}, 1 thread",
                "date": datetime.date.fromtimestamp(file.stat().st_mtime).isoformat(),
                "command": f"{command(row.arguments)} seed=0",
            }
        )
    write(rows, TABLE)


def baselines(result: dict[str, Any]) -> dict[str, dict[str, Any] | None]:
    """Return what the network reached on random images: whole, and shrunken as the set's are."""
    found = {}
    for name in BASELINES:
        evaluated = result["baselines"][name]
        found[name] = next(iter(evaluated["networks"].values())) if evaluated else None
    return found


def percents(network: dict[str, Any] | None) -> str:
    """Return the accuracies of the repeats in per cent; empty without any."""
    return " ".join(f"{100 * value:.2f}" for value in network["accuracies"]) if network else ""


def show() -> None:
    """Print the CSV: mean ± half width of the 95 % interval over the networks, in per cent."""
    heads = ("row", "published", "reached", "difference", "random", "shrunken random")
    heads += ("steps, of published", "protocol")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in read(TABLE):
        values = [float(value) for value in row["accuracies"].split()]
        mean = statistics.fmean(values)
        steps = f"{int(row['steps']):,} of {int(row['published_steps']):,}"
        cells = [
            f"{row['method']}, {row['dataset']}, ipc {row['ipc']}",
            row["published"] or "–",
            cell(values),
            f"{mean - float(row['published']):+.1f}" if row["published"] else "",
            *(cell([float(value) for value in row[name].split()]) for name in BASELINES),
            steps if int(row["steps"]) else "",
            row["protocol"],
        ]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    """Parse the command line and do one of run, collect, show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "collect", "show"))
    parser.add_argument("rows", nargs="*", help="run only these, such as M3D_cifar10_1")
    options = parser.parse_args()
    names = [row.folder.name for row in ROWS]
    if unknown := set(options.rows) - set(names):
        parser.error(f"{', '.join(sorted(unknown))} unknown; allowed: {', '.join(names)}")
    if options.what == "run":
        for row in ROWS:
            if row.folder.name in (options.rows or names):
                run((row.folder, f"{row.arguments} seed=0"))
    {"run": collect, "collect": collect, "show": show}[options.what]()


if __name__ == "__main__":
    main()

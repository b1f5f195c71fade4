"""Accuracy over image steps of a study whose jobs have ``loop.evaluate_every``.

    DCOND_DATA=DIR python scripts/study.py STUDY run    # runs may go on, or be interrupted
    python scripts/curves.py STUDY collect              # write benchmarks/cpu/STUDY_curves.csv
    python scripts/curves.py STUDY draw                 # docs/images/STUDY.png
    python scripts/curves.py STUDY show                 # print a Markdown table

Of a run that was stopped, the accuracies until then are taken. A job without steps, such as a
selection of real images, has one evaluation, at step 0.
"""

import argparse
import datetime
import json
from itertools import groupby
from pathlib import Path
from typing import Any

from studies import STUDIES
from study import command, jobs, recorded, table, write

AVERAGE = "average"
PREFIX = "evaluate/"
SHOWN = (0, 250, 500, 1000, 2000, 3000, 4000, 5000)  # steps in the table


def collect(study: str) -> None:
    """Write the CSV from the runs' metrics, and keep the rows of runs made elsewhere."""
    rows: list[dict[str, object]] = []
    for folder, overrides in jobs(study):
        line = command(overrides)
        file = folder / "result.json"
        if not file.is_file():  # made elsewhere, or still running
            rows += [dict(row) for row in recorded(study, "_curves") if row["command"] == line]
            continue
        result = json.loads(file.read_text())
        date = datetime.date.fromtimestamp(file.stat().st_mtime).isoformat()
        rows += [
            {
                "method": folder.name.split(f"_{result['dataset']}_")[0],
                "seed": result["seed"],
                "step": step,
                "network": network,
                "accuracy": f"{accuracy:.4f}",
                "torch": result["versions"]["torch"],
                "date": date,
                "command": line,
            }
            for step, accuracies in evaluations(folder, result).items()
            for network, accuracy in accuracies.items()
        ]
    write(rows, table(study, "_curves"))


def evaluations(folder: Path, result: dict[str, Any]) -> dict[int, dict[str, float]]:
    """Return the accuracies by step and network: those along the run, and that at its end."""
    found = {}
    if (folder / "metrics.jsonl").is_file():
        for record in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()):
            own = {
                key.removeprefix(PREFIX): x for key, x in record.items() if key.startswith(PREFIX)
            }
            if own:
                found[record["step"]] = own
    if evaluation := result["evaluation"]:
        own = {name: each["mean"] for name, each in evaluation["networks"].items()}
        found[result["cost"]["steps"]] = {**own, AVERAGE: sum(own.values()) / len(own)}
    return found


def curves(study: str) -> dict[str, dict[str, dict[int, float]]]:
    """Return the accuracies in per cent: by network, by method, by step; means over the seeds."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    order = list(STUDIES[study].methods)

    def key(row: dict[str, str]) -> tuple[str, int, int]:
        return row["network"], order.index(row["method"]), int(row["step"])

    for (network, method, step), group in groupby(sorted(recorded(study, "_curves"), key=key), key):
        values = [100 * float(row["accuracy"]) for row in group]
        own = found.setdefault(network, {}).setdefault(order[method], {})
        own[step] = sum(values) / len(values)
    return found


def draw(study: str) -> None:
    """Draw a panel per network, accuracy over steps; step 0 alone as a dashed line."""
    import matplotlib.pyplot as plt

    found = curves(study)
    names = [AVERAGE, *(name for name in found if name != AVERAGE)]
    size = (3 * len(names), 3.2)
    figure, panels = plt.subplots(1, len(names), figsize=size, sharey=True, layout="constrained")
    for panel, name in zip(panels, names, strict=True):
        for index, (method, points) in enumerate(found[name].items()):
            if list(points) == [0]:
                panel.axhline(points[0], color=f"C{index}", linestyle="--", label=method)
            else:
                panel.plot([*points], [*points.values()], color=f"C{index}", label=method)
        panel.set(title=name, xlabel="image steps")
    panels[0].set_ylabel("test accuracy, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(f"docs/images/{study}.png", dpi=130)


def show(study: str) -> None:
    """Print the average over the networks, in per cent, at some steps."""
    found = curves(study)[AVERAGE]
    steps = [step for step in SHOWN if any(step in points for points in found.values())]
    print(f"| average, % | {' | '.join(f'{step:,}' for step in steps)} |")
    print(f"|---|{'---|' * len(steps)}")
    for method, points in found.items():
        cells = [f"{points[step]:.1f}" if step in points else "" for step in steps]
        print(f"| {method} | {' | '.join(cells)} |")


def main() -> None:
    """Parse the command line and do one of collect, draw, show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("what", choices=("collect", "draw", "show"))
    options = parser.parse_args()
    {"collect": collect, "draw": draw, "show": show}[options.what](options.study)


if __name__ == "__main__":
    main()

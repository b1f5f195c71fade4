"""Plot how the cost of a step grows, from the CSV of bench.py: a panel per series.

python benchmarks/growth.py benchmarks/cpu/bench.csv docs/images/growth_cpu.png
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from bench import BASE, SERIES
from made_up import read_rows

TITLES = {
    "classes": "classes",
    "ipc": "images per class",
    "batch_real": "real images per class",
    "size": "image side",
}


def series(rows: list[dict[str, str]], name: str, method: str) -> dict[int, tuple[float, float]]:
    """Return (seconds, plain seconds) by the value that grows; the rest is as at the base point."""
    fixed = {key: str(value) for key, value in BASE.items() if key != name}
    own = [
        row
        for row in rows
        if row["method"] == method and all(row[key] == fixed[key] for key in fixed)
    ]
    points = {int(row[name]): (float(row["seconds"]), float(row["plain_seconds"])) for row in own}
    return dict(sorted(points.items()))


def main() -> None:
    """Plot a CSV into a PNG file."""
    table, picture = map(Path, sys.argv[1:])
    rows = [row for row in read_rows(table) if row["status"] == "done"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure, axes = plt.subplots(
        1, len(SERIES), figsize=(13, 3.6), sharey=True, layout="constrained"
    )
    for axis, name in zip(axes, SERIES, strict=True):
        for number, method in enumerate(methods):
            points = series(rows, name, method)
            for form, style in enumerate(("-", ":")):
                values = [pair[form] for pair in points.values()]
                label = method.upper() if form == 0 else None
                axis.plot(
                    list(points), values, style, marker="o", ms=3, color=f"C{number}", label=label
                )
        axis.set(xscale="log", yscale="log", xlabel=TITLES[name])
        axis.set_xticks(SERIES[name], [str(value) for value in SERIES[name]])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds per step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    days = sorted({row["date"] for row in rows})
    where = f"{rows[0]['machine']}, torch {rows[0]['torch']}, {' and '.join(days)}"
    base = ", ".join(f"{TITLES[key]} {value}" for key, value in BASE.items())
    figure.suptitle(f"{where}. Solid: dcond, dotted: plain loop. Elsewhere: {base}", fontsize=9)
    figure.savefig(picture, dpi=90)
    print(picture)


if __name__ == "__main__":
    main()

"""Counts of injected faults and their problems, as rows of a CSV that several sessions fill."""

import csv
import datetime
import fcntl
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch

SEED = 7


@dataclass
class Tally:
    """Tries and problems of each fault, a row each in the file of ``--faults-csv``."""

    kills: int
    rows: list[dict[str, object]] = field(default_factory=list)

    def __call__(self, fault: str, subject: str, tries: int, problems: list[str]) -> None:
        self.rows.append(
            {
                "fault": fault,
                "subject": subject,
                "tries": tries,
                "problems": len(problems),
                "seed": SEED,
                "torch": torch.__version__,
                "machine": platform.machine(),
                "date": datetime.date.today().isoformat(),
                "command": f"pytest --runslow tests/faults --kills {self.kills}",
            }
        )
        assert problems == [], problems


def merge(rows: list[dict[str, object]], path: Path) -> None:
    """Write rows into a CSV in place of those of the same fault and subject, under a lock."""
    if not rows:
        return
    with path.open("a+", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = {(row["fault"], row["subject"]): row for row in [*csv.DictReader(file), *rows]}
        file.truncate(0)
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(known[key] for key in sorted(known))

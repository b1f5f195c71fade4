"""What lies beside a ``result.json`` where it is kept: loss curves from ``metrics.jsonl``, a picture of the images."""

import base64
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dcond.report.record import RunRecord

LOSS = "condense/loss"
MOST_POINTS = 400  # of a drawn curve
MOST_PIXELS = 900  # of a picture's longer side


@dataclass(frozen=True)
class Curve:
    """One run's loss at the steps where it was recorded."""

    folder: Path
    steps: tuple[int, ...]
    losses: tuple[float, ...]


def curves(outcomes: Iterable[RunRecord]) -> list[Curve]:
    """Read the loss of every run that has recorded one; lines that cannot be read, such as the last, are left out."""
    found = []
    for outcome in outcomes:
        try:
            lines = (
                (outcome.folder / "metrics.jsonl")
                .read_text(encoding="utf-8", errors="replace")
                .splitlines()
            )
        except OSError:
            continue
        points = [point for line in lines if (point := _point(line)) is not None]
        if points:
            points = [*points[: -1 : max(1, len(points) // MOST_POINTS)], points[-1]]
            steps, losses = zip(*points, strict=True)
            found.append(Curve(outcome.folder, steps, losses))
    return found


def _point(line: str) -> tuple[int, float] | None:
    try:
        record = json.loads(line)
        step, loss = int(record["step"]), float(record[LOSS])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return (step, loss) if math.isfinite(loss) else None


def picture(folder: Path) -> str | None:
    """Return a run's ``grid.png`` as a data URI, drawn anew and shrunk if it is large; None where there is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(folder / "grid.png", formats=["PNG"]) as image:
            image.thumbnail((MOST_PIXELS, MOST_PIXELS))
            file = io.BytesIO()
            image.convert("L" if image.mode in ("L", "1", "I;16") else "RGB").save(
                file, format="PNG", optimize=True
            )
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

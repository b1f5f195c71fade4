"""Metrics of a run: ``metrics.jsonl`` is the record, TensorBoard a view of it."""

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dcond.paths import write_atomically, write_text
from dcond.run.result import TEST, RunResult, flat_settings

END = ".end"  # of the name of the event file that says how a run ended
LONGEST = 6400  # pixels per side of a picture of the images: 100 images of 64


class NullRecorder:
    """Records nothing: for a run without a folder, and for all processes but rank 0."""

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Record named numbers at a step."""

    def image(self, name: str, picture: Tensor, step: int) -> None:
        """Record a picture (c, h, w) in [0, 1]; TensorBoard only."""

    def outcome(self, results: Mapping[str, float], step: int, *, done: bool) -> None:
        """Record the final figures, and whether the run finished; TensorBoard only."""

    def flush(self) -> None:
        """Write all records to disk."""

    def close(self) -> None:
        """Flush and close."""


class Recorder(NullRecorder):
    """Writes the metrics of one run into its folder.

    Args:
        folder: the run folder.
        after_step: the step that a resumed run starts from; later records are dropped, so that no
            step is counted twice.
        tensorboard: also write event files.
    """

    def __init__(self, folder: Path, *, after_step: int = 0, tensorboard: bool = True):
        self._path = folder / "metrics.jsonl"
        if self._path.exists():
            self._truncate(after_step)
            # TensorBoard shows the first settings and the first end of a session that it finds.
            for events in folder.glob(f"events.out.tfevents.*{END if after_step else ''}"):
                events.unlink(missing_ok=True)
        self._file = self._path.open("a", encoding="utf-8")
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and optional

            _wait_for_next_second(folder)
            # Hides what was recorded from this step on; everything, where a new run starts.
            purge_step = after_step + 1 if after_step else 0
            self._make_writer = SummaryWriter
            self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def _truncate(self, after_step: int) -> None:
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        text = "".join(
            f"{line}\n"
            for line in lines
            if (step := _step(line)) is not None and step <= after_step
        )
        write_text(self._path, text)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Record named numbers at a step."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def image(self, name: str, picture: Tensor, step: int) -> None:
        """Record a picture (c, h, w) in [0, 1]; TensorBoard only."""
        if self._writer is not None:
            self._writer.add_image(name, picture, step)

    def settings(self, values: Mapping[str, str | float | int | bool]) -> None:
        """Record the run's settings for TensorBoard's hyper-parameter view, as a running session.

        ``add_hparams`` would also write the columns of the view, and TensorBoard takes those of any
        one run for all. Without them it collects the columns of every run, so that runs of
        different methods can be compared.
        """
        if self._writer is not None:
            from tensorboard.plugins.hparams.summary_v2 import hparams_pb

            self._writer.file_writer.add_summary(hparams_pb(dict(values)))

    def outcome(self, results: Mapping[str, float], step: int, *, done: bool) -> None:
        """Record the final figures, and whether the run finished; TensorBoard only."""
        if self._writer is not None:
            for name, value in results.items():
                self._writer.add_scalar(name, value, step)
            with self._make_writer(str(self._path.parent), filename_suffix=END) as ends:
                ends.file_writer.add_summary(_session_end(done))

    def flush(self) -> None:
        """Write all records to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flush and close both files."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def _wait_for_next_second(folder: Path) -> None:
    """Wait until a new event file gets a later second in its name than the existing ones.

    TensorBoard reads event files in the order of their names, SECONDS.HOST.PID.COUNT, where within
    one second ``.10`` sorts before ``.9``: it would hide the new records instead of the old ones.
    """
    seconds = [
        int(found[1])
        for file in folder.glob("events.out.tfevents.*")
        if (found := re.match(r"events\.out\.tfevents\.(\d+)\.", file.name))
    ]
    remaining = max(seconds, default=0) + 1 - time.time()
    if 0 < remaining <= 1:  # more: written by a machine whose clock is ahead
        time.sleep(remaining)


def _step(line: str) -> int | None:
    """Return the step of a record; None if a crash or a damaged disk left only part of it."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if isinstance(step, int) else None


def _session_end(done: bool) -> Any:
    """Return the summary that ends a session of the hyper-parameter view.

    TensorBoard's own function for it needs TensorFlow.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.STATUS_SUCCESS if done else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    content = metadata.create_summary_metadata(
        plugin_data_pb2.HParamsPluginData(session_end_info=end)
    )
    summary = Summary()
    summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG, metadata=content, tensor=metadata.NULL_TENSOR
    )
    return summary


def tensorboard_settings(result: RunResult) -> dict[str, str | int | float | bool]:
    """Return the choices and the method's own values, for TensorBoard's view of settings."""
    own = flat_settings({"method": (result.config or {}).get("method")})
    shown = {
        name: value
        for name, value in own.items()
        if value is not None
        and not name.rpartition(".")[2].startswith("_")
        and not str(value).startswith("${")
    }
    test_on = (result.config or {}).get("test_on", TEST)
    names = {"ipc": result.ipc or 0, "seed": result.seed or 0, "test_on": test_on}
    return {**(result.choices or {}), **shown, **names}


def tensorboard_figures(result: RunResult) -> dict[str, float]:
    """Return the final figures that are known, for the same view."""
    shown = {
        f"cost/{name}": float(value)
        for name, value in vars(result.cost).items()
        if value is not None
    }
    if (evaluation := result.evaluation) is not None:
        networks = evaluation.networks.items()
        shown |= {f"evaluate/{name}": network.mean for name, network in networks}
        shown["evaluate/average"] = evaluation.average
    return shown


def grid(images: Tensor, ipc: int, limit: int = 100) -> Tensor:
    """Lay images (n, c, h, w) out as one picture (c, H, W), clipped to [0, 1]: a row per class.

    With one image per class, ten classes share a row.

    Args:
        images: in pixel space, class-major.
        ipc: images per class.
        limit: largest number of rows and of columns; fewer if the picture would exceed
            :data:`LONGEST` pixels per side. The other images are not shown.
    """
    from torchvision.utils import make_grid

    limit = min(limit, max(1, LONGEST // max(images.shape[-2:])))
    shown = images.detach()
    if ipc > 1:
        shown = shown.view(-1, ipc, *images.shape[1:])[:limit, :limit].flatten(0, 1)
    per_row = min(10 if ipc == 1 else ipc, limit)
    picture: Tensor = make_grid(
        shown[: limit * per_row].cpu().clamp(0, 1), nrow=per_row, padding=1, pad_value=1.0
    )
    return picture


def save_png(picture: Tensor, path: Path, *, min_side: int = 320) -> None:
    """Write a picture (c, h, w) in [0, 1] as PNG, enlarged to at least ``min_side`` pixels."""
    scale = max(1, min_side // min(picture.shape[-2:]))
    enlarged = picture.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    levels = (enlarged * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    image = Image.fromarray(levels.squeeze(2) if levels.shape[2] == 1 else levels)
    write_atomically(path, lambda file: image.save(file, format="PNG"))

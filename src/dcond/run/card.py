"""``README.md`` of a run folder: what the set is, and how to use and to reproduce it."""

import json
import logging
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcond.paths import write_text
from dcond.run.result import ACCURACY, OF_ENVIRONMENT, PLACE, TEST, RunResult, flat_settings
from dcond.run.tables import (
    BASELINE_TITLES,
    accuracy_caption,
    accuracy_rows,
    markdown_table,
    random_labels,
)
from dcond.types import SyntheticSet

log = logging.getLogger(__name__)

NAME = "README.md"
MARK = "<!-- Written by dcond; a later run replaces this file. -->\n"
_LOCAL = re.compile(r"(hydra|paths|resume|threads)\b|.+\.data_dir$")

USE = """
## Use

With dcond, decoded and normalised as networks take them:

```python
import dcond

images, labels = dcond.load("synthetic.safetensors").dataset().tensors
```

Without it:

```python
import json

import torch{imports}
from safetensors import safe_open

with safe_open("synthetic.safetensors", framework="pt") as file:
    metadata = file.metadata()
    images, labels = file.get_tensor("images"), file.get_tensor("labels")  # (n, c, h, w), {labels}
{decode}mean, std = (torch.tensor(json.loads(metadata[name])) for name in ("mean", "std"))
# Normalise test images in the same way, from pixels in [0, 1].
{whiten}images = (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
class_names = json.loads(metadata["class_names"])
```
"""
WHITEN = """\
with safe_open("synthetic.safetensors", framework="pt") as file:
    zca_mean, zca_matrix = file.get_tensor("zca_mean"), file.get_tensor("zca_matrix")
images = ((images.flatten(1) - zca_mean) @ zca_matrix).view(images.shape)
"""
DECODE = """\
# Each image holds {squared} smaller ones.
f, (n, c, h, w) = {factor}, images.shape
ch, cw = -(-h // f), -(-w // f)
cells = functional.pad(images, (0, cw * f - w, 0, ch * f - h), value=0.5)
cells = cells.view(n, c, f, ch, f, cw).permute(2, 4, 0, 1, 3, 5).reshape(f * f * n, c, ch, cw)
images, labels = functional.interpolate(cells, (h, w), mode="bilinear"), labels.repeat({repeat})
"""


def write(
    folder: Path,
    result: RunResult,
    synthetic: SyntheticSet,
    overrides: Sequence[str] = (),
    method: object = None,
) -> None:
    """Write the card into a run folder; a README.md that is not dcond's stays.

    It holds no path, so that it can be shared as it is. ``overrides`` are those of the run, as
    typed; ``method`` has the values of settings that follow from others.
    """
    path = folder / NAME
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        log.warning("%s exists and is not overwritten: this run has no card", path)
        return
    write_text(path, MARK + card(result, synthetic, overrides, method))


def card(
    result: RunResult,
    synthetic: SyntheticSet,
    overrides: Sequence[str] = (),
    method: object = None,
) -> str:
    """Return the card as Markdown, see :func:`write`."""
    factor, (n, c, h, w) = synthetic.factor, synthetic.images.shape
    holding = f", each holding {factor**2} smaller ones" if factor > 1 else ""
    lines = [
        f"# {result.dataset}, condensed by {result.method} to {synthetic.ipc} image(s) per class",
        "",
        f"- method: {result.method}",
        f"- data set: {result.dataset}, {len(synthetic.class_names)} classes",
        f"- images: {n} of {h} x {w} with {c} channel(s){holding}; {synthetic.ipc} per class",
        f"- seed: {result.seed}; steps: {result.cost.steps or 0}",
    ]
    if synthetic.learned_lr is not None:
        lines.append(f"- learning rate learned with the images: {float(synthetic.learned_lr):.4g}")
    versions = result.versions or {}
    lines.append(f"- made with: dcond {versions.get('dcond')}, torch {versions.get('torch')}")
    soft = synthetic.labels.ndim == 2
    shape = "(n,)"
    if soft:
        shape = "logits (n, k): train on labels.softmax(1)" if synthetic.logits else "(n, k)"
    repeat = "f * f, 1" if soft else "f * f"
    decode = DECODE.format(factor=factor, squared=factor**2, repeat=repeat) if factor > 1 else ""
    imports = "\nfrom torch.nn import functional" if factor > 1 else ""
    whiten = "" if synthetic.whitening is None else WHITEN
    use = USE.format(imports=imports, decode=decode, labels=shape, whiten=whiten)
    lines += _accuracies(result)
    return "\n".join(lines) + "\n" + use + _reproduction(result, overrides, method)


def _accuracies(result: RunResult) -> list[str]:
    ours = result.evaluation
    if ours is None:
        return ["", "Not evaluated: `dcond evaluate .` trains networks on it and tests them."]
    random = {
        title: baseline
        for name, title in BASELINE_TITLES.items()
        if (baseline := getattr(result.baselines, name)) is not None
    }
    columns = {"condensed": ours} | random
    caption = accuracy_caption(ours, ACCURACY[ours.tested_on or TEST].capitalize())
    caption += random_labels(random.values())
    table = markdown_table(["network", *columns], accuracy_rows([*columns.values()]))
    return ["", f"{caption}.", "", table.rstrip()]


def _reproduction(result: RunResult, overrides: Sequence[str], method: object = None) -> str:
    """Return the command as it was typed, and all settings that decide the images.

    A path stands as ``...``. Method, data set, ipc and seed are added where they were not typed.
    """
    config, choices = result.config, result.choices or {}
    if config is None:  # built in Python from parts
        return ""
    text = json.dumps(config)
    used = {
        key: value
        for key, value in config.items()
        if key in ("method", "dataset", "init", "max_steps", "max_seconds", "test_on")
        or f"${{{key}}}" in text.replace(json.dumps(config.get("evaluation")), "")
    }
    typed = {override.lstrip("+~").partition("=")[0]: override for override in overrides}
    implied = {"method": choices.get("method"), "dataset": choices.get("dataset")}
    implied = {} if "experiment" in typed else implied
    implied |= {"ipc": result.ipc, "seed": result.seed}
    command = [f"{key}={value}" for key, value in implied.items() if key not in typed]
    for key, override in typed.items():
        name, _, value = override.partition("=")
        if OF_ENVIRONMENT.search(value):
            override = f"{name}={flat_settings(config).get(key, '...')}"
        if not _LOCAL.match(key):
            hidden = PLACE.search(key) or value.startswith("{")  # a mapping may hold a path
            command.append(f"{name}=..." if hidden else override)
    flat = {
        key: _computed(key, method) if "${" in str(value) else value
        for key, value in flat_settings(used).items()
    }
    settings = [
        f"{key}={_shown(key, value)}"
        for key, value in flat.items()
        if not key.rpartition(".")[2].startswith("_") and value is not ...
    ]
    return "\n".join(
        [
            "\n## Reproduce\n",
            f"    {shlex.join(['dcond', 'condense', *command])}\n",
            "All settings that affect the images, in case a default changes:\n",
            *(f"    {line}" for line in settings),
            "",
        ]
    )


def _computed(key: str, method: object) -> Any:
    """Return the value of a method's setting that follows from others; ``...`` if it is a part."""
    top, _, name = key.partition(".")
    value = getattr(method, name, ...) if top == "method" and not PLACE.search(key) else ...
    return value if isinstance(value, bool | int | float | str) else ...


def _shown(key: str, value: Any) -> str:
    if PLACE.search(key) and value is not None:
        return "..."
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)

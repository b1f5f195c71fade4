"""``dcond relabel``: give a synthetic set soft labels, and compare it with the set as it was."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dcond.cli.parser import add_settings, make_parser
from dcond.errors import ConfigError
from dcond.log import log_plainly, print_results
from dcond.paths import expand_home, relative_to_cwd
from dcond.run.result import RunResult

EPILOG = """\
examples:
  dcond relabel outputs/condense/dm_digits_ipc1/TIME teacher=convnet
  dcond relabel RUN teacher=convnet teacher.temperature=1 pool=tiny seed=3
  dcond relabel RUN teacher=convnet --no-evaluate

The teacher is trained on the real images, or read from the cache, as in dcond evaluate. The new set
stores its logits, divided by teacher.temperature. Networks are then trained on the new set, on the
old one, and on random images that the same teacher labels. The new folder also gets the
result.json of this evaluation; dcond evaluate and dcond report read it.
"""


def main(argv: list[str]) -> int:
    """Run ``dcond relabel`` with its arguments and return the exit code.

    Raises:
        DcondError: the set cannot be read or written, or a setting is wrong.
    """
    arguments = _parser().parse_intermixed_args(argv)
    log_plainly()
    source = expand_home(arguments.run)
    from dcond.importers.source import path_beside  # torch, which --help does not need

    out = expand_home(arguments.out) if arguments.out else path_beside(source, "relabelled")
    if (out / "synthetic.safetensors").exists():
        overrides = [str(out)]
        if RunResult.read_finished(out) is None:  # goes on from the networks that have finished
            overrides += [f"against={source}", f"hydra.run.dir={out}"]
            overrides += _of_evaluation(arguments.settings)
        raise ConfigError(
            f"{out} holds a set, which is not overwritten; remove it, choose another --out, or "
            f"evaluate it: dcond evaluate {shlex.join(overrides)}."
        )
    _relabel(str(source), arguments.settings, out, evaluated=not arguments.no_evaluate)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "relabel",
        "Write a copy of a set with soft labels by a teacher, and evaluate both.",
        EPILOG,
    )
    parser.add_argument("run", metavar="RUN", help="a run folder, or another set, as in evaluate")
    add_settings(parser, "teacher=NAME, and the settings of dcond evaluate")
    parser.add_argument("--out", metavar="FOLDER", help="of the new set; default: RUN/relabelled")
    parser.add_argument("--no-evaluate", action="store_true", help="only write the new set")
    return parser


def _relabel(run: str, settings: list[str], out: Path, *, evaluated: bool) -> None:
    from omegaconf import OmegaConf

    from dcond import artefact
    from dcond.cli.compose import composed
    from dcond.cli.evaluate import evaluate
    from dcond.cli.given_sets import dataset_overrides, refuse_sets
    from dcond.cli.instantiate import build, build_plan, get
    from dcond.cli.labels import add_teacher
    from dcond.cli.overrides import is_of_hydra
    from dcond.cli.path_values import quote_path, quote_paths
    from dcond.device import resolve_device
    from dcond.evaluation.protocol import check_fits
    from dcond.run.context import cpu_threads, refuse_foreign_files
    from dcond.settings import PositiveInt

    for setting in filter(is_of_hydra, settings):
        raise ConfigError(
            f"{setting} has no effect on dcond relabel; omit it, and use --out=FOLDER for the "
            "folder of the new set."
        )
    RunResult.refuse_finished(out)
    RunResult.refuse_foreign(out)
    refuse_foreign_files(out)
    overrides = quote_paths(settings)
    refuse_sets(overrides, "RUN is the set, and the new set is compared with it")
    overrides += dataset_overrides(run, settings)
    with composed("evaluate", [f"synthetic.path={quote_path(run)}", *overrides]) as (cfg, choices):
        plan = build_plan(cfg, choices)
        source, dataset = build(cfg.synthetic, "synthetic"), build(cfg.dataset, "dataset")
        device, threads = resolve_device(str(cfg.device)), get(cfg, "threads", PositiveInt | None)
        chosen: Any = OmegaConf.to_container(cfg.evaluation, resolve=True)
    if plan.protocol.teacher is None:
        raise ConfigError("no teacher to label the set; add teacher=convnet.")
    with cpu_threads(threads):
        real = dataset.load(device)
        hard = source.fitted(source.read(), real).to(device)
        check_fits(hard, real)
        artefact.check_counts(hard)
        soft = plan.protocol.teacher.load_or_train(real, plan.cache).relabelled(hard)
        soft = replace(soft, metadata=add_teacher(soft.metadata, chosen["teacher"]))
        path = artefact.save_in(soft, out)
        print_results(f"{len(soft.images)} images with soft labels -> {relative_to_cwd(path)}")
        if evaluated:
            shown = evaluate(path, against=run, overrides=_of_evaluation(overrides), folder=out)
            print_results(*shown.parts, f"-> {relative_to_cwd(out)}")


def _of_evaluation(overrides: Sequence[str]) -> list[str]:
    """Return the settings that compare the new set, without a teacher, with the old one.

    The number of threads is set around both.
    """
    kept = []
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key.startswith("synthetic."):  # how the old set is read
            kept.append(override.replace("synthetic.", "against.", 1))
        elif key.split(".")[0] not in ("teacher", "threads") and "@teacher" not in key:
            kept.append(override)
    return kept

"""``dcond experts``: train the experts of trajectory matching, or show those in the cache."""

import argparse
import statistics
from pathlib import Path

from omegaconf import OmegaConf

from dcond.cli.parser import add_settings, make_parser
from dcond.errors import ConfigError
from dcond.log import log_plainly
from dcond.paths import conf_dir, relative_to_cwd

EPILOG = """\
examples:
  dcond experts dataset=cifar10 model=convnet count=100 epochs=50   train those that are missing
  dcond experts info                                                show what is in the cache

method=mtt, datm and ncfm train missing experts themselves, with the settings method.experts.
Commands that run at the same time share the work. An interrupted command loses only the expert in
training.
"""


def main(argv: list[str]) -> int:
    """Run ``dcond experts`` with its arguments and return the exit code.

    Raises:
        DcondError: an unknown setting, unusable data, or a folder that cannot be written.
    """
    arguments = _parser().parse_args(argv)
    log_plainly()
    info = arguments.settings[:1] == ["info"]
    overrides = arguments.settings[info:]
    from dcond.cli.compose import composed
    from dcond.cli.instantiate import build, get
    from dcond.cli.overrides import check_override_syntax
    from dcond.cli.path_values import quote_paths
    from dcond.device import resolve_device
    from dcond.run.context import cpu_threads
    from dcond.settings import PositiveInt

    check_override_syntax(overrides)
    with composed("experts", quote_paths(list(map(_below_experts, overrides)))) as (cfg, _):
        experts = build(cfg.experts, "experts")
        if info:
            read = ("folder=", "experts.folder=", "paths.", "hydra.searchpath=")
            if other := [override for override in overrides if not override.startswith(read)]:
                raise ConfigError(
                    f"{other[0]} has no effect on dcond experts info, which shows all experts; "
                    "omit it."
                )
            _show(Path(experts.folder))
            return 0
        dataset = build(cfg.dataset, "dataset")
        device, threads = resolve_device(str(cfg.device)), get(cfg, "threads", PositiveInt | None)
    with cpu_threads(threads):
        trajectories = experts.load_or_train(dataset.load(device))
    folder = trajectories[0].file.parent
    print(f"{len(trajectories)} experts -> {relative_to_cwd(folder)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "experts",
        "Train networks on the real images and keep their weights of every epoch.",
        EPILOG,
    )
    add_settings(
        parser,
        "dataset=NAME, model=NAME, and settings of conf/experts/default.yaml",
        "[info] KEY=VALUE",
    )
    return parser


def _below_experts(override: str) -> str:
    """Return ``count=5`` as ``experts.count=5``, for all settings of the experts."""
    own = set(map(str, OmegaConf.load(conf_dir() / "experts" / "default.yaml"))) - {"defaults"}
    key = override.lstrip("+").partition("=")[0].split(".")[0]
    if "=" not in override:
        raise ConfigError(f"{override!r} is not a setting; write KEY=VALUE, or info first.")
    return f"experts.{override}" if key in own else override


def _show(folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dcond.training.experts import cached

    table = Table("data set", "network", box=None, pad_edge=False)
    for title in ("experts", "epochs", "lr", "seed", "test accuracy", "MB"):
        table.add_column(title, justify="right")
    table.add_column("folder", overflow="fold")
    for place, found in cached(folder):
        facts = found[0].facts
        size = sum(trajectory.file.stat().st_size for trajectory in found)
        mean = statistics.fmean(trajectory.facts["accuracy"] for trajectory in found)
        table.add_row(
            *(Text(str(facts[name])) for name in ("dataset", "network")),
            *(str(len(found)), str(facts["epochs"]), f"{facts['lr']:g}", str(facts["seed"])),
            *(f"{100 * mean:.1f} %", f"{size / 1e6:,.1f}", Text(place.name)),
        )
    if not table.row_count:
        print(f"no experts in {relative_to_cwd(folder)}")
        return
    Console(highlight=False).print(table)
    print(f"-> {relative_to_cwd(folder / 'experts')}")

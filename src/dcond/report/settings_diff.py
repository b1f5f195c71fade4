"""Which settings tell groups of runs apart, so that unlike runs are never one row without a word."""

import re
from collections.abc import Hashable, Iterable, Mapping

Settings = Mapping[str, str]
PARTS_OF_A_BLOCK = (
    "dataset",
    "pool",
    "evaluation",
    "teacher",
)  # settings under which runs are compared


def comparison_settings(settings: Settings) -> dict[str, str]:
    """Return the settings under which runs are compared: data set, networks, protocol."""
    return {name: value for name, value in settings.items() if _group(name) in PARTS_OF_A_BLOCK}


def method_settings(settings: Settings) -> dict[str, str]:
    """Return the settings that are compared: everything else."""
    return {name: value for name, value in settings.items() if _group(name) not in PARTS_OF_A_BLOCK}


def differing_settings(variants: Iterable[tuple[Hashable, Settings]]) -> list[str]:
    """Return the names of settings in which variants differ that share a place; choices first, then by name.

    What lies below a choice (``model.width`` below ``model``) or a network counts only among
    variants of the same choice: with ``model=mlp`` beside ``model=convnet``, the choice says it
    all.

    Args:
        variants: a place, such as the ipc, and the settings of a group of runs there.
    """
    seen: dict[tuple[str, Hashable, tuple[str | None, ...]], set[str | None]] = {}
    given = list(variants)
    names = sorted(
        {name for _, settings in given for name in settings}, key=lambda name: ("." in name, name)
    )
    for place, settings in given:
        for name in names:
            choice = tuple(settings.get(above) for above in _above(name))
            seen.setdefault((name, place, choice), set()).add(settings.get(name))
    found = {name for (name, _, _), values in seen.items() if len(values) > 1}
    return [name for name in names if name in found]


def note(settings: Settings, names: Iterable[str]) -> str:
    """Write the named settings as on the command line; a list's brackets and all."""
    return ", ".join(f"{name}={settings[name]}" for name in names if name in settings)


def networks(settings: Settings) -> dict[str, str]:
    """Return each network of each pool as one setting more, ``learners.networks.ViT=ViT``, by its recipe's own name."""
    found = {}
    for name, value in settings.items():
        if recipe := re.fullmatch(r"(.+\.networks\.[^.]+)\.name", name):
            beside = re.fullmatch(
                r"\$\{\.(\w+)\}", value
            )  # another value of the recipe, as Hydra writes it
            found[recipe[1]] = settings.get(f"{recipe[1]}.{beside[1]}", value) if beside else value
    return found


def _above(name: str) -> list[str]:
    """Return what a dotted name lies below: ``a`` and ``a.b`` for ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _group(name: str) -> str:
    return name.partition(".")[0]

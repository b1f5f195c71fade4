"""Which settings distinguish groups of runs."""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

from dcond.run.result import EVALUATION_GROUPS

Settings = Mapping[str, str]


def comparison_settings(settings: Settings) -> dict[str, str]:
    """Return the settings that comparable runs share: data set, networks, protocol."""
    return {name: value for name, value in settings.items() if _group(name) in EVALUATION_GROUPS}


def method_settings(settings: Settings) -> dict[str, str]:
    """Return all other settings: those that are compared."""
    return {
        name: value for name, value in settings.items() if _group(name) not in EVALUATION_GROUPS
    }


def differing_settings(variants: Iterable[tuple[Hashable, Settings]]) -> list[str]:
    """Return the names of settings that differ between variants, choices first, then by name.

    Variants are compared within a scope only. A setting below a choice (``model.width`` below
    ``model``) is compared only between variants with the same choice: if ``model`` differs, that
    alone distinguishes them.

    Args:
        variants: pairs of a scope, such as the ipc, and the settings of a group of runs.

    Example:
        >>> differing_settings([(1, {"lr": "0.1", "steps": "5"}), (1, {"lr": "0.2", "steps": "5"})])
        ['lr']
    """
    given = list(variants)
    names = sorted({name for _, settings in given for name in settings})
    values: dict[tuple[object, ...], set[str | None]] = defaultdict(set)
    for scope, settings in given:
        for name in names:
            choices = tuple(settings.get(above) for above in _parents(name))
            values[name, scope, choices].add(settings.get(name))
    differing = {str(name) for (name, *_), seen in values.items() if len(seen) > 1}
    return sorted(differing, key=lambda name: ("." in name, name))


def format_settings(settings: Settings, names: Iterable[str]) -> str:
    """Return the named settings as on the command line: ``init=real, method.lr=0.5``."""
    return ", ".join(f"{name}={settings[name]}" for name in names if name in settings)


def network_names(settings: Settings) -> dict[str, str]:
    """Return the name of every network in a pool, by the network's key.

    ``learners.networks.Mine.name=ViT`` gives ``learners.networks.Mine=ViT``, so that a network
    counts as a choice.
    """
    names = {}
    for name, value in settings.items():
        if match := re.fullmatch(r"(.+\.networks\.[^.]+)\.name", name):
            network = match[1]
            reference = re.fullmatch(r"\$\{\.(\w+)\}", value)  # interpolation of a sibling
            names[network] = (
                settings.get(f"{network}.{reference[1]}", value) if reference else value
            )
    return names


def _parents(name: str) -> list[str]:
    """Return ``a`` and ``a.b`` for ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _group(name: str) -> str:
    return name.partition(".")[0]

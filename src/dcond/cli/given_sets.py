"""The sets that ``synthetic=`` and ``against=`` name, or that a Python call gives."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from dcond import artefact
from dcond.cli.groups import group_options
from dcond.cli.instantiate import build
from dcond.cli.path_values import quote_path
from dcond.cli.run_config import parse_classes, parse_provenance
from dcond.data.base import NAME
from dcond.errors import ConfigError, yaml_repr
from dcond.importers.raw_set import RawSet
from dcond.importers.source import Source, is_artefact
from dcond.paths import expand_home
from dcond.run.result import Origin
from dcond.types import RealData, SyntheticSet

IN_MEMORY = "a set in memory"
# How a set was read does not depend on where it is, on its name, or on which argument gave it.
NOT_READING = ("_target_", "path", "method", "option")

Given = SyntheticSet | Path | str  # a set, or the path of one


@dataclass(frozen=True)
class LoadedSet:
    """A set and how it was read. Its content identifies it, wherever the file is."""

    source: Source
    content: SyntheticSet | RawSet

    @cached_property
    def hash(self) -> str:
        """A short hash of its content."""
        return artefact.content_hash(self.content)

    def fitted(self, real: RealData) -> SyntheticSet:
        """Return the set for a data set: pixels, class-major, in its order of classes."""
        return self.source.fitted(self.content, real)

    def origin(self, synthetic: SyntheticSet) -> Origin:
        """Return where the set came from, how it was read, and the run that made it."""
        metadata = synthetic.metadata
        return Origin(
            path=self.source.path,
            content=self.hash,
            layout=metadata.get("layout", "dcond"),
            read_as=metadata.get("read_as", "pixels"),
            learned_lr=None if synthetic.learned_lr is None else float(synthetic.learned_lr),
            **parse_provenance(metadata),
        )


def read_sets(
    cfg: DictConfig, synthetic: Given | None = None, against: Given | None = None
) -> dict[str, LoadedSet]:
    """Read what ``synthetic`` and ``against`` name; sets in memory are taken as they are."""
    loaded = {}
    if cfg.against.path is None:
        defaults = {each.name: each.default for each in fields(Source)}
        for key, value in cfg.against.items():
            if key not in NOT_READING and value != defaults.get(key):
                raise ConfigError(
                    f"against.{key}={yaml_repr(value)} needs against=PATH; add it, or remove this."
                )
    for option, given in (("synthetic", synthetic), ("against", against)):
        if option == "synthetic" or cfg.against.path is not None:
            source = build(cfg[option], option)
            if isinstance(given, SyntheticSet):
                source.refuse_options(f"{option} is {IN_MEMORY}")
                checked = artefact.checked(given, f"{option}, {IN_MEMORY}")
                loaded[option] = LoadedSet(source, checked)
            else:
                loaded[option] = LoadedSet(source, source.read())
    return loaded


def dataset_overrides(synthetic: Given, argv: Sequence[str]) -> list[str]:
    """Return the overrides of the data set that are in a set's metadata and not in ``argv``.

    The option of the group must be an override, since a data set brings its default pool and
    protocol. A user's own data keep the name that they had when they were condensed. If the option
    is typed, only the name is added.

    Args:
        synthetic: the set, or the path of one.
        argv: what was typed; with another ``dataset=`` than the set's nothing is added.

    Raises:
        ArtefactError: the artefact cannot be read.
        ConfigError: it is not an artefact, or its data set is not packaged; only without
            ``dataset=``.
    """
    given = [argument.lstrip("+") for argument in argv]
    typed = next((each.partition("=")[2] for each in given if each.startswith("dataset=")), None)
    if not isinstance(synthetic, SyntheticSet):
        path = expand_home(synthetic)
        if typed is not None and not (is_artefact(path) and path.exists()):
            return []  # an error of the path comes when the set is read
        if not is_artefact(path):
            raise ConfigError(
                f"{path} does not name the data set it was made from; add dataset=NAME."
            )
        synthetic = artefact.load(path)
    metadata = synthetic.metadata
    name = metadata.get("dataset", "")
    choice = metadata.get("dataset_choice", name)
    if typed not in (None, choice):
        return []
    if typed is None and not choice:
        raise ConfigError("the set does not name the data set it was made from; add dataset=NAME.")
    if typed is None and choice not in group_options("dataset"):
        raise ConfigError(
            f"the set was made from the data set {choice!r}, which is not packaged; add "
            "dataset=NAME."
        )
    overrides = [] if typed else [f"dataset={choice}"]
    # The file may come from anywhere.
    named = any(argument.startswith("dataset.name=") for argument in given)
    if choice != name and not named and re.fullmatch(NAME, name):
        overrides.append(f"dataset.name='{name}'")
    classes = parse_classes(metadata) if typed is None else ()
    if classes and not any(argument.startswith("dataset.classes=") for argument in given):
        overrides.append(f"dataset.classes=[{','.join(map(quote_path, classes))}]")
    return overrides


def refuse_sets(overrides: Sequence[str], reason: str) -> None:
    """Refuse overrides that name a set.

    Raises:
        ConfigError: one of them does.
    """
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if key.removesuffix(".path") in ("synthetic", "against"):
            raise ConfigError(f"{key}= is not allowed here: {reason}; omit it.")


def path_value(given: Given) -> str:
    """Return the value of ``synthetic.path`` or ``against.path`` that stands for a set.

    Raises:
        ConfigError: it is neither a set nor a path.
    """
    if isinstance(given, SyntheticSet):
        return quote_path(IN_MEMORY)
    if isinstance(given, str | Path):
        return quote_path(str(given))
    raise ConfigError(
        f"cannot evaluate a value of type {type(given).__name__}; give a SyntheticSet (that of a "
        "run is its .synthetic), or the path of one."
    )

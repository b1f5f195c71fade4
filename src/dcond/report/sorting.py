"""Which runs belong together: the same method and settings in the same place, whatever the seed."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from dcond.errors import one_of
from dcond.report.record import RunRecord
from dcond.report.settings_diff import comparison_settings, method_settings

Frozen = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ComparisonKey:
    """Where runs may be compared."""

    dataset: str
    ipc: int
    protocol: str
    tested_on: str
    networks: tuple[str, ...]
    settings: Frozen  # of the data set, the networks and the protocol
    # False where the files do not hold the settings, and these are what the evaluation tells
    recorded: bool


@dataclass(frozen=True)
class Group:
    """Runs that become one row."""

    place: ComparisonKey
    method: str
    settings: Frozen  # those that split a method's rows
    outcomes: tuple[RunRecord, ...]


def without_repeats(outcomes: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    """Return one run per configuration and seed: the last that is evaluated, or done, or was interrupted, or failed.

    Running one configuration twice gives no second sample, and a run that was started again
    replaces one that failed. Baselines and scores are no part of a configuration, so of those
    evaluated it is the one with most of them.
    """
    rank = {"done": 2, "interrupted": 1, "failed": 0}
    kept: dict[str, RunRecord] = {}
    for outcome in sorted(
        outcomes, key=lambda each: (each.evaluated, rank[each.status], _extras(each))
    ):
        kept[outcome.sha256 or str(outcome.folder)] = outcome
    chosen = {id(outcome) for outcome in kept.values()}
    return tuple(outcome for outcome in outcomes if id(outcome) in chosen)


def _extras(run: RunRecord) -> int:
    return len(run.baselines) + len(run.scores)


def label_external_sets(outcomes: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    """Tell sets from elsewhere apart by a setting ``synthetic``: the end of their path, since many files are `data.pt`.

    A set is what it holds, or its path where the result does not say that; of several with one name
    the hash is told.
    """
    given = tuple(outcomes)
    names: dict[str, str] = {}
    for run in given:
        if run.elsewhere:
            index = run.settings.get("synthetic.index")
            end = str(PurePath(*PurePath(run.elsewhere).parts[-2:]))
            names.setdefault(
                run.content or run.elsewhere, end if index is None else f"{end}[{index}]"
            )
    shared = {name for name, count in Counter(names.values()).items() if count > 1}

    def name(run: RunRecord) -> str:
        short = names[run.content or run.elsewhere]
        longer = f"{short} ({run.content[:8]})" if run.content else run.elsewhere
        return longer if short in shared else short

    return tuple(
        replace(run, settings={**run.settings, "synthetic": name(run)}) if run.elsewhere else run
        for run in given
    )


def groups_of(outcomes: Iterable[RunRecord], group_by: Sequence[str] | None) -> list[Group]:
    """Sort runs into groups; those that failed before it was known on what they run are left out.

    Raises:
        ConfigError: ``group_by`` names what is no setting of any run.
    """
    placed = [run for run in outcomes if run.method and run.dataset and run.ipc is not None]
    _check_names(placed, group_by or ())
    groups: dict[tuple[ComparisonKey, str, Frozen], list[RunRecord]] = defaultdict(list)
    later = []
    for run in placed:
        if run.settings or run.evaluated:
            groups[_place(run), run.method, _settings(run, group_by)].append(run)
        else:
            later.append(run)
    for (
        run
    ) in later:  # with no settings and no evaluation, there may still be only one row it can be of
        same = (run.method, run.dataset, run.ipc)
        homes = [
            key
            for key in groups
            if (key[1], key[0].dataset, key[0].ipc) == same and not key[0].recorded
        ]
        key = homes[0] if len(homes) == 1 else (_place(run), run.method, _settings(run, group_by))
        groups[key].append(run)
    found = [
        Group(place, method, settings, tuple(runs))
        for (place, method, settings), runs in groups.items()
    ]
    return found if group_by is not None else [part for group in found for part in _unmixed(group)]


def _check_names(outcomes: Iterable[RunRecord], names: Iterable[str]) -> None:
    known = sorted(
        {name for run in outcomes for name in method_settings(run.settings)}
        | {"factor", "device", "method"}
    )
    for name in names:
        one_of("--group-by", name, known)


def _place(run: RunRecord) -> ComparisonKey:
    networks = tuple(sorted(run.networks)) or _pool(run.settings)
    settings = (
        comparison_settings(run.settings)
        if run.settings
        else {f"pool.{net}": run.recipes[net] for net in run.recipes}
    )
    return ComparisonKey(
        run.dataset,
        run.ipc or 0,
        run.protocol or run.settings.get("evaluation.name", ""),
        run.tested_on,
        networks,
        tuple(sorted(settings.items())),
        bool(run.settings),
    )


def _pool(settings: dict[str, str]) -> tuple[str, ...]:
    """Return the networks that a run was going to train."""
    names = (name.split(".") for name in settings if name.startswith("pool.networks."))
    return tuple(sorted({parts[2] for parts in names}))


def _settings(run: RunRecord, group_by: Sequence[str] | None) -> Frozen:
    known = {"factor": str(run.factor), "device": run.device} | method_settings(run.settings)
    if group_by is not None:
        chosen = {name: known[name] for name in group_by if name in known}
    elif run.settings:
        chosen = method_settings(run.settings)
    else:
        steps = run.cost.get("steps")
        chosen = {"factor": str(run.factor)} | ({} if steps is None else {"steps": f"{steps:g}"})
    return tuple(sorted(chosen.items()))


def _unmixed(group: Group) -> list[Group]:
    """Split a group in which a seed comes twice, since runs of unlike, unrecorded settings are in it, by folder names.

    A seed in the name is set aside, so that ``lr2_seed0`` and ``lr2_seed1`` stay together.
    """
    for name in (
        lambda run: re.sub(r"[-_]?seed[-_=]?\d+", "", run.folder.name),
        lambda run: run.folder.name,
    ):
        seeds = Counter(seed for seed, _ in {(run.seed, run.sample) for run in group.outcomes})
        if max(seeds.values()) == 1:
            break
        parts: dict[str, list[RunRecord]] = defaultdict(list)
        for run in group.outcomes:
            parts[name(run)].append(run)
        if all(len({run.seed for run in part}) == len(part) for part in parts.values()):
            return [
                Group(group.place, group.method, (*group.settings, ("folder", folder)), tuple(part))
                for folder, part in parts.items()
            ]
    return [group]

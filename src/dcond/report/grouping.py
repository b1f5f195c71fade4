"""Group runs into comparable blocks, and in each block into one row per method and setting."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from statistics import fmean
from typing import NamedTuple

from dcond.errors import one_of
from dcond.report.collect import CollectedRuns, natural
from dcond.report.record import RunRecord
from dcond.report.rows import AVERAGE, RANK, Block, Report, Row
from dcond.report.settings_diff import (
    comparison_settings,
    differing_settings,
    format_settings,
    method_settings,
)
from dcond.run.result import TEST
from dcond.stats import Estimate, is_ahead

BASELINE_TITLES = {
    "random": "random real images",
    "random_decoded": "random, shrunken",
    "full": "whole real set",
}

FrozenSettings = tuple[tuple[str, str], ...]


class ComparisonKey(NamedTuple):
    """Runs with equal keys are comparable."""

    dataset: str
    ipc: int
    protocol: str
    tested_on: str
    networks: tuple[str, ...]
    settings: FrozenSettings  # of data set, networks and protocol


class Group(NamedTuple):
    """Runs that become one row."""

    key: ComparisonKey
    method: str
    settings: FrozenSettings  # those that split the method's rows
    runs: list[RunRecord]


def build_report(collected: CollectedRuns, group_by: Sequence[str] | None = None) -> Report:
    """Group the collected runs.

    Args:
        collected: the runs.
        group_by: settings that split a method's rows; every differing setting if None.

    Raises:
        ConfigError: ``group_by`` has a name that is not a setting of any run.
    """
    kept = drop_repeated(collected.runs, across_devices="device" not in (group_by or ()))
    runs = label_external_sets(kept)
    groups = _groups(runs, group_by)
    block_notes = _block_notes({group.key for group in groups})
    rows: dict[ComparisonKey, list[Row]] = defaultdict(list)
    for group, note in zip(groups, _row_notes(groups, block_notes, group_by), strict=True):
        rows[group.key].append(_row(group, note))
    blocks = [_block(key, block_notes[key], rows[key]) for key in rows]
    blocks.sort(key=_order)
    merged = differing_settings(
        (index, method_settings(run.settings))
        for index, group in enumerate(groups)
        for run in group.runs
    )
    repeated = len(collected.runs) - len(runs)
    return Report(tuple(_with_missing_runs(blocks)), runs, repeated, tuple(merged), collected)


def _order(block: Block) -> tuple[object, ...]:
    subject, note = f"{block.dataset} {block.protocol}", f"{block.note} {block.ipc}"
    return natural(subject), block.tested_on != TEST, natural(note)


def drop_repeated(
    runs: Sequence[RunRecord], *, across_devices: bool = True
) -> tuple[RunRecord, ...]:
    """Return one run per configuration and seed, and per device unless ``across_devices``.

    Sets that were made in different ways are different, also where their images happen to be
    equal, as those of herding and k-means at ipc 1. A repeated run is not another sample, and a
    restarted one replaces one that failed. An evaluated run is preferred, then a done, an
    interrupted, a failed one. Baselines and scores are not part of a configuration, so of several
    evaluated runs the one with most of them is taken; on a tie the last.
    """

    def rank(run: RunRecord) -> tuple[bool, int, int]:
        return run.evaluated, RANK[run.status], len(run.baselines) + len(run.scores)

    def key(run: RunRecord) -> tuple[str, str]:
        return run.sha256 or str(run.folder), "" if across_devices else run.device

    def origin(run: RunRecord) -> str:  # empty for a run that failed before it had read its set
        return run.set_id if run.content and not run.external_path else ""

    known = {key(run) for run in runs if origin(run)}
    best = {
        (*key(run), origin(run)): id(run)
        for run in sorted(runs, key=rank)
        if origin(run) or key(run) not in known
    }
    chosen = set(best.values())
    return tuple(run for run in runs if id(run) in chosen)


def label_external_sets(runs: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """Give sets of unknown origin a setting ``synthetic``, so that each has rows of its own.

    The label is the end of the path, since many files have one name, plus a hash of the content if
    several sets share it.
    """
    labels: dict[str, str] = {}
    for run in runs:
        if run.external_path:
            end = str(PurePath(*PurePath(run.external_path).parts[-2:]))
            index = run.settings.get("synthetic.index")
            labels.setdefault(
                run.content or run.external_path, end if index is None else f"{end}[{index}]"
            )
    count = Counter(labels.values())

    def label(run: RunRecord) -> str:
        short = labels[run.content or run.external_path]
        unique = f"{short} ({run.content[:8]})" if run.content else run.external_path
        return unique if count[short] > 1 else short

    return tuple(
        replace(run, settings={**run.settings, "synthetic": label(run)})
        if run.external_path
        else run
        for run in runs
    )


def _groups(runs: Iterable[RunRecord], group_by: Sequence[str] | None) -> list[Group]:
    """Group runs by key, method and settings; skip those that failed before these were known."""
    runs = [run for run in runs if run.method and run.dataset and run.ipc is not None]
    known = {name for run in runs for name in method_settings(run.settings)}
    for name in group_by or ():
        one_of("--group-by", name, sorted(known | {"factor", "device", "method"}))
    groups: dict[object, Group] = {}
    for run in runs:
        settings = method_settings(run.settings)
        if group_by is not None:
            settings |= {"factor": str(run.factor), "device": run.device} | settings
            settings = {name: settings[name] for name in group_by if name in settings}
        group = Group(_comparison_key(run), run.method, tuple(sorted(settings.items())), [])
        groups.setdefault(group[:3], group).runs.append(run)
    return list(groups.values())


def _comparison_key(run: RunRecord) -> ComparisonKey:
    planned = {name.split(".")[2] for name in run.settings if name.startswith("pool.networks.")}
    return ComparisonKey(
        dataset=run.dataset,
        ipc=run.ipc or 0,
        protocol=run.protocol or run.settings.get("evaluation.name", ""),
        tested_on=run.tested_on,
        networks=tuple(sorted(run.networks or planned)),
        settings=tuple(sorted(comparison_settings(run.settings).items())),
    )


def _block_notes(keys: Iterable[ComparisonKey]) -> dict[ComparisonKey, str]:
    """Return what distinguishes each block from others of the same title and networks.

    Settings of the protocol may depend on the ipc. Those of the data set make it another one.
    """
    notes: dict[ComparisonKey, str] = {}
    alike: dict[tuple[object, ...], list[ComparisonKey]] = defaultdict(list)
    for key in keys:
        alike[key.dataset, key.protocol, key.tested_on, key.networks].append(key)
    for members in alike.values():
        names = differing_settings(
            ("" if of_data else key.ipc, _part(key, of_data=of_data))
            for key in members
            for of_data in (True, False)
        )
        notes |= {key: format_settings(dict(key.settings), names) for key in members}
    return notes


def _part(key: ComparisonKey, *, of_data: bool) -> dict[str, str]:
    """Return the settings of the data set, or all others."""
    return {name: value for name, value in key.settings if name.startswith("dataset.") == of_data}


def _row_notes(
    groups: list[Group], block_notes: dict[ComparisonKey, str], group_by: Sequence[str] | None
) -> list[str]:
    """Return what distinguishes each group from others of its method and family, at any ipc."""
    alike: dict[object, list[Group]] = defaultdict(list)

    def family(group: Group) -> object:
        key = group.key
        return group.method, key._replace(ipc=0, settings=()), block_notes[key]

    for group in groups:
        alike[family(group)].append(group)
    names = {
        key: group_by
        or differing_settings((group.key.ipc, dict(group.settings)) for group in members)
        for key, members in alike.items()
    }
    return [format_settings(dict(group.settings), names[family(group)]) for group in groups]


def _row(group: Group, note: str) -> Row:
    files = {run.content for run in group.runs if run.external_path}
    # Several files merged on request: a file is a sample, not each of its evaluations.
    merged = len(files) > 1
    samples = [
        ((merged and run.external_path and run.content) or run.set_id, run.networks)
        for run in group.runs
        if run.evaluated
    ]
    return Row(
        title=group.method,
        note=note,
        runs=tuple(group.runs),
        accuracies=_accuracies(samples, group.key.networks),
    )


def _accuracies(
    samples: Iterable[tuple[object, dict[str, float]]], networks: Sequence[str]
) -> dict[str, Estimate]:
    """Return an estimate per network and one of the average over the networks.

    Args:
        samples: identity of a set or draw, and its accuracies; several evaluations of one set are
            averaged first.
        networks: columns; the average uses only samples that have all of them.
    """
    values: dict[object, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for identity, accuracies in samples:
        for network, accuracy in accuracies.items():
            values[identity][network].append(accuracy)
    means = [{name: fmean(each) for name, each in sample.items()} for sample in values.values()]
    columns = {name: [mean[name] for mean in means if name in mean] for name in networks}
    complete = [mean for mean in means if mean.keys() >= set(networks)]
    if networks:
        columns[AVERAGE] = [fmean(mean[name] for name in networks) for mean in complete]
    return {name: Estimate(tuple(column)) for name, column in columns.items() if column}


def _block(key: ComparisonKey, note: str, rows: list[Row]) -> Block:
    evaluated = [run for row in rows for run in row.runs if run.evaluated]
    networks = tuple(evaluated[0].networks) if evaluated else key.networks
    rows = sorted(rows, key=lambda row: natural(f"{row.title} {row.note}"))
    rows += _baselines(evaluated, networks)
    return Block(
        dataset=key.dataset,
        ipc=key.ipc,
        protocol=key.protocol,
        tested_on=key.tested_on,
        note=note,
        networks=networks,
        rows=tuple(replace(row, best=_best(row, rows)) for row in rows),
    )


def _baselines(runs: Sequence[RunRecord], networks: Sequence[str]) -> list[Row]:
    """Return a row per baseline, with a value per seed of the evaluation.

    Runs with one evaluation seed have drawn the same images. Real images are normalised like the
    set beside them. Beside soft labels they are labelled by the same networks, which the settings
    that decide these labels identify. Each of these is a row of its own.

    Args:
        runs: of the methods, evaluated.
        networks: columns.
    """
    drawn: dict[tuple[int, int, tuple[str, str]], list[tuple[object, dict[str, float]]]]
    drawn = defaultdict(list)
    titles = list(BASELINE_TITLES.items())
    names = differing_settings(
        (run.random_labels, _labelling(run.settings)) for run in runs if run.random_labels
    )
    for run in runs:
        labels = f"labels {run.random_labels}" if run.random_labels else ""
        if labels and (differing := format_settings(run.settings, names)):
            labels += f" ({differing})"
        for index, (name, _) in enumerate(titles):
            factor = (run.factor or 1) if name == "random_decoded" else 1
            own = (run.normalisation, "" if name == "full" else labels)
            draw = run.folder if run.evaluation_seed is None else run.evaluation_seed
            if name in run.baselines:
                drawn[index, factor, own].append((draw, run.baselines[name]))
    return [
        Row(
            title=titles[index][1],
            note=", ".join(filter(None, (f"factor {factor}" if factor > 1 else "", *own))),
            baseline=True,
            accuracies=_accuracies(samples, networks),
        )
        for (index, factor, own), samples in sorted(drawn.items(), key=lambda i: i[0])
    ]


def _labelling(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that decide the labels of random images: of the experts or teacher."""
    deciding = ("label_teacher", "method.experts", "method.label_epoch", "model")
    return {name: value for name, value in settings.items() if name.startswith(deciding)}


def _best(row: Row, rows: Iterable[Row]) -> frozenset[str]:
    """Return the columns in which a method is ahead of every other row but the whole real set."""
    full = BASELINE_TITLES["full"]
    rivals = [other for other in rows if other is not row and other.title != full]

    def ahead(name: str) -> bool:
        others = [other.accuracies[name] for other in rivals if name in other.accuracies]
        return bool(others) and all(is_ahead(row.accuracies[name], other) for other in others)

    return frozenset() if row.baseline else frozenset(filter(ahead, row.accuracies))


def _with_missing_runs(blocks: list[Block]) -> list[Block]:
    """Mark the seeds and methods that other rows and blocks of a family have."""
    seeds: dict[object, set[int]] = defaultdict(set)
    methods: dict[object, set[str]] = defaultdict(set)
    for block in blocks:
        for row in block.method_rows:
            seeds[block.family] |= {run.seed for run in row.runs if run.seed is not None}
            methods[block.family].add(row.title)

    def complete(block: Block) -> Block:
        expected, present = seeds[block.family], block.method_rows
        rows = [
            replace(row, missing=tuple(sorted(expected - {run.seed for run in row.runs})))
            for row in present
        ]
        absent = sorted(methods[block.family] - {row.title for row in present}, key=natural)
        missing = tuple(sorted(expected))
        rows += [Row(title=name, accuracies={}, missing=missing, absent=True) for name in absent]
        return replace(block, rows=(*rows, *(row for row in block.rows if row.baseline)))

    return [complete(block) for block in blocks]

"""From runs to tables: blocks of runs that may be compared, and in them a row per method and setting."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dcond.report.block import AVERAGE, BASELINE_TITLES, Block, Row
from dcond.report.collect import CollectedRuns, natural
from dcond.report.estimate import Estimate, is_ahead, of_each
from dcond.report.record import RunRecord
from dcond.report.settings_diff import differing_settings, method_settings, note
from dcond.report.sorting import (
    ComparisonKey,
    Group,
    groups_of,
    label_external_sets,
    without_repeats,
)
from dcond.run.result import TEST


@dataclass(frozen=True)
class Report:
    """All that is told."""

    blocks: tuple[Block, ...]
    outcomes: tuple[RunRecord, ...]  # those that count, repeated ones left out
    repeated: int  # runs of a configuration that another run has too
    merged: tuple[
        str, ...
    ]  # settings in which runs of one row differ, since they were not asked for
    found: CollectedRuns

    @property
    def families(self) -> list[list[Block]]:
        """The blocks that differ in nothing but ipc, together."""
        found: dict[object, list[Block]] = defaultdict(list)
        for block in self.blocks:
            found[block.family].append(block)
        return list(found.values())


def build_report(found: CollectedRuns, group_by: Sequence[str] | None = None) -> Report:
    """Group what was found.

    Args:
        found: the runs.
        group_by: settings that split a method's rows; every setting that differs, if not given.

    Raises:
        ConfigError: no run has a setting of that name.
    """
    outcomes = label_external_sets(without_repeats(found.outcomes))
    groups = groups_of(outcomes, group_by)
    titles = _block_notes({group.place for group in groups})
    rows: dict[ComparisonKey, list[Row]] = defaultdict(list)
    for group, words in zip(groups, _row_notes(groups, titles, group_by), strict=True):
        rows[group.place].append(_row(group, words))
    blocks = [_block(place, titles[place], rows[place]) for place in rows]
    blocks.sort(key=_order)
    merged = differing_settings(
        (index, method_settings(run.settings))
        for index, group in enumerate(groups)
        for run in group.outcomes
    )
    return Report(
        blocks=tuple(_complete(blocks)),
        outcomes=outcomes,
        repeated=len(found.outcomes) - len(outcomes),
        merged=tuple(merged),
        found=found,
    )


def _order(block: Block) -> tuple[object, ...]:
    return (
        natural(f"{block.dataset} {block.protocol}"),
        block.tested_on != TEST,
        natural(f"{block.note} {block.ipc}"),
    )


def _block_notes(places: Iterable[ComparisonKey]) -> dict[ComparisonKey, str]:
    """Return what tells each place from those of the same data set, protocol, tested images and networks."""
    notes = {}
    alike: dict[tuple[object, ...], list[ComparisonKey]] = defaultdict(list)
    for place in places:
        alike[place.dataset, place.protocol, place.tested_on, place.networks].append(place)
    for family in alike.values():
        recorded = [place for place in family if place.recorded]
        for side in (recorded, [place for place in family if not place.recorded]):
            names = differing_settings((place.ipc, dict(place.settings)) for place in side)
            for place in side:
                notes[place] = note(dict(place.settings), names)
                if recorded and not place.recorded:
                    notes[place] = ", ".join(filter(None, ("settings not recorded", notes[place])))
    return notes


def _row_notes(
    groups: list[Group], titles: dict[ComparisonKey, str], group_by: Sequence[str] | None
) -> list[str]:
    """Return what tells each group from the others of its method, data set and protocol, at any ipc."""
    alike: dict[tuple[str, ...], list[Group]] = defaultdict(list)

    def family(group: Group) -> tuple[str, ...]:
        place = group.place
        return (
            group.method,
            place.dataset,
            place.protocol,
            place.tested_on,
            titles[place],
            *place.networks,
        )

    for group in groups:
        alike[family(group)].append(group)
    names = {
        key: group_by
        or differing_settings((group.place.ipc, dict(group.settings)) for group in members)
        for key, members in alike.items()
    }
    return [note(dict(group.settings), names[family(group)]) for group in groups]


def _row(group: Group, words: str) -> Row:
    networks = group.place.networks
    found = of_each((run.sample, run.networks) for run in group.outcomes if run.evaluated)
    return Row(
        title=group.method,
        note=words,
        outcomes=group.outcomes,
        accuracies=_accuracies(found, networks),
    )


def _accuracies(found: Sequence[dict[str, float]], networks: Sequence[str]) -> dict[str, Estimate]:
    """Return a mean per network and their average, which only runs with every network have."""
    whole = [accuracies for accuracies in found if all(name in accuracies for name in networks)]
    columns = {name: tuple(run[name] for run in found if name in run) for name in networks}
    if networks:
        columns[AVERAGE] = tuple(statistics.fmean(run[name] for name in networks) for run in whole)
    return {name: Estimate(values) for name, values in columns.items() if values}


def _block(place: ComparisonKey, words: str, rows: list[Row]) -> Block:
    runs = [run for row in rows for run in row.outcomes if run.evaluated]
    networks = tuple(runs[0].networks) if runs else place.networks
    rows = sorted(rows, key=lambda row: natural(f"{row.title} {row.note}"))
    rows += _baselines(runs, networks)
    return Block(
        dataset=place.dataset,
        ipc=place.ipc,
        protocol=place.protocol,
        tested_on=place.tested_on,
        note=words,
        networks=networks,
        rows=tuple(replace(row, best=_best(row, rows)) for row in rows),
    )


def _baselines(runs: Iterable[RunRecord], networks: Sequence[str]) -> list[Row]:
    """Return a row per baseline: a value per seed of the evaluation, since runs of one have drawn the same images.

    Random images are normalised as the set beside them is, and so are told apart by it.
    """
    drawn: dict[tuple[str, int, str], list[tuple[object, dict[str, float]]]] = defaultdict(list)
    for run in runs:
        for name, accuracies in run.baselines.items():
            factor = (run.factor or 1) if name == "random_decoded" else 1
            how = "" if name == "full" else run.normalisation
            drawn[name, factor, how].append(
                (run.folder if run.draws is None else run.draws, accuracies)
            )
    rows = []
    for name, factor, how in sorted(
        drawn, key=lambda each: ([*BASELINE_TITLES].index(each[0]), *each[1:])
    ):
        means = of_each(drawn[name, factor, how])
        words = ", ".join(filter(None, (f"factor {factor}" if factor > 1 else "", how)))
        rows.append(
            Row(
                title=BASELINE_TITLES[name],
                note=words,
                baseline=True,
                accuracies=_accuracies(means, networks),
            )
        )
    return rows


def _best(row: Row, rows: Iterable[Row]) -> frozenset[str]:
    """Return the columns in which a method's row is ahead of every other; the whole real set does not compete."""
    if row.baseline:
        return frozenset()
    rivals = [
        other for other in rows if other is not row and other.title != BASELINE_TITLES["full"]
    ]
    return frozenset(
        name
        for name, ours in row.accuracies.items()
        if (theirs := [other.accuracies[name] for other in rivals if name in other.accuracies])
        and all(is_ahead(ours, each) for each in theirs)
    )


def _complete(blocks: list[Block]) -> list[Block]:
    """Mark what the families' other rows lead to expect: seeds, and methods that have no run at some ipc."""
    seeds: dict[object, set[int]] = defaultdict(set)
    methods: dict[object, set[str]] = defaultdict(set)
    for block in blocks:
        for row in block.rows:
            seeds[block.family] |= {run.seed for run in row.outcomes if run.seed is not None}
            methods[block.family] |= set() if row.baseline else {row.title}
    return [_with_missing(block, seeds[block.family], methods[block.family]) for block in blocks]


def _with_missing(block: Block, seeds: set[int], methods: set[str]) -> Block:
    rows = [
        row
        if row.baseline
        else replace(row, missing=tuple(sorted(seeds - {run.seed for run in row.outcomes})))
        for row in block.rows
    ]
    absent = sorted(methods - {row.title for row in rows if not row.baseline}, key=natural)
    of_methods = [row for row in rows if not row.baseline]
    of_methods += [
        Row(title=name, accuracies={}, missing=tuple(sorted(seeds)), absent=True) for name in absent
    ]
    return replace(block, rows=(*of_methods, *(row for row in rows if row.baseline)))

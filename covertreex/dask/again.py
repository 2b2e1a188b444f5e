"""Asked again: levels in which an audit finds less recall than was wanted, with halos as wide as the audit needs.

The sample that halos were planned by, and those that each partition's search is calibrated by, may be lucky. Another
one, whose neighbours are looked for in all rows, says what came of it. It is not the sample that
`covertreex.dask.DaskResult.recall` is measured by.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from dask.delayed import Delayed, delayed

from covertreex.dask import tasks
from covertreex.dask.cells import Cells
from covertreex.dask.model import Model
from covertreex.dask.partition import Level, Partition
from covertreex.dask.planning import HALO_MISSES, merged, named, pairs_of
from covertreex.dask.preparing import Prepared
from covertreex.dask.rows import Found, Rows

#: Misses that a level which is asked again may have, as a share of those that the target allows.
AGAIN_MISSES = 0.5

#: Share of the rows of a partition that a half of it may have, with its halo, for halves to be worth a search each.
WORTH_HALVING = 0.9


def asked_again(ready: Prepared, found: list[Delayed]) -> list[Delayed]:
    """What each partition has found, or finds when it is asked again."""
    given, dealt = delayed(ready.model, traverse=False), delayed(ready.partition, traverse=False)
    queries = delayed(ready.audit, traverse=False)
    truth = merged(ready.data.each(tasks.truth, given, queries), tasks.true_neighbours, given)
    see, judge, ask, levels = named(seen), named(too_narrow), named(again), ready.partition.levels
    wider = judge(0, truth, given, dealt, *[see(i, one, queries) for i, one in enumerate(found)])
    frames = ready.sent(ready.data.each(deal_again, given, dealt, wider))
    numbers = np.repeat(np.arange(len(levels)), [len(level.cells) for level in levels]).tolist()
    parts = enumerate(zip(found, frames, numbers, strict=True))
    return [ask(i, one, frame, given, wider, number) for i, (one, frame, number) in parts]


def seen(found: Found, queries: Rows) -> Found:
    """What was found for those of some queries that a partition has."""
    which = np.isin(found.queries.row, queries.row)
    none = found.candidates.take(np.zeros(0, dtype=np.int64))
    return Found(found.queries.take(which), none, found.indices[which], found.distances[which])


def too_narrow(true: Found, model: Model, partition: Partition, *parts: Found) -> dict[int, Level]:
    """By its number, each level that misses more neighbours than it may, with halos that miss few enough."""
    place = np.searchsorted(true.queries.row, np.concatenate([part.queries.row for part in parts]))
    indices, distances = np.empty_like(true.indices), np.empty_like(true.distances)
    indices[place] = np.concatenate([part.indices for part in parts])
    distances[place] = np.concatenate([part.distances for part in parts])
    right, wanted = tasks.hits(model, true, indices, distances)
    rank, allowed = true.queries.rank, 1.0 - model.settings.recall_target
    wider = {}
    for number, level in enumerate(partition.levels):
        of = (rank >= level.least) & (rank < level.most) | model.external
        if np.sum(wanted[of] - right[of]) > allowed * np.sum(wanted[of]):
            some = Found(true.queries.take(of), true.candidates, true.indices[of], true.distances[of])
            pairs = pairs_of(some, model, 1)
            width = pairs.width(level.cells, level.wider(pairs.rank), HALO_MISSES * allowed)
            wider[number] = replace(level, width=max(width, level.width))
    return wider


def deal_again(
    block: Any, about: tasks.Block, model: Model, partition: Partition, wider: Mapping[int, Level]
) -> pd.DataFrame:
    """As `tasks.deal`, to the partitions of the levels that are asked again."""
    rows = about.rows(block)
    if not wider or not len(rows):
        none = np.zeros(0, dtype=np.int64)
        return tasks.frame_of(rows.take(none), none, none.astype(bool))
    levels = tuple(wider.get(number, level) for number, level in enumerate(partition.levels))
    member, part, own = Partition(levels).deal(model.places(rows.points), rows.rank, wider)
    return tasks.frame_of(rows.take(member), part, own)


def again(found: Found, data: pd.DataFrame, model: Model, wider: Mapping[int, Level], number: int) -> Found:
    """What a partition has found; or finds among more rows, and with fewer misses, if its level is asked again."""
    if number not in wider or not len(found.queries):
        return found
    target = 1.0 - AGAIN_MISSES * (1.0 - model.settings.recall_target)
    stricter = replace(model, settings=model.settings.replace(recall_target=target))
    return ask_in_cells(stricter, tasks.rows_of(data)[0], found.queries, wider[number])


def ask_in_cells(model: Model, data: Rows, queries: Rows, level: Level) -> Found:
    """The neighbours of a partition's queries among its rows, of which there may be more now than one search may have.

    Then the partition is cut into two cells with halos of their own, one after the other; and where halos hold nearly
    all rows, these are looked at in turns.
    """
    if len(data) <= model.room:
        return model.ask(data, queries, model.settings, final=True)
    asked = model.places(queries.points)
    cells = Cells.of_sample(asked, 2)
    rows, near = cells.near(model.places(data.points), level.widths(data.rank))
    if np.bincount(near, minlength=2).max() > WORTH_HALVING * len(data):
        return model.ask_in_turns(data, queries)
    home = cells.cell_of(asked)
    indices, distances = np.empty((len(queries), model.k), dtype=np.int64), np.empty((len(queries), model.k))
    for cell in range(2):
        mine = home == cell
        part = ask_in_cells(model, data.take(np.sort(rows[near == cell])), queries.take(mine), level)
        indices[mine], distances[mine] = part.indices, part.distances
    return Found(queries, data.take(np.zeros(0, dtype=np.int64)), indices, distances)

"""What a search is expected to take, part by part, so that a plan can be believed: no answer hangs on it.

All is in microseconds of one core at 3 GHz for a query in the mean, from constants that were measured (`tuning`). A
screen that is made once and kept is not counted.
"""

import numpy as np

from covertreex._core.nearest import ROWS_OF_A_BLOCK
from covertreex.base import tuning
from covertreex.data.payload import EUCLIDEAN
from covertreex.protocols import QueryBlock
from covertreex.search.calibration import Rule, Sample
from covertreex.search.context import SearchContext
from covertreex.search.near import Near
from covertreex.search.screens.plain import Screen

#: Parts of a search, and the microseconds that each is expected to take.
Parts = tuple[tuple[str, float], ...]


def _decision(context: SearchContext, rows: float) -> float:
    """Deciding so many rows for a query."""
    m = int(context.payload.factors.shape[1])
    return rows * (m * tuning.DECIDED + tuning.DECIDED_PAIR) / 1e3


def _met(rows: float, d: int, every: float) -> float:
    """How many of `every` rows are in blocks that a ball of `rows` rows meets, were rows spread evenly.

    A block of b rows is a cube, and the ball is taken for one: their sum has the sum of their sides.
    """
    block = ROWS_OF_A_BLOCK
    side: float = 1.0 + (rows / block) ** (1.0 / d)
    return min(every, block * side**d)


def sweep(context: SearchContext, queries: QueryBlock, screen: Screen | None) -> Parts:
    """All rows, through a screen or without."""
    every = int(queries.limit.sum()) / len(queries) if len(queries) else 0.0
    if screen is None:
        return (("decision", _decision(context, every)),)
    wanted = min(every, context.k)
    return (
        ("pairs", every * screen.pair_cost / 1e3),
        ("pairs in doubt", min(wanted * tuning.AGAIN_SWEPT, every * tuning.AGAIN_MOST) / 1e3),
        ("decision", _decision(context, wanted)),
    )


def rings(near: Near, sample: Sample | None, rule: Rule, rows: float) -> Parts:
    """Rings of near rows, of which a group, or a query alone, looks at so many."""
    context, screen, queries = near.context, near.view.screen, near.queries
    every, d, wanted = float(np.mean(queries.limit)), context.payload.coords.shape[1], min(rows, context.k)
    pair = screen.pair_cost * (tuning.ALONE_LOOK if rule.alone else 1.0)
    met = _met(tuning.COLLECTED * rows, d, every)
    found = met * d * tuning.FOUND * (1.0 if rule.alone else tuning.FOUND_SHARED)
    parts = [
        ("pairs", rows * pair / 1e3),
        ("pairs in doubt", wanted * tuning.AGAIN_NEAR / 1e3),
        ("near rows", found / 1e3),
        ("decision", _decision(context, wanted)),
    ]
    if sample is not None:
        solved = sum(len(members) for members in sample.members)
        parts.append(("sample", solved / len(queries) * every * screen.pair_cost / 1e3))
    return tuple(parts)


def second_pass(context: SearchContext, first: Parts, screen: Screen, rows: float) -> Parts:
    """A graph of what a `first` pass found, and a look at so many rows more."""
    return (
        *first,
        ("graph", context.k * tuning.LINKED / 1e3),
        ("second pass", float(rows) * screen.pair_cost / 1e3),
    )


def from_answer(near: Near, sample: Sample, screen: Screen, rows: float, alone: bool) -> Parts:
    """A graph of an earlier answer, and a look at so many rows, which a query has alone or shares."""
    context, k = near.context, near.context.k
    pair = screen.pair_cost * (tuning.ALONE_LOOK if alone else 1.0)
    solved = sum(len(members) for members in sample.members)
    every = float(np.mean(near.queries.limit))
    return (
        ("pairs", rows * pair / 1e3),
        ("pairs in doubt", k * tuning.AGAIN_NEAR / 1e3),
        ("decision", _decision(context, k)),
        ("sample", solved / len(near.queries) * every * near.view.screen.pair_cost / 1e3),
        ("graph", k * tuning.LINKED / 1e3),
    )


def boxes(context: SearchContext) -> Parts:
    """Boxes around rows; under correlation for the k nearest, and then for what may be as near (E4)."""
    d, k = context.payload.coords.shape[1], context.k
    met = _met(float(k), d, float(len(context.payload)))
    found = (met * d * tuning.BOX_ROW + tuning.BOX_QUERY) * (1 if context.payload.metric == EUCLIDEAN else 2)
    return ("near rows", found / 1e3), ("decision", k * tuning.DECIDED_PAIR / 1e3)

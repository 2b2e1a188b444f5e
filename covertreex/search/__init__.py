"""How it is answered: strategies, the screens that shorten their work, and the driver that runs them.

What others use of it is here; nothing outside imports its inside.
"""

import time
from collections.abc import Callable

from covertreex.data.tree import Tree
from covertreex.protocols import QueryBlock
from covertreex.search import driver
from covertreex.search.called import is_called, refuse_tree
from covertreex.search.choose import choose_scan, choose_verb
from covertreex.search.context import SearchContext
from covertreex.search.driver import Answer
from covertreex.search.from_answer import Earlier
from covertreex.search.halos import GivenUp, Halos
from covertreex.search.preparing import prepare
from covertreex.search.radius import Radius, Tally, batches, check_batch_size, check_max_bytes, check_radius
from covertreex.search.spread import Spread
from covertreex.search.strategy import Strategy
from covertreex.search.tree_walk import TreeWalk

__all__ = [
    "Answer",
    "Earlier",
    "GivenUp",
    "Halos",
    "SearchContext",
    "Spread",
    "batches",
    "check_batch_size",
    "check_max_bytes",
    "check_radius",
    "choose_verb",
    "nearest",
    "prepare",
    "within",
]


def nearest(
    context: SearchContext,
    queries: QueryBlock,
    tree: Callable[[], Tree],
    halos: Halos | GivenUp | None = None,
    spread: Spread | None = None,
    earlier: Earlier | None = None,
) -> Answer:
    """The ``context.k`` nearest neighbours of each query of a block.

    Parameters
    ----------
    context : SearchContext
    queries : QueryBlock
    tree : callable
        Returns the cover tree; called only if the settings need one.
    halos : Halos or GivenUp, optional
        What `prepare` made of the payload.
    spread : Spread, optional
        How many of a query's neighbours may share a site; any number by default.
    earlier : Earlier, optional
        What the same queries found under other parameters.

    Returns
    -------
    Answer

    Raises
    ------
    BackendError
        If the backend gave a query no stop reason, or more than one.
    """
    if spread is not None:
        return spread.nearest(context, queries, lambda one, part: nearest(one, part, tree, halos, earlier=earlier))
    if choose_verb(context.settings, context.payload) == "search":
        if is_called(context.payload):
            refuse_tree()
        structure = tree()
        begin = time.perf_counter()
        strategy: Strategy = TreeWalk(context, queries, structure)
    else:
        begin = time.perf_counter()
        strategy = choose_scan(context, queries, halos, earlier)
    return driver.run(context, strategy, driver.NearestResults(len(queries), context.k), begin)


def within(
    context: SearchContext, queries: QueryBlock, radius: float, max_bytes: float | None = float("inf")
) -> Answer:
    """All rows within `radius` of each query of a block, the nearest first (A7).

    Parameters
    ----------
    context : SearchContext
        Its k is 0.
    queries : QueryBlock
    radius : float
    max_bytes : float or None
        Memory that the neighbours may take, `covertreex.search.radius.BYTES` each; None for half of what is available.

    Returns
    -------
    Answer
        With `indptr`.

    Raises
    ------
    InvalidInputError
        If there are more neighbours than `max_bytes` has room for: they are counted as they are found.
    BackendError
        As `nearest`.
    """
    begin = time.perf_counter()
    strategy = Radius(context, queries, radius, Tally(len(queries), radius, max_bytes))
    return driver.run(context, strategy, driver.RadiusResults(len(queries)), begin)

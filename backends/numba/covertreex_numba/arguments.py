"""What kernels take: named tuples of arrays and scalars, of the same types whatever the caller's arrays were.

Numba compiles once for each combination of types, and to it a read-only array is of another type than a writable one.
So every input becomes a read-only view here, and every number an int, float or bool.
"""

from typing import NamedTuple

import numpy as np

from covertreex.protocols import DUPLICATE_LEVEL, EXPRESSION, KERNEL_CODES, NO_KERNEL, check_codes

WIDEST_TILE = 64

#: Kernels that `covertreex_numba.kernels.kernel_value` has a branch for, and all numbers that are known.
CLOSED = ("rbf", "matern12", "matern32", "matern52", "rationalquadratic")
KNOWN = {NO_KERNEL, EXPRESSION, *(KERNEL_CODES[name] for name in CLOSED)}


class Expression(NamedTuple):
    """See `covertreex.kernels.Expression`."""

    group_stop: np.ndarray
    term_stop: np.ndarray
    weight: np.ndarray
    factor_group: np.ndarray
    factor_table: np.ndarray
    rescale_group: np.ndarray
    rescale_table: np.ndarray
    table_first: np.ndarray
    table_stop: np.ndarray
    pieces: np.ndarray


class Payload(NamedTuple):
    """See `covertreex.data.payload.PayloadStore`; `expression` has no terms if the kernel has a closed form."""

    metric: int
    kernel_code: int
    variance: float
    alpha: float
    slack_rel: float
    coords: np.ndarray
    factors: np.ndarray
    p: np.ndarray
    index: np.ndarray
    expression: Expression


class TreeArrays(NamedTuple):
    """See `covertreex.data.tree.Tree`; `root` is an array of one node."""

    root: np.ndarray
    level: np.ndarray
    child_ptr: np.ndarray
    children: np.ndarray
    parent_distance: np.ndarray
    si: np.ndarray


class Queries(NamedTuple):
    """See `covertreex.protocols.QueryBlock`."""

    rows: np.ndarray
    coords: np.ndarray
    factors: np.ndarray
    p: np.ndarray
    exclude: np.ndarray
    limit: np.ndarray
    rank: np.ndarray
    prefix: bool
    slack_abs: float


class Plan(NamedTuple):
    """See `covertreex.protocols.ScanPlan`."""

    group_ptr: np.ndarray
    run_ptr: np.ndarray
    run_start: np.ndarray
    run_stop: np.ndarray
    run_lower: np.ndarray
    kth_upper: np.ndarray


class Options(NamedTuple):
    """See `covertreex.settings.TraversalSettings`."""

    kth_frontier_stop: bool
    bitset: bool
    stream_tile: int
    dynamic_tile: bool
    level_cache: bool
    radius_floor: float
    budget_schedule: np.ndarray
    budget_up: float
    budget_down: float
    level_cap: int


class Scratch(NamedTuple):
    """Memory that one query after another uses."""

    bound: np.ndarray  # The frontier, four arrays in step; its size is heap_size[0].
    sequence: np.ndarray
    node: np.ndarray
    node_distance: np.ndarray
    heap_size: np.ndarray
    stamps: np.ndarray  # A plain visited set: the number of the query that visited the node last, from 1.
    bits: np.ndarray  # A visited set of one bit per node.
    evaluated: np.ndarray  # Nodes evaluated per level, for the level cap.
    fresh: np.ndarray  # Nodes of a tile, their distances, and what nodes at one distance are told apart by.
    fresh_distance: np.ndarray
    fresh_ties: np.ndarray
    ties: np.ndarray  # The same of the k best.


def _pack(kind, source):
    """The fields of `kind`, taken from `source`; a number where an array is declared becomes an array of one."""
    return kind(*(_converted(declared, getattr(source, name)) for name, declared in kind.__annotations__.items()))


def _converted(declared, value):
    if declared is np.ndarray:
        return _read_only(np.atleast_1d(value))
    if declared is Expression:
        return _NO_TABLES if value is None else _pack(Expression, value)
    return declared(value)


def _read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


_INTEGERS = _read_only(np.empty(0, dtype=np.int64))
_NO_TABLES = Expression(*[_INTEGERS] * len(Expression._fields))._replace(
    weight=_read_only(np.empty(0)), pieces=_read_only(np.empty((0, 8)))
)


def payload(store):
    """`Payload` of a `PayloadStore`; a ValueError if its metric or kernel is unknown."""
    check_codes(store.metric, store.kernel_code)
    if store.kernel_code not in KNOWN:
        name = next(name for name, code in KERNEL_CODES.items() if code == store.kernel_code)
        raise ValueError(f"the numba backend does not have the kernel {name}; `kernel_value` in kernels.py needs it.")
    if store.kernel_code == EXPRESSION and store.expression is None:
        raise ValueError(f"payload.expression must be there for a kernel of code {EXPRESSION}.")
    return _pack(Payload, store)


def tree(tree):
    """`TreeArrays` of a `Tree`."""
    return _pack(TreeArrays, tree)


def queries(block):
    """`Queries` of a `QueryBlock`."""
    return _pack(Queries, block)


def plan(scan_plan):
    """`Plan` of a `ScanPlan`."""
    return _pack(Plan, scan_plan)


def options(settings):
    """`Options` of a `TraversalSettings`."""
    schedule = _read_only(np.array(settings.budget_schedule, dtype=np.int64))
    return Options(
        settings.kth_frontier_stop,
        settings.visited == "bitset",
        settings.stream_tile,
        settings.dynamic_tile,
        settings.level_cache,
        float(settings.radius_floor),
        schedule,
        float(settings.budget_up),
        float(settings.budget_down),
        settings.level_cap,
    )


def scratch(tree, k, settings):
    """`Scratch` for one call on a `Tree`."""
    n = len(tree)
    bitset, levels = settings.visited == "bitset", int(tree.level[tree.root]) - DUPLICATE_LEVEL + 1
    return Scratch(
        np.empty(n, dtype=np.float64),
        np.empty(n, dtype=np.int64),
        np.empty(n, dtype=np.int64),
        np.empty(n, dtype=np.float64),
        np.zeros(1, dtype=np.int64),
        np.zeros(0 if bitset else n, dtype=np.int64),
        np.zeros((n + 63) // 64 if bitset else 0, dtype=np.uint64),
        np.zeros(levels if settings.level_cap > 0 else 0, dtype=np.int64),
        np.empty(WIDEST_TILE, dtype=np.int64),
        np.empty(WIDEST_TILE, dtype=np.float64),
        np.empty((WIDEST_TILE, 2), dtype=np.float64),
        np.empty((k, 2), dtype=np.float64),
    )

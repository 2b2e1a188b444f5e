"""A `TreeState` as a JSON document and named arrays, and back: what `covertreex.io.container` holds and pickles carry.

Nothing that a document or an array says reaches a kernel before it was compared with everything else that they say.
Digests do not find a file that was made to mislead, and so arrays are compared with each other too.
"""

import math
import sys
from dataclasses import fields
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from covertreex._core.factors import cholesky, squares
from covertreex.base import parallel
from covertreex.base.kept import Kept
from covertreex.base.types import AnyArray, FloatArray, IntArray
from covertreex.base.validation import LARGEST_COORDINATE, read_only
from covertreex.data.build import farthest_below, pair_distances, radii
from covertreex.data.canonical import canonical_covariance
from covertreex.data.changes import without_dead
from covertreex.data.factors import P_FLOOR, Projection, sampled_deficit, solve, supplied_unit, unitless
from covertreex.data.metrics import Correlation, Euclidean, Metric, ResidualCorrelation
from covertreex.data.payload import EUCLIDEAN, RESIDUAL, ROUNDOFF, PayloadStore, padded
from covertreex.data.state import TreeState
from covertreex.data.tree import DUPLICATE_LEVEL, Tree
from covertreex.errors import FileFormatError, InvalidInputError
from covertreex.io.container import REPAIR, check_keys, require
from covertreex.io.kernels import assemble_kernel, describe_kernel
from covertreex.kernels import Kernel

#: Rows of factors that one task looks at.
ROWS = 2**12

#: Multiplications that recomputing a sample of rows, or of radii, may take: about a tenth of a second.
BUDGET = 2**28

#: At least so many rows are in a sample, and so many rows of the Cholesky factor are recomputed.
SAMPLE, LEADING = 64, 256

#: Levels are exponents of float64 distances.
HIGHEST_LEVEL = 1100

LARGEST = sys.float_info.max

#: A metric, its projection, and the factors and p of the payload.
Parts: TypeAlias = tuple[Metric, Projection | None, FloatArray, FloatArray]


# ---------------------------------------------------------------------------------------------------------------------
# From a state


class StoredRows:
    """An array of the caller's, in the caller's order; copied out of payload rows only when somebody asks for it.

    Parameters
    ----------
    array : ndarray, shape (n, ...)
        In row order.
    row : ndarray, shape (n,)
        Row of each dataset index.
    columns : int, optional
        Only the first so many columns are the caller's; the others are padding.
    unit : float
        What the caller's numbers were divided by, a power of two.
    """

    def __init__(self, array: FloatArray, row: IntArray, columns: int | None = None, unit: float = 1.0) -> None:
        self._array, self._row, self._columns, self._unit = array, row, columns, unit
        self.shape = array.shape if columns is None else (len(array), columns)
        self.ndim, self.dtype = len(self.shape), array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        if copy is False:
            raise ValueError("these values are stored in another order; they cannot be had without a copy.")
        array = self._array if self._columns is None else self._array[:, : self._columns]
        array = array[self._row]
        array *= self._unit
        return array.astype(self.dtype if dtype is None else dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __repr__(self) -> str:
        return f"StoredRows(shape={self.shape}, dtype={self.dtype})"


def _same_bits(a: FloatArray, b: FloatArray) -> bool:
    return a.shape == b.shape and np.array_equal(a.view(np.int64), b.view(np.int64))


def describe(state: TreeState) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """What it takes to make `state` again.

    Returns
    -------
    document : dict
        JSON can hold it.
    arrays : dict of str to ndarray
        float64 and int64, C-contiguous, not empty. Those of the payload and the cover tree are not copied.

    Raises
    ------
    InvalidInputError
        If the metric cannot be written down.
    """
    state = without_dead(state)
    payload, metric = state.payload, state.metric
    arrays = {"coords": payload.coords, "index": payload.index, "row": payload.row}
    arrays |= {"factors": payload.factors, "p": payload.p}
    if not _same_bits(payload.coords[payload.row], state.X):
        arrays["x"] = state.X
    if state.held is not None:
        arrays["ids"] = state.held
    document: dict[str, Any] = {
        "metric": _describe_metric(metric, state, arrays),
        "slack_abs": float(payload.slack_abs),
        "slack_rel": float(payload.slack_rel),
        "floored": int(payload.floored),
        "tree": None,
    }
    if state.feature_names is not None:
        document["feature_names"] = list(state.feature_names)
    if state.built is not None:
        document["tree"] = {"root": int(state.built.root)}
        if not state.built.cover_metric:
            document["tree"]["cover_metric"] = False
        arrays |= tree_arrays(state.built)
    return document, {name: array for name, array in arrays.items() if array.size}


def tree_arrays(tree: Tree) -> dict[str, AnyArray]:
    names = (field.name for field in fields(Tree) if field.name not in ("root", "cover_metric", "farthest"))
    return {f"tree.{name}": getattr(tree, name) for name in names}


def _describe_metric(metric: Metric, state: TreeState, arrays: dict[str, AnyArray]) -> dict[str, Any]:
    """The metric for the document; adds what arrays it needs to `arrays`."""
    if isinstance(metric, Euclidean):
        return {"name": "euclidean"}
    kernel = describe_kernel(metric.kernel, arrays)
    if isinstance(metric, Correlation):
        return {"name": "correlation", "kernel": kernel}

    document = {"name": "residual", "kernel": kernel, "jitter": None if metric.jitter is None else float(metric.jitter)}
    if metric.v_matrix is not None:
        document["factor_columns"] = int(np.shape(metric.v_matrix)[1])
        document["p_diag"] = "none"
        if metric.p_diag is not None:
            p_diag = np.ascontiguousarray(metric.p_diag, dtype=np.float64)
            p = state.payload.p[state.payload.row] * state.payload.unit
            document["p_diag"] = "p" if _same_bits(p_diag, p) else "array"
            if document["p_diag"] == "array":
                arrays["p_diag"] = p_diag
        return document

    projection = state.projection
    arrays |= {"inducing": projection.inducing, "cholesky": projection.cholesky}
    inducing = np.asarray(metric.inducing)
    if inducing.ndim == 2:
        arrays["inducing_points"] = np.ascontiguousarray(inducing, dtype=np.float64)
    elif inducing.ndim == 1:
        arrays["inducing_rows"] = np.ascontiguousarray(inducing, dtype=np.int64)
    else:
        # A seed says which rows only to a generator that still draws as today's does, so the rows are written too.
        arrays["inducing_rows"] = _drawn_rows(metric.seed, len(state), int(inducing))
        if isinstance(metric.seed, (int, np.integer)) and not isinstance(metric.seed, bool):
            document["seed"] = int(metric.seed)
        else:
            arrays["inducing_rows"] = state.payload.locate(projection.inducing)
    return document


def _drawn_rows(seed: Any, n: int, count: int) -> IntArray:
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False))


# ---------------------------------------------------------------------------------------------------------------------
# To a state


class Arrays:
    """Arrays by name, each of which must have the shape and number type that is asked for, and all be asked for."""

    def __init__(self, arrays: dict[str, AnyArray]) -> None:
        self.left = dict(arrays)

    def take(self, name: str, dtype: DTypeLike, shape: tuple[int | None, ...]) -> AnyArray:
        """The array `name`; None in `shape` stands for any length above 0. An array without elements is not stored."""
        if name not in self.left and 0 in shape:
            return np.zeros(shape, dtype=dtype)
        require(name in self.left, f"the array {name!r} is missing")
        array = self.left.pop(name)
        have = array.shape
        fits = len(have) == len(shape) and all(want in (None, got) for want, got in zip(shape, have, strict=True))
        wanted = f"{np.dtype(dtype)} of shape {_shape(shape)}"
        require(
            fits and array.dtype == dtype and array.size and array.flags.c_contiguous,
            f"the array {name!r} must be {wanted}, but is {array.dtype} of shape {have}",
        )
        return array

    def numbers(
        self, name: str, shape: tuple[int | None, ...], low: float = -LARGEST, high: float = LARGEST
    ) -> FloatArray:
        """A float64 array with values from `low` to `high`."""
        array = self.take(name, np.float64, shape)
        with np.errstate(invalid="ignore"):
            within = array.size == 0 or (array.min() >= low and array.max() <= high)  # neither, where there is a NaN
        require(within, f"the array {name!r} has values that are not between {low:g} and {high:g}")
        return array

    def places(self, name: str, shape: tuple[int | None, ...], stop: int, start: int = 0) -> IntArray:
        """An int64 array with values in ``[start, stop)``."""
        array = self.take(name, np.int64, shape)
        within = array.size == 0 or (array.min() >= start and array.max() < stop)
        require(within, f"the array {name!r} has values that are not from {start} to {stop - 1}")
        return array


def _shape(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"


def _number(document: Any, key: str, low: float = 0.0, high: float = LARGEST) -> float:
    value = document.get(key)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    require(good, f"{key} must be a number between {low:g} and {high:g}, but is {value!r}")
    return value


def _integer(document: Any, key: str, low: int, high: int) -> int:
    value = document.get(key)
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    require(good, f"{key} must be an integer from {low} to {high}, but is {value!r}")
    return value


def assemble(document: Any, stored: dict[str, AnyArray], n_threads: int | None, verify: bool = False) -> TreeState:
    """The `TreeState` that `describe` described; checks, in time linear in n, all that a kernel relies on.

    Every index and offset is in range, both maps are each other's inverses, the cover tree is one tree, and all numbers
    but the factors, which are most of the file, are finite and bounded. With `verify` the factors are looked at too,
    and everything that was computed from something else is compared with it (`Recomputed`), as is done for every file
    unless its reader opts out; pickles, which run code anyway, are believed.

    Raises
    ------
    FileFormatError
        Naming what is missing, out of range or contradicted.
    """
    document = dict(document) if isinstance(document, dict) else document
    names = document.pop("feature_names", None) if isinstance(document, dict) else None
    check_keys(document, "the description", "metric", "slack_abs", "slack_rel", "floored", "tree")
    arrays = Arrays(stored)
    coords = arrays.numbers("coords", (None, None), -LARGEST_COORDINATE, LARGEST_COORDINATE)
    n = len(coords)
    index = arrays.places("index", (n,), n)
    row = arrays.places("row", (n,), n)
    require(np.array_equal(row[index], np.arange(n)), "the arrays 'index' and 'row' are not each other's inverse")
    X, held = _assemble_points(arrays, coords, row)
    if names is not None:
        d = X.shape[1]
        good = isinstance(names, list) and len(names) == d and all(isinstance(name, str) for name in names)
        require(good, f"feature_names must be {d} strings, one per column, but is {names!r}")
        names = tuple(names)
    metric, projection, payload = _assemble_payload(
        document, arrays, coords, index, row, X if held is None else X[held]
    )
    tree = None if document["tree"] is None else assemble_tree(document["tree"], arrays, index)
    require(not arrays.left, f"there are arrays that do not belong here: {', '.join(sorted(arrays.left))}")
    state = TreeState(X, metric, payload, projection, n_threads, names, held=held, kept=Kept(tree=tree))
    if verify:
        Recomputed(state).check()
    return state


def _assemble_points(arrays: Arrays, coords: FloatArray, row: IntArray) -> tuple[FloatArray, IntArray | None]:
    """All points, in the caller's order, and which of them the payload holds, None for all."""
    n, held = len(coords), None
    if "ids" in arrays.left:
        X = arrays.numbers("x", (None, None), -LARGEST_COORDINATE, LARGEST_COORDINATE)
        held = read_only(arrays.places("ids", (n,), len(X)))
        require(np.all(np.diff(held) > 0), "the array 'ids' does not ascend")
    elif "x" in arrays.left:
        X = arrays.numbers("x", (n, None), -LARGEST_COORDINATE, LARGEST_COORDINATE)
    else:
        X = coords[row]
    return read_only(X), held


def _assemble_payload(
    document: Any, arrays: Arrays, coords: FloatArray, index: IntArray, row: IntArray, points: FloatArray
) -> tuple[Metric, Projection | None, PayloadStore]:
    """Metric, projection and payload of `points`, which are in order of index."""
    try:
        metric, projection, factors, p = _assemble_metric(document["metric"], arrays, points, row)
    except InvalidInputError as error:
        raise FileFormatError(f"the metric makes no sense: {error} {REPAIR}") from None
    width = points.shape[1] if isinstance(metric, Euclidean) else _width(metric.kernel, points.shape[1])
    have, want = coords.shape, (len(coords), width)
    require(have == want, f"the array 'coords' must be float64 of shape {want}, but is float64 of shape {have}")
    unit = 1.0 if isinstance(metric, Euclidean) else metric.unit
    kernel = None if isinstance(metric, Euclidean) else unitless(metric.kernel, unit)
    payload = PayloadStore(
        metric=EUCLIDEAN if kernel is None else RESIDUAL,
        kernel=kernel,
        coords=coords,
        factors=factors,
        p=p,
        index=index,
        row=row,
        slack_abs=float(_number(document, "slack_abs")),
        slack_rel=float(_number(document, "slack_rel")),
        floored=_integer(document, "floored", 0, len(coords)),
        unit=unit,
    )
    return metric, projection, payload


def _width(kernel: Kernel, d: int) -> int:
    """How many scaled coordinates there are of points with `d` columns."""
    return sum(columns.width(d) for columns in kernel.groups)


def _assemble_metric(document: Any, arrays: Arrays, X: FloatArray, row: IntArray) -> Parts:
    """Metric, projection, and the factors and p of the payload."""
    n = len(X)
    name = document.get("name") if isinstance(document, dict) else None
    if name == "euclidean":
        check_keys(document, "the metric", "name")
        return Euclidean(), Projection(None), np.zeros((n, 0)), np.zeros(0)
    require(name in ("correlation", "residual"), f"the metric {name!r} is none of euclidean, correlation, residual")
    kernel = assemble_kernel(document.get("kernel"), arrays)
    unit = supplied_unit(kernel) if "factor_columns" in document else kernel.variance
    p = arrays.numbers("p", (n,), low=P_FLOOR * (kernel.variance / unit))
    if name == "correlation":
        check_keys(document, "the metric", "name", "kernel")
        return Correlation(kernel), Projection(unitless(kernel)), np.zeros((n, 0)), p

    jitter = None if document.get("jitter") is None else float(_number(document, "jitter"))
    if "factor_columns" in document:
        return _assemble_supplied(document, arrays, kernel, jitter, unit, p, row)
    return _assemble_inducing(document, arrays, kernel, jitter, p, X)


def _assemble_supplied(
    document: Any, arrays: Arrays, kernel: Kernel, jitter: float | None, unit: float, p: FloatArray, row: IntArray
) -> Parts:
    """As `_assemble_metric`, of factors that the caller supplied."""
    n = len(p)
    check_keys(document, "the metric", "name", "kernel", "jitter", "factor_columns", "p_diag")
    m = _integer(document, "factor_columns", 1, 2**40)
    factors = arrays.take("factors", np.float64, (n, padded(m)))
    require(document["p_diag"] in ("none", "p", "array"), "p_diag is none of none, p, array")
    if document["p_diag"] == "array":
        p_diag: Any = arrays.numbers("p_diag", (n,), low=0.0)
        given = np.maximum(p_diag, P_FLOOR * kernel.variance) / unit
        require(np.allclose(p[row], given, rtol=1e-9, atol=0.0), "the array 'p' is not what 'p_diag' makes it")
    else:
        p_diag = StoredRows(p, row, unit=unit) if document["p_diag"] == "p" else None
    v_matrix = StoredRows(factors, row, m, math.sqrt(unit))
    metric = ResidualCorrelation(kernel, jitter=jitter, v_matrix=v_matrix, p_diag=p_diag)
    return metric, None, factors, p


def _assemble_inducing(
    document: Any, arrays: Arrays, kernel: Kernel, jitter: float | None, p: FloatArray, X: FloatArray
) -> Parts:
    """As `_assemble_metric`, of factors that were computed from inducing points."""
    n, d = X.shape
    inducing = arrays.numbers("inducing", (None, _width(kernel, d)), -LARGEST_COORDINATE, LARGEST_COORDINATE)
    m = len(inducing)
    cholesky = arrays.numbers("cholesky", (m, padded(m)))
    require(np.all(np.diagonal(cholesky) > 0.0), "the array 'cholesky' has a diagonal that is not positive")
    require(not np.any(np.triu(cholesky, 1)), "the array 'cholesky' is not zero above its diagonal")
    factors = arrays.take("factors", np.float64, (n, padded(m)))
    chosen: Any
    if "inducing_points" in arrays.left:
        check_keys(document, "the metric", "name", "kernel", "jitter")
        chosen, seed = arrays.numbers("inducing_points", (m, d), -LARGEST_COORDINATE, LARGEST_COORDINATE), 0
        source = kernel.scale(chosen)
    else:
        chosen, seed = arrays.places("inducing_rows", (m,), n), 0
        source = kernel.scale(X[chosen])
        if "seed" in document:
            seed = _integer(document, "seed", 0, 2**1024)
            if m <= n and np.array_equal(_drawn_rows(seed, n, m), chosen):
                chosen = m
        check_keys(document, "the metric", "name", "kernel", "jitter", *(["seed"] if "seed" in document else []))
    require(np.array_equal(source, inducing), "the array 'inducing' is not the inducing points that are named")
    metric = ResidualCorrelation(kernel, chosen, seed, jitter)
    return metric, Projection(unitless(kernel), read_only(inducing), read_only(cholesky)), factors, p


def assemble_tree(document: Any, arrays: Arrays, index: IntArray) -> Tree:
    """The cover tree: T1, T2 and the range of everything; distances are taken as they are, if finite."""
    n = len(index)
    cover_metric = "cover_metric" not in document if isinstance(document, dict) else True
    check_keys(document, "the cover tree", "root", *([] if cover_metric else ["cover_metric"]))
    require(cover_metric or document["cover_metric"] is False, "cover_metric is given, but is not false")
    root = _integer(document, "root", 0, n - 1)
    parent = arrays.places("tree.parent", (n,), n, start=-1)
    level = arrays.places("tree.level", (n,), HIGHEST_LEVEL + 1, start=DUPLICATE_LEVEL)
    child_ptr = arrays.places("tree.child_ptr", (n + 1,), n)
    children = arrays.places("tree.children", (n - 1,), n)
    parent_distance = arrays.numbers("tree.parent_distance", (n,), low=0.0)
    si = arrays.numbers("tree.si", (n,), low=0.0)

    counts = np.diff(child_ptr)
    pointed = child_ptr[0] == 0 and child_ptr[-1] == n - 1 and counts.min() >= 0
    require(pointed, "the array 'tree.child_ptr' does not run from 0 up to the number of children")
    above = parent[children]
    agreed = np.array_equal(above, np.repeat(np.arange(n), counts))
    require(agreed, "T1: the array 'tree.children' contradicts 'tree.parent'")
    met = np.zeros(n, dtype=bool)
    met[children] = True
    # n - 1 places that name n - 1 different nodes, and not the root: each other node hangs on its one parent.
    whole = parent[root] == -1 and np.count_nonzero(met) == n - 1 and not met[root]
    require(whole, "T1: the cover tree is not one tree")
    require(np.all(level[children] < level[above]), "T2: a node of the cover tree is not below its parent")
    born = index[children]
    siblings = np.diff(above) == 0
    in_order = np.all(np.diff(born)[siblings] > 0) and np.all(index[above] < born)
    require(in_order, "T1: nodes of the cover tree are not in order of insertion")
    return Tree(root, parent, level, child_ptr, children, parent_distance, si, cover_metric)


def check_old_units(document: Any) -> None:
    """Factors of version 1 were in the units of the kernel's variance, those of today are in its own (A8)."""
    metric = document.get("metric") if isinstance(document, dict) else None
    kernel = metric.get("kernel") if isinstance(metric, dict) else None
    require(
        not isinstance(kernel, dict) or kernel.get("variance") == 1.0,
        "it is of version 1 of the format, which kept factors in the units of the kernel's variance; that can be read "
        "where it is 1 alone. Make the tree anew from its points, and save that.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# What was computed, and what from


class Recomputed:
    """Compares what a file says was computed with what it was computed from.

    Canonical arithmetic gives the same bits everywhere, so most comparisons are of bits. All rows are looked at where
    that takes about as long as reading them; where it would take longer, as many as `BUDGET` pays for, evenly spread.

    Parameters
    ----------
    state : TreeState

    Each method raises `FileFormatError`, naming the array that contradicts others.
    """

    def __init__(self, state: TreeState) -> None:
        self.state, self.n_threads = state, state.threads
        self.metric, self.projection, self.payload = state.metric, state.projection, state.payload
        self.longest = 0.0

    def check(self) -> None:
        """All of it."""
        self.coords(self.state.held_points)
        self.factors()
        self.slack()
        if self.state.built is not None:
            self.cover(self.state.built)

    def _sample(self, cost: int) -> IntArray:
        """Rows to look at, if each takes `cost` multiplications: all that `BUDGET` allows."""
        n = len(self.payload)
        count = min(n, max(SAMPLE, BUDGET // cost))
        return np.arange(n) if count == n else np.unique(np.linspace(0, n - 1, count).astype(np.int64))

    def coords(self, X: FloatArray) -> None:
        """The payload's coordinates are those of the points `X`, which are in order of index."""
        kernel, payload = self.payload.kernel, self.payload
        try:
            scaled = X if kernel is None else kernel.scale(X)
        except InvalidInputError as error:
            raise FileFormatError(f"the kernel does not belong to the points: {error} {REPAIR}") from None
        good = np.array_equal(scaled[payload.index], payload.coords)
        require(good, "the array 'coords' is not the points in units of the lengthscale")

    def factors(self) -> None:
        """Factors and p, by the kernel and by each other."""
        payload = self.payload
        if payload.metric == RESIDUAL:
            self._residual()
        found = int(np.count_nonzero(payload.p <= P_FLOOR * payload.variance))
        require(payload.floored == found, f"floored is {payload.floored}, but {found} rows of 'p' are at the floor")

    def _residual(self) -> None:
        payload, metric = self.payload, self.metric
        kernel, variance, m = payload.kernel, payload.variance, payload.factors.shape[1]
        explained = self._explained()
        rounding = (m + 64) * ROUNDOFF * variance
        # This is false for a NaN, and an infinity anywhere in a row makes its sum infinite or one.
        within = explained <= variance * (1.0 + 1e-6) + rounding
        require(np.all(within), "the array 'factors' has rows that are not finite or explain more than the variance")
        self.longest = float(explained.max())
        left = np.maximum(variance - explained, P_FLOOR * variance)
        supplied = metric if isinstance(metric, ResidualCorrelation) and metric.v_matrix is not None else None
        if supplied is not None and supplied.p_diag is not None:
            agree = left - rounding - payload.p <= 1e-6 * payload.p
        else:
            agree = left == payload.p
        require(np.all(agree), "the array 'p' is not the variance that 'factors' leave")
        if supplied is not None:
            columns = np.shape(supplied.v_matrix)[1]
            require(not np.any(payload.factors[:, columns:]), "the array 'factors' is not padded with zeros")
            try:
                sampled_deficit(kernel, payload.coords, payload.factors, payload.p, "the array 'factors'")
            except InvalidInputError as error:
                raise FileFormatError(f"{error} {REPAIR}") from None
        elif isinstance(metric, ResidualCorrelation):
            self._projected(metric)

    def _explained(self) -> FloatArray:
        """Canonical ``|v|**2`` of every row of factors."""
        factors = self.payload.factors
        out = np.zeros(len(factors))
        if factors.size:
            parts = [slice(*span) for span in parallel.spans(len(factors), ROWS)]
            parallel.run([partial(squares, factors[part], out[part]) for part in parts], self.n_threads)
        return out

    def _projected(self, metric: ResidualCorrelation) -> None:
        """Factors from inducing points: a sample of rows anew, and the leading rows of the Cholesky factor."""
        payload, kernel = self.payload, self.payload.kernel
        inducing, L = self.projection.inducing, self.projection.cholesky
        m = min(len(L), LEADING)
        covariance, leading = canonical_covariance(kernel, inducing[:m]), np.zeros((m, padded(m)))
        covariance[np.diag_indices(m)] += metric.jitter_share
        good = cholesky(covariance, leading) < 0 and np.allclose(leading[:, :m], L[:m, :m], rtol=1e-9, atol=1e-12)
        require(good, "the array 'cholesky' is not that of the kernel, the jitter and 'inducing'")
        rows = self._sample(len(L) * (len(L) + 64))
        for start, stop in parallel.spans(len(rows), ROWS):
            some = rows[start:stop]
            factors, _ = solve(kernel, L, inducing, payload.coords[some], self.n_threads)
            good = np.array_equal(factors, payload.factors[some])
            require(good, "the array 'factors' is not that of the kernel, 'inducing', 'cholesky' and 'coords'")

    def slack(self) -> None:
        """B1: less slack than the metric itself gives makes bounds that do not hold."""
        payload, metric = self.payload, self.metric
        one = np.zeros(1, dtype=np.int64)
        if isinstance(metric, ResidualCorrelation):
            low = slice(at := int(np.argmin(payload.p)), at + 1)
            m = len(self.projection.inducing) if metric.v_matrix is None else np.shape(metric.v_matrix)[1]
            point = payload.coords[low], one, payload.factors[low], payload.p[low]
            made = metric.finish(*point, m, 0.0, self.longest)
        else:
            made, _ = metric.prepare(np.zeros((1, payload.coords.shape[1])), order=one)
        for name in ("slack_abs", "slack_rel"):
            value, low = getattr(payload, name), getattr(made, name)
            require(value >= low * (1.0 - 1e-6), f"{name} is {value!r}, but this metric needs at least {low:.6g}")

    def cover(self, tree: Tree) -> None:
        """T3 and T5, but for radii that too many distances are in: these are compared with some of them."""
        payload, children = self.payload, tree.children
        if len(children) == 0:
            require(tree.si[0] == 0.0 == tree.parent_distance[0], "T5: a single node has a radius or a parent")
            return
        distances = tree.parent_distance[children]
        found = pair_distances(payload, children, tree.parent[children], self.n_threads)
        good = tree.parent_distance[tree.root] == 0.0 and np.array_equal(found, distances)
        require(good, "T3: the array 'tree.parent_distance' is not the distances between nodes and parents")
        if tree.cover_metric:
            level = tree.level[children]
            reach = np.where(level == DUPLICATE_LEVEL, 0.0, np.ldexp(1.0, np.maximum(level + 1, -1080)))
            require(np.all(distances <= reach), "T3: a node is farther from its parent than its level allows")
        counts = np.diff(tree.child_ptr)
        inner = np.flatnonzero(counts)
        near = np.maximum.reduceat(distances, tree.child_ptr[inner])
        good = not np.any(tree.si[counts == 0]) and np.all(tree.si[inner] >= payload.upper(near))
        require(good, "T5: the array 'tree.si' has radii that do not reach to the children")
        rows = self._sample(32 * (payload.coords.shape[1] + payload.factors.shape[1] + 32))
        radius = radii(payload, farthest_below(payload, tree.parent, rows, self.n_threads))
        good = np.array_equal(radius, tree.si) if len(rows) == len(tree) else np.all(radius <= tree.si)
        require(good, "T5: the array 'tree.si' has radii that do not reach to all descendants")

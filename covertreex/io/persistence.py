"""Saving and loading a tree: one file of aligned arrays that processes map and share (docs/file-format.md).

The file is a valid safetensors file. What this module adds is alignment, a digest per array and one of the header, and
checks: nothing that a file says reaches a kernel before it was compared with everything else that the file says.
Digests find damage. They do not find a file that was made to mislead, and so arrays are compared with each other too.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import stat
import sys
from dataclasses import fields, replace

import numpy as np
import xxhash

from covertreex.base import parallel
from covertreex.base.kept import Kept
from covertreex.base.validation import LARGEST_COORDINATE, check_flag, read_only
from covertreex.data.build import farthest_below, pair_distances, radii
from covertreex.data.canonical import canonical_covariance
from covertreex.data.changes import without_dead
from covertreex.data.factors import P_FLOOR, Projection, sampled_deficit, solve, supplied_unit, unitless
from covertreex.data.metrics import Correlation, Euclidean, ResidualCorrelation
from covertreex.data.payload import EUCLIDEAN, RESIDUAL, ROUNDOFF, PayloadStore, empty_factors, padded
from covertreex.data.state import TreeState
from covertreex.data.tree import DUPLICATE_LEVEL, Tree
from covertreex.errors import FileFormatError, InvalidInputError
from covertreex.kernels import KERNELS

FORMAT, VERSION = "covertreex", 2

#: What each version calls its list of digests.
DIGESTS = {1: "sha256", 2: "xxh3_128"}

#: Every array begins at a multiple of this many bytes: a cache line.
ALIGN = 64

#: Most bytes of a header; safetensors' own limit.
LONGEST_HEADER = 100_000_000

#: Bytes that are written or read between two looks at Ctrl-C.
CHUNK = 2**24

#: Bytes that are hashed at once, by one thread. A part of the format: the digest of an array is that of its blocks'.
BLOCK = 2**26

#: Rows of factors that one task looks at.
ROWS = 2**12

#: Multiplications that recomputing a sample of rows, or of radii, may take: about a tenth of a second.
BUDGET = 2**28

#: At least so many rows are in a sample, and so many rows of the Cholesky factor are recomputed.
SAMPLE, LEADING = 64, 256

#: Levels are exponents of float64 distances.
HIGHEST_LEVEL = 1100

LARGEST = sys.float_info.max

#: What the file calls the number types that it may hold.
DTYPES = {"F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "U8": np.dtype("u1")}

HEADER_DIGEST, PAD = "header_sha256", "pad."

_REPAIR = "Restore it from a copy, or build the tree and save it again."


# ---------------------------------------------------------------------------------------------------------------------
# A tree as a JSON document and named arrays, and back


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

    def __init__(self, array, row, columns=None, unit=1.0):
        self._array, self._row, self._columns, self._unit = array, row, columns, unit
        self.shape = array.shape if columns is None else (len(array), columns)
        self.ndim, self.dtype = len(self.shape), array.dtype

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ValueError("these values are stored in another order; they cannot be had without a copy.")
        array = self._array if self._columns is None else self._array[:, : self._columns]
        array = array[self._row]
        array *= self._unit
        return array.astype(self.dtype if dtype is None else dtype, copy=False)

    def __getitem__(self, key):
        return np.asarray(self)[key]

    def __repr__(self):
        return f"StoredRows(shape={self.shape}, dtype={self.dtype})"


def _same_bits(a, b):
    return a.shape == b.shape and np.array_equal(a.view(np.int64), b.view(np.int64))


def describe(state):
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
    document = {
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


def tree_arrays(tree):
    names = (field.name for field in fields(Tree) if field.name not in ("root", "cover_metric", "farthest"))
    return {f"tree.{name}": getattr(tree, name) for name in names}


def _describe_metric(metric, state, arrays):
    """The metric for the document; adds what arrays it needs to `arrays`."""
    if isinstance(metric, Euclidean):
        return {"name": "euclidean"}
    kernel = {"name": type(metric.kernel).__name__.lower()}
    if KERNELS.get(kernel["name"]) is not type(metric.kernel):
        raise InvalidInputError(f"a file holds one of the kernels {', '.join(KERNELS)}; got {metric.kernel!r}.")
    for field in fields(metric.kernel):
        value = getattr(metric.kernel, field.name)
        kernel[field.name] = list(value) if isinstance(value, tuple) else value
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


def _drawn_rows(seed, n, count):
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False))


class Arrays:
    """Arrays by name, each of which must have the shape and number type that is asked for, and all be asked for."""

    def __init__(self, arrays):
        self.left = dict(arrays)

    def take(self, name, dtype, shape):
        """The array `name`; None in `shape` stands for any length above 0. An array without elements is not stored."""
        if name not in self.left and 0 in shape:
            return np.zeros(shape, dtype=dtype)
        _require(name in self.left, f"the array {name!r} is missing")
        array = self.left.pop(name)
        have = array.shape
        fits = len(have) == len(shape) and all(want in (None, got) for want, got in zip(shape, have, strict=True))
        wanted = f"{np.dtype(dtype)} of shape {_shape(shape)}"
        _require(
            fits and array.dtype == dtype and array.size and array.flags.c_contiguous,
            f"the array {name!r} must be {wanted}, but is {array.dtype} of shape {have}",
        )
        return array

    def numbers(self, name, shape, low=-LARGEST, high=LARGEST):
        """A float64 array with values from `low` to `high`."""
        array = self.take(name, np.float64, shape)
        with np.errstate(invalid="ignore"):
            within = array.size == 0 or (array.min() >= low and array.max() <= high)  # neither, where there is a NaN
        _require(within, f"the array {name!r} has values that are not between {low:g} and {high:g}")
        return array

    def places(self, name, shape, stop, start=0):
        """An int64 array with values in ``[start, stop)``."""
        array = self.take(name, np.int64, shape)
        within = array.size == 0 or (array.min() >= start and array.max() < stop)
        _require(within, f"the array {name!r} has values that are not from {start} to {stop - 1}")
        return array


def _shape(shape):
    return "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"


def _require(condition, what):
    if not condition:
        raise FileFormatError(f"{what}. {_REPAIR}")


def _number(document, key, low=0.0, high=LARGEST):
    value = document.get(key)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    _require(good, f"{key} must be a number between {low:g} and {high:g}, but is {value!r}")
    return value


def _integer(document, key, low, high):
    value = document.get(key)
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    _require(good, f"{key} must be an integer from {low} to {high}, but is {value!r}")
    return value


def _keys(document, what, *wanted):
    good = isinstance(document, dict) and set(document) == set(wanted)
    _require(good, f"{what} must be an object with the keys {', '.join(wanted)}")


def assemble(document, arrays, n_threads, verify=False):
    """The `TreeState` that `describe` described; checks, in time linear in n, all that a kernel relies on.

    Every index and offset is in range, both maps are each other's inverses, the cover tree is one tree, and all numbers
    but the factors, which are most of the file, are finite and bounded. With `verify` the factors are looked at too,
    and everything that was computed from something else is compared with it (`_Recomputed`), as is done for every file
    unless its reader opts out; pickles, which run code anyway, are believed.

    Raises
    ------
    FileFormatError
        Naming what is missing, out of range or contradicted.
    """
    document = dict(document) if isinstance(document, dict) else document
    names = document.pop("feature_names", None) if isinstance(document, dict) else None
    _keys(document, "the description", "metric", "slack_abs", "slack_rel", "floored", "tree")
    arrays = Arrays(arrays)
    coords = arrays.numbers("coords", (None, None), -LARGEST_COORDINATE, LARGEST_COORDINATE)
    n, d = coords.shape
    if names is not None:
        good = isinstance(names, list) and len(names) == d and all(isinstance(name, str) for name in names)
        _require(good, f"feature_names must be {d} strings, one per column, but is {names!r}")
    index = arrays.places("index", (n,), n)
    row = arrays.places("row", (n,), n)
    _require(np.array_equal(row[index], np.arange(n)), "the arrays 'index' and 'row' are not each other's inverse")
    ids = None
    if "ids" in arrays.left:
        X = arrays.numbers("x", (None, d), -LARGEST_COORDINATE, LARGEST_COORDINATE)
        ids = arrays.places("ids", (n,), len(X))
        _require(np.all(np.diff(ids) > 0), "the array 'ids' does not ascend")
    elif "x" in arrays.left:
        X = arrays.numbers("x", (n, d), -LARGEST_COORDINATE, LARGEST_COORDINATE)
    else:
        X = coords[row]

    held = X if ids is None else X[ids]
    try:
        metric, projection, factors, p = _assemble_metric(document["metric"], arrays, held, row)
    except InvalidInputError as error:
        raise FileFormatError(f"the metric makes no sense: {error} {_REPAIR}") from None
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
        floored=_integer(document, "floored", 0, n),
        unit=unit,
    )
    cover = None if document["tree"] is None else assemble_tree(document["tree"], arrays, index)
    _require(not arrays.left, f"there are arrays that do not belong here: {', '.join(sorted(arrays.left))}")
    if verify:
        check = _Recomputed(metric, projection, payload, parallel.thread_count(n_threads))
        check.coords(held)
        check.factors()
        check.slack()
        if cover is not None:
            check.cover(cover)
    return TreeState(
        read_only(X),
        metric,
        payload,
        projection,
        n_threads,
        None if names is None else tuple(names),
        held=None if ids is None else read_only(ids),
        kept=Kept(tree=cover),
    )


def _assemble_metric(document, arrays, X, row):
    """Metric, projection, and the factors and p of the payload."""
    n, d = X.shape
    name = document.get("name") if isinstance(document, dict) else None
    if name == "euclidean":
        _keys(document, "the metric", "name")
        return Euclidean(), Projection(None), np.zeros((n, 0)), np.zeros(0)
    _require(name in ("correlation", "residual"), f"the metric {name!r} is none of euclidean, correlation, residual")
    kernel = _assemble_kernel(document.get("kernel"), d)
    unit = supplied_unit(kernel) if "factor_columns" in document else kernel.variance
    p = arrays.numbers("p", (n,), low=P_FLOOR * (kernel.variance / unit))
    if name == "correlation":
        _keys(document, "the metric", "name", "kernel")
        return Correlation(kernel), Projection(unitless(kernel)), np.zeros((n, 0)), p

    jitter = None if document.get("jitter") is None else float(_number(document, "jitter"))
    if "factor_columns" in document:
        _keys(document, "the metric", "name", "kernel", "jitter", "factor_columns", "p_diag")
        m = _integer(document, "factor_columns", 1, 2**40)
        factors = arrays.take("factors", np.float64, (n, padded(m)))
        _require(document["p_diag"] in ("none", "p", "array"), "p_diag is none of none, p, array")
        if document["p_diag"] == "array":
            p_diag = arrays.numbers("p_diag", (n,), low=0.0)
            given = np.maximum(p_diag, P_FLOOR * kernel.variance) / unit
            _require(np.allclose(p[row], given, rtol=1e-9, atol=0.0), "the array 'p' is not what 'p_diag' makes it")
        else:
            p_diag = StoredRows(p, row, unit=unit) if document["p_diag"] == "p" else None
        v_matrix = StoredRows(factors, row, m, math.sqrt(unit))
        metric = ResidualCorrelation(kernel, jitter=jitter, v_matrix=v_matrix, p_diag=p_diag)
        return metric, None, factors, p

    inducing = arrays.numbers("inducing", (None, d), -LARGEST_COORDINATE, LARGEST_COORDINATE)
    m = len(inducing)
    cholesky = arrays.numbers("cholesky", (m, padded(m)))
    _require(np.all(np.diagonal(cholesky) > 0.0), "the array 'cholesky' has a diagonal that is not positive")
    _require(not np.any(np.triu(cholesky, 1)), "the array 'cholesky' is not zero above its diagonal")
    factors = arrays.take("factors", np.float64, (n, padded(m)))
    if "inducing_points" in arrays.left:
        _keys(document, "the metric", "name", "kernel", "jitter")
        chosen, seed = arrays.numbers("inducing_points", (m, d), -LARGEST_COORDINATE, LARGEST_COORDINATE), 0
        source = kernel.scale(chosen)
    else:
        chosen, seed = arrays.places("inducing_rows", (m,), n), 0
        source = kernel.scale(X[chosen])
        if "seed" in document:
            seed = _integer(document, "seed", 0, 2**1024)
            if m <= n and np.array_equal(_drawn_rows(seed, n, m), chosen):
                chosen = m
        _keys(document, "the metric", "name", "kernel", "jitter", *(["seed"] if "seed" in document else []))
    _require(np.array_equal(source, inducing), "the array 'inducing' is not the inducing points that are named")
    metric = ResidualCorrelation(kernel, chosen, seed, jitter)
    return metric, Projection(unitless(kernel), read_only(inducing), read_only(cholesky)), factors, p


def _assemble_kernel(document, d):
    name = document.get("name") if isinstance(document, dict) else None
    _require(isinstance(name, str) and name in KERNELS, f"the kernel {name!r} is none of {', '.join(KERNELS)}")
    parameters = [field.name for field in fields(KERNELS[name])]
    _keys(document, "the kernel", "name", *parameters)
    scale = document["lengthscale"]
    _require(not isinstance(scale, list) or len(scale) == d, "there must be one lengthscale, or one per column")
    for value in (*(scale if isinstance(scale, list) else [scale]), *(document[name] for name in parameters[1:])):
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 < value <= LARGEST
        _require(good, f"kernel parameters must be positive numbers, but one is {value!r}")
    return KERNELS[name](**{name: tuple(v) if isinstance(v := document[name], list) else v for name in parameters})


def assemble_tree(document, arrays, index):
    """The cover tree: T1, T2 and the range of everything; distances are taken as they are, if finite."""
    n = len(index)
    cover_metric = "cover_metric" not in document if isinstance(document, dict) else True
    _keys(document, "the cover tree", "root", *([] if cover_metric else ["cover_metric"]))
    _require(cover_metric or document["cover_metric"] is False, "cover_metric is given, but is not false")
    root = _integer(document, "root", 0, n - 1)
    parent = arrays.places("tree.parent", (n,), n, start=-1)
    level = arrays.places("tree.level", (n,), HIGHEST_LEVEL + 1, start=DUPLICATE_LEVEL)
    child_ptr = arrays.places("tree.child_ptr", (n + 1,), n)
    children = arrays.places("tree.children", (n - 1,), n)
    parent_distance = arrays.numbers("tree.parent_distance", (n,), low=0.0)
    si = arrays.numbers("tree.si", (n,), low=0.0)

    counts = np.diff(child_ptr)
    pointed = child_ptr[0] == 0 and child_ptr[-1] == n - 1 and counts.min() >= 0
    _require(pointed, "the array 'tree.child_ptr' does not run from 0 up to the number of children")
    above = parent[children]
    agreed = np.array_equal(above, np.repeat(np.arange(n), counts))
    _require(agreed, "T1: the array 'tree.children' contradicts 'tree.parent'")
    met = np.zeros(n, dtype=bool)
    met[children] = True
    # n - 1 places that name n - 1 different nodes, and not the root: each other node hangs on its one parent.
    whole = parent[root] == -1 and np.count_nonzero(met) == n - 1 and not met[root]
    _require(whole, "T1: the cover tree is not one tree")
    _require(np.all(level[children] < level[above]), "T2: a node of the cover tree is not below its parent")
    born = index[children]
    siblings = np.diff(above) == 0
    in_order = np.all(np.diff(born)[siblings] > 0) and np.all(index[above] < born)
    _require(in_order, "T1: nodes of the cover tree are not in order of insertion")
    return Tree(root, parent, level, child_ptr, children, parent_distance, si, cover_metric)


class _Recomputed:
    """Compares what a file says was computed with what it was computed from.

    Canonical arithmetic gives the same bits everywhere, so most comparisons are of bits. All rows are looked at where
    that takes about as long as reading them; where it would take longer, as many as `BUDGET` pays for, evenly spread.

    Parameters
    ----------
    metric : Euclidean, Correlation or ResidualCorrelation
    projection : Projection or None
    payload : PayloadStore
    n_threads : int

    Each method raises `FileFormatError`, naming the array that contradicts others.
    """

    def __init__(self, metric, projection, payload, n_threads):
        self.metric, self.projection, self.payload, self.n_threads = metric, projection, payload, n_threads
        self.longest = 0.0

    def _sample(self, cost):
        """Rows to look at, if each takes `cost` multiplications: all that `BUDGET` allows."""
        n = len(self.payload)
        count = min(n, max(SAMPLE, BUDGET // cost))
        return np.arange(n) if count == n else np.unique(np.linspace(0, n - 1, count).astype(np.int64))

    def coords(self, X):
        """The payload's coordinates are those of the points `X`, which are in order of index."""
        kernel, payload = self.payload.kernel, self.payload
        try:
            scaled = X if kernel is None else kernel.scale(X)
        except InvalidInputError as error:
            raise FileFormatError(f"the kernel does not belong to the points: {error} {_REPAIR}") from None
        good = np.array_equal(scaled[payload.index], payload.coords)
        _require(good, "the array 'coords' is not the points in units of the lengthscale")

    def factors(self):
        """Factors and p, by the kernel and by each other."""
        payload = self.payload
        if payload.metric == RESIDUAL:
            self._residual()
        found = int(np.count_nonzero(payload.p <= P_FLOOR * payload.variance))
        _require(payload.floored == found, f"floored is {payload.floored}, but {found} rows of 'p' are at the floor")

    def _residual(self):
        payload, metric = self.payload, self.metric
        kernel, variance, m = payload.kernel, payload.variance, payload.factors.shape[1]
        explained = self._explained()
        rounding = (m + 64) * ROUNDOFF * variance
        # This is false for a NaN, and an infinity anywhere in a row makes its sum infinite or one.
        within = explained <= variance * (1.0 + 1e-6) + rounding
        _require(np.all(within), "the array 'factors' has rows that are not finite or explain more than the variance")
        self.longest = float(explained.max())
        left = np.maximum(variance - explained, P_FLOOR * variance)
        supplied = isinstance(metric, ResidualCorrelation) and metric.v_matrix is not None
        if supplied and metric.p_diag is not None:
            agree = left - rounding - payload.p <= 1e-6 * payload.p
        else:
            agree = left == payload.p
        _require(np.all(agree), "the array 'p' is not the variance that 'factors' leave")
        if supplied:
            columns = np.shape(metric.v_matrix)[1]
            _require(not np.any(payload.factors[:, columns:]), "the array 'factors' is not padded with zeros")
            try:
                sampled_deficit(kernel, payload.coords, payload.factors, payload.p, "the array 'factors'")
            except InvalidInputError as error:
                raise FileFormatError(f"{error} {_REPAIR}") from None
        elif m:
            self._projected()

    def _explained(self):
        """Canonical ``|v|**2`` of every row of factors."""
        from covertreex._core.factors import squares

        factors = self.payload.factors
        out = np.zeros(len(factors))
        if factors.size:
            spans = parallel.spans(len(factors), ROWS)
            parallel.run([lambda s=s: squares(factors[s[0] : s[1]], out[s[0] : s[1]]) for s in spans], self.n_threads)
        return out

    def _projected(self):
        """Factors from inducing points: a sample of rows anew, and the leading rows of the Cholesky factor."""
        from covertreex._core.factors import cholesky

        payload, kernel = self.payload, self.payload.kernel
        inducing, L = self.projection.inducing, self.projection.cholesky
        m = min(len(L), LEADING)
        covariance, leading = canonical_covariance(kernel, inducing[:m]), np.zeros((m, padded(m)))
        covariance[np.diag_indices(m)] += self.metric.jitter_share
        good = cholesky(covariance, leading) < 0 and np.allclose(leading[:, :m], L[:m, :m], rtol=1e-9, atol=1e-12)
        _require(good, "the array 'cholesky' is not that of the kernel, the jitter and 'inducing'")
        rows = self._sample(len(L) * (len(L) + 64))
        for start, stop in parallel.spans(len(rows), ROWS):
            some = rows[start:stop]
            factors, _ = solve(kernel, L, inducing, payload.coords[some], self.n_threads)
            good = np.array_equal(factors, payload.factors[some])
            _require(good, "the array 'factors' is not that of the kernel, 'inducing', 'cholesky' and 'coords'")

    def slack(self):
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
            _require(value >= low * (1.0 - 1e-6), f"{name} is {value!r}, but this metric needs at least {low:.6g}")

    def cover(self, tree):
        """T3 and T5, but for radii that too many distances are in: these are compared with some of them."""
        payload, children = self.payload, tree.children
        if len(children) == 0:
            _require(tree.si[0] == 0.0 == tree.parent_distance[0], "T5: a single node has a radius or a parent")
            return
        distances = tree.parent_distance[children]
        found = pair_distances(payload, children, tree.parent[children], self.n_threads)
        good = tree.parent_distance[tree.root] == 0.0 and np.array_equal(found, distances)
        _require(good, "T3: the array 'tree.parent_distance' is not the distances between nodes and parents")
        if tree.cover_metric:
            level = tree.level[children]
            reach = np.where(level == DUPLICATE_LEVEL, 0.0, np.ldexp(1.0, np.maximum(level + 1, -1080)))
            _require(np.all(distances <= reach), "T3: a node is farther from its parent than its level allows")
        counts = np.diff(tree.child_ptr)
        inner = np.flatnonzero(counts)
        near = np.maximum.reduceat(distances, tree.child_ptr[inner])
        good = not np.any(tree.si[counts == 0]) and np.all(tree.si[inner] >= payload.upper(near))
        _require(good, "T5: the array 'tree.si' has radii that do not reach to the children")
        rows = self._sample(32 * (payload.coords.shape[1] + payload.factors.shape[1] + 32))
        radius = radii(payload, farthest_below(payload, tree.parent, rows, self.n_threads))
        good = np.array_equal(radius, tree.si) if len(rows) == len(tree) else np.all(radius <= tree.si)
        _require(good, "T5: the array 'tree.si' has radii that do not reach to all descendants")


# ---------------------------------------------------------------------------------------------------------------------
# The container


def _bytes(array):
    return memoryview(array.reshape(-1).view(np.uint8))


def _chunks(view):
    return (view[start : start + CHUNK] for start in range(0, len(view), CHUNK))


def digests(arrays, n_threads, version=VERSION):
    """The digest of each array, by name.

    That is the XXH3-128 of the XXH3-128s of its blocks, one after the other: blocks are hashed at the speed of memory,
    on threads, and Ctrl-C is heard between them. Version 1 had the SHA-256 of the whole array.

    Parameters
    ----------
    arrays : dict of str to ndarray
    n_threads : int
    version : int
        Of the format.

    Returns
    -------
    dict of str to str
        In hexadecimal.
    """
    if version == 1:
        cancel = np.zeros(1, dtype=np.int32)
        found = parallel.run([lambda a=a: _sha256(a, cancel) for a in arrays.values()], n_threads, cancel)
        return dict(zip(arrays, found, strict=True))
    blocks = [
        (name, _bytes(array)[start:stop])
        for name, array in arrays.items()
        for start, stop in parallel.spans(array.nbytes, BLOCK)
    ]
    found = parallel.run([lambda b=b: xxhash.xxh3_128_digest(b[1]) for b in blocks], n_threads)
    whole = {name: xxhash.xxh3_128() for name in arrays}
    for (name, _), digest in zip(blocks, found, strict=True):
        whole[name].update(digest)
    return {name: digest.hexdigest() for name, digest in whole.items()}


def _sha256(array, cancel):
    digest = hashlib.sha256()
    for chunk in _chunks(_bytes(array)):
        if cancel[0]:
            break
        digest.update(chunk)
    return digest.hexdigest()


def _encode(document, arrays, n_threads=1):
    """The head of the file (length, JSON, digest of both), and what follows it: arrays, each padded to `ALIGN`."""
    from covertreex import __version__

    names = {dtype: name for name, dtype in DTYPES.items()}
    entries, body, at, pads = {}, [], 0, 0

    def put(name, array):
        nonlocal at, pads
        entries[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        body.append(array)
        at += array.nbytes
        if at % ALIGN:
            put(f"{PAD}{(pads := pads + 1)}", np.zeros(-at % ALIGN, dtype=np.uint8))

    put(HEADER_DIGEST, np.zeros(32, dtype=np.uint8))
    for name, array in arrays.items():
        put(name, np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")))
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "writer": f"covertreex {__version__}",
        "description": json.dumps(document, allow_nan=False),
        DIGESTS[VERSION]: json.dumps(digests(arrays, n_threads)),
    }
    text = json.dumps({"__metadata__": metadata, **entries}).encode()
    text += b" " * (-(8 + len(text)) % ALIGN)
    head = len(text).to_bytes(8, "little") + text
    body[0] = np.frombuffer(hashlib.sha256(head).digest(), dtype=np.uint8)
    return head, body


def save(state, path):
    """Write a state to a file: what `CoverTree.save` does.

    Parameters
    ----------
    state : TreeState
    path : str or path-like
    """
    path = os.path.realpath(os.fsdecode(path))
    folder, name = os.path.split(path)
    if os.path.isdir(path):
        raise InvalidInputError(f"path must name a file, got the directory {path!r}. Add a file name.")
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no such directory to save to", folder)
    head, body = _encode(*describe(state), state.threads)
    temporary = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(6)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            for view in (memoryview(head), *map(_bytes, body)):
                for chunk in _chunks(view):
                    while chunk:
                        chunk = chunk[file.write(chunk) :]
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the new name, too, survives a power cut
    finally:
        os.close(folder)


_MAGIC = {b"PK\x03\x04": "a zip file, perhaps of NumPy", b"\x93NUM": "a NumPy array", b"\x89HDF": "an HDF5 file"}


def _unique(pairs):
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _reject(constant):
    raise ValueError(f"{constant} is no JSON")


def _parse(text, what):
    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_reject)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"it is damaged: {what} is no JSON ({error}). {_REPAIR}") from None
    _require(isinstance(value, dict), f"it is damaged: {what} is no JSON object")
    return value


def _read_header(file, size):
    """(document, digests, version, where) of an open file of `size` bytes, all of it checked against itself."""
    if size == 0:
        raise FileFormatError(f"it is empty. {_REPAIR}")
    start = file.read(9)
    if start[8:] not in (b"{", b""):
        kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "something else")
        raise FileFormatError(f"it is no file of covertreex, but {kind}. Give a path that tree.save(path) wrote.")
    length = int.from_bytes(start[:8], "little")
    if length > LONGEST_HEADER:
        raise FileFormatError(
            f"it is no file of covertreex, or damaged: its header would have {length} bytes, at most {LONGEST_HEADER} "
            f"are allowed. {_REPAIR}"
        )
    if size < 9 or size < 8 + length:
        raise FileFormatError(
            f"it is truncated: the file has {size} bytes, its header alone would have {8 + length}. {_REPAIR}"
        )
    text = start[8:] + file.read(length - 1)
    _require(len(text) == length, "it is truncated: it became shorter while it was read")
    header = _parse(text, "its header")

    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise FileFormatError(
            "it is a safetensors file, but not of covertreex (its metadata lack format: covertreex). Give a path that "
            "tree.save(path) wrote."
        )
    version = metadata.get("version")
    good = isinstance(version, str) and version.isascii() and version.isdecimal() and 0 < len(version) <= 6
    _require(good and int(version) >= 1, f"it is damaged: its version is {version!r}")
    if int(version) > VERSION:
        raise FileFormatError(
            f"it has version {version} of the format, written by {metadata.get('writer')!r}; this covertreex reads "
            f"versions up to {VERSION}. Upgrade covertreex."
        )
    where = _read_entries(header, 8 + length, size)
    _require(where.get(HEADER_DIGEST, (None,))[0] == DTYPES["U8"], f"it is damaged: {HEADER_DIGEST} is missing")
    dtype, shape, begin = where.pop(HEADER_DIGEST)
    file.seek(begin)
    stored, wanted = file.read(32), hashlib.sha256(start[:8] + text).digest()
    _require(shape == (32,) and stored == wanted, "it is damaged: its header does not match the header's checksum")
    for name in [name for name in where if name.startswith(PAD)]:
        dtype, shape, begin = where.pop(name)
        file.seek(begin)
        blank = len(shape) == 1 and shape[0] < ALIGN and file.read(shape[0]) == bytes(shape[0])
        _require(blank and dtype == DTYPES["U8"], f"it is damaged: {name} is not padding of zeros")
    kind = DIGESTS[int(version)]
    for key in ("description", kind, "writer"):
        _require(isinstance(metadata.get(key), str), f"it is damaged: the metadata lack {key}")
    _require(all(dtype != DTYPES["U8"] for dtype, _, _ in where.values()), "it is damaged: an array holds bytes")
    stored = _parse(metadata[kind], "its list of checksums")
    _require(stored.keys() == where.keys(), "it is damaged: arrays and checksums do not belong together")
    return _parse(metadata["description"], "its description"), stored, int(version), where


def _read_entries(header, start, size):
    """{name: (dtype, shape, position)}; the arrays fill the file from `start` to `size`, in order and without a gap."""
    for name, entry in header.items():
        _keys(entry, f"it is damaged: the entry {name!r}", "dtype", "shape", "data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(
            isinstance(numbers, list) and all(type(i) is int and low <= i <= 2**62 for i in numbers)
            for numbers, low in ((shape, 1), (offsets, 0))
        )
        known = isinstance(dtype, str) and dtype in DTYPES
        good = whole and known and 1 <= len(shape) <= 2 and len(offsets) == 2
        _require(good, f"it is damaged: the entry {name!r} makes no sense")
    at, where = 0, {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (begin, end) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        fits = begin == at and end - begin == math.prod(shape) * dtype.itemsize
        _require(fits, f"it is damaged: the array {name!r} is not where it must be")
        aligned = name.startswith(PAD) or (start + begin) % ALIGN == 0
        _require(aligned, f"it is damaged: the array {name!r} does not begin at a multiple of {ALIGN} bytes")
        where[name], at = (dtype, shape, start + begin), end
    if size < start + at:
        raise FileFormatError(f"it is truncated: it has {size} of {start + at} bytes. {_REPAIR}")
    _require(size == start + at, f"it is damaged: {size - start - at} bytes follow its last array")
    return where


def _at_once(path, flags):
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would be waited for


def _view(memory, dtype, shape, begin):
    part = memory[begin : begin + math.prod(shape) * dtype.itemsize]
    return np.asarray(part).view(dtype).reshape(shape)


def _read(file, dtype, shape, begin):
    array = empty_factors(math.prod(shape), 1).reshape(shape).view(dtype)
    view = _bytes(array)
    file.seek(begin)
    while view:
        got = file.readinto(view[:CHUNK])
        _require(got, "it is truncated: it became shorter while it was read")
        view = view[got:]
    return array


def load(path, *, mmap=True, verify=True, n_threads=None):
    """See `covertreex.load`.

    Returns
    -------
    TreeState
    """
    path = os.path.abspath(os.fsdecode(path))
    n_threads = parallel.given_threads(n_threads)
    verify = check_flag(verify, "verify")
    try:
        with open(path, "rb", opener=_at_once) as file:
            status = os.fstat(file.fileno())
            _require(stat.S_ISREG(status.st_mode), "it is no regular file")
            document, stored, version, where = _read_header(file, status.st_size)
            if mmap and sys.byteorder == "little":
                memory = np.memmap(file, dtype=np.uint8, mode="r", shape=(status.st_size,))
                arrays = {name: _view(memory, *place) for name, place in where.items()}
            else:
                arrays = {name: _read(file, *place) for name, place in where.items()}
        if verify:
            for name, digest in digests(arrays, parallel.thread_count(n_threads), version).items():
                _require(digest == stored[name], f"it is damaged: the array {name!r} does not match its checksum")
        arrays = {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in arrays.items()}
        if version == 1:
            _check_old_units(document)
        state = assemble(document, arrays, n_threads, verify)
    except FileFormatError as error:
        raise FileFormatError(f"cannot load {path!r}: {error}") from None
    return replace(state, origin=Origin.of(path, status, state)) if mmap else state


def _check_old_units(document):
    """Factors of version 1 were in the units of the kernel's variance, those of today are in its own (A8)."""
    metric = document.get("metric") if isinstance(document, dict) else None
    kernel = metric.get("kernel") if isinstance(metric, dict) else None
    _require(
        not isinstance(kernel, dict) or kernel.get("variance") == 1.0,
        "it is of version 1 of the format, which kept factors in the units of the kernel's variance; that can be read "
        "where it is 1 alone. Make the tree anew from its points, and save that.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Pickles, and the way to other processes


class Origin:
    """The mapped file that a tree came from: how to know it again, and whether it has the cover tree."""

    def __init__(self, path, identity, has_tree):
        self.path, self.identity, self.has_tree = path, identity, has_tree

    @classmethod
    def of(cls, path, status, state):
        """From what `os.fstat` said of the open file."""
        return cls(path, _identity(status), state.built is not None)

    def is_there(self):
        """Whether the path still leads to the very file that was mapped."""
        try:
            return _identity(os.stat(self.path)) == self.identity
        except OSError:
            return False


def _identity(status):
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class LostTree:
    """In place of a tree whose file was replaced on the way to another process: all of its attributes raise.

    It cannot raise while it is unpickled: a `multiprocessing.Pool` would lose the task and wait for it for ever.
    """

    def __init__(self, path):
        self.__dict__["path"] = path

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise FileFormatError(
            f"the file {self.path!r} was replaced or removed while a tree mapped from it was on its way to this "
            "process. Load the file in the process itself, or save to a new name."
        )


def reduce(state):
    """What `restore` needs: the bytes of the file, in a pickle."""
    return (*describe(state), state.n_threads, state.origin)


def restore(document, arrays, n_threads, origin):
    """The state in a pickle. Arrays may come as maps of the original file (joblib does that): then it must still be
    that file; otherwise a `LostTree` comes back."""
    if origin is not None:
        maps = [array for array in arrays.values() if getattr(array, "filename", None) == origin.path]
        if maps and not origin.is_there():
            return LostTree(origin.path)
        origin = origin if maps else None
    factors = arrays.get("factors")
    if factors is not None and factors.ctypes.data % ALIGN and not isinstance(factors, np.memmap):
        arrays = {**arrays, "factors": empty_factors(*factors.shape)}
        arrays["factors"][:] = factors
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    try:
        state = assemble(document, arrays, n_threads)
    except FileFormatError as error:
        raise FileFormatError(f"cannot unpickle a tree: {error}") from None
    return replace(state, origin=origin)


def name_of(state):
    """What `reopen` needs to have a mapped state in another process of this machine: the name of its file. None where
    that does not lead to it."""
    origin, tree = state.origin, state.built
    if origin is None or not origin.is_there():
        return None
    cover = None
    if tree is not None and not origin.has_tree:
        cover = tree.root, {name: array for name, array in tree_arrays(tree).items() if array.size}
    return origin, state.n_threads, cover


def reopen(origin, n_threads, cover):
    """The state that `name_of` named, or a `LostTree`."""
    if not origin.is_there():
        return LostTree(origin.path)
    state = load(origin.path, verify=False, n_threads=n_threads)  # the sender has verified it, or chose not to
    if state.origin.identity != origin.identity:
        return LostTree(origin.path)
    if cover is not None:
        root, arrays = cover
        state.kept.put("tree", assemble_tree({"root": root}, Arrays(arrays), state.payload.index))
    return state

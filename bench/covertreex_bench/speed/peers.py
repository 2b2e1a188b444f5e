"""Other software that answers the same questions, or some of them; none of it is needed, and none is hidden.

Each peer gets what it is good at: factors that are made already, float64 where it knows any, all threads.
"""

import os
import signal
import time
from functools import lru_cache

import numpy as np

from covertreex import kernels
from covertreex_bench.speed.entrants import BLOCK, Entrant, Question, Run, on_pool

_INSTALL = 'python -m pip install ".[bench]" in the source folder'


def without_self(indices: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """The first k of `indices` (q, at least k) that are not the query's own row.

    Examples
    --------
    >>> without_self(np.array([[4, 7, 9], [5, 8, 2]]), np.array([7, 5]), 2).tolist()
    [[4, 9], [8, 2]]
    """
    own = indices == rows[:, None]
    return np.take_along_axis(indices, np.argsort(own, axis=1, kind="stable")[:, :k], axis=1)


def _best(score, rows, k, predecessors, out):
    """The k best of each row of `score` (q, columns), which is written to, of those that `rows` may have."""
    columns = np.arange(score.shape[1])
    if predecessors:
        score[columns[None, :] >= rows[:, None]] = -np.inf
    else:
        score[np.arange(len(rows)), rows] = -np.inf
    kept = min(k, score.shape[1])
    best = np.argpartition(score, score.shape[1] - kept, axis=1)[:, score.shape[1] - kept :]
    values = np.take_along_axis(score, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    best = np.where(np.isfinite(values), best, -1)
    out[:, :kept] = np.take_along_axis(best, order, axis=1)


def _blocks(question, positions):
    """(place among the answers, rows, columns compared) of each block of queries."""
    for start in range(0, len(positions), BLOCK):
        rows = question.rows[positions[start : start + BLOCK]]
        # The first point has no predecessor: one column is compared for it all the same.
        stop = max(1, int(rows.max())) if question.workload.predecessors else question.n
        yield slice(start, start + len(rows)), rows, stop


class NumPy(Entrant):
    """Brute force as a careful person writes it in NumPy: blocks of queries, a matrix product, argpartition."""

    name = "numpy"
    divisible = True
    note = "brute force in NumPy, 256 queries at a time; its matrix products use all threads, the rest one"

    def run(self, question: Question, state, positions: np.ndarray) -> Run:
        from scipy.spatial.distance import cdist

        X, kernel = question.workload.X, question.kernel
        V, p = (None, None) if kernel is None else (question.oracle.V, question.oracle.p)
        indices = np.full((len(positions), question.k), -1, dtype=np.int64)
        begin = time.perf_counter()
        for where, rows, stop in _blocks(question, positions):
            if kernel is None:
                score = -cdist(X[rows], X[:stop])
            else:
                score = np.abs(kernel(X[rows], X[:stop]) - V[rows] @ V[:stop].T) / np.sqrt(p[rows, None] * p[:stop])
            _best(score, rows, question.k, question.workload.predecessors, indices[where])
        return Run(time.perf_counter() - begin, indices)


class Blocked(Entrant):
    """Brute force as fast as matrix products and NumPy make it: all in place, a block of queries per thread."""

    name = "blocked"
    divisible = True
    note = "brute force by dgemm on every thread: distances and correlations in place, then argpartition"

    def run(self, question: Question, state, positions: np.ndarray) -> Run:
        X, kernel = question.workload.X, question.kernel
        points = X if kernel is None else kernel.scale(X)
        norms = np.einsum("ij,ij->i", points, points)
        # |a|^2 + |b|^2 - 2 a.b as one product.
        left = np.column_stack([-2.0 * points, norms, np.ones(len(X))])
        right = np.column_stack([points, np.ones(len(X)), norms])
        scaled = inverse = None
        if kernel is not None:
            inverse = 1.0 / np.sqrt(question.oracle.p)
            scaled = question.oracle.V * inverse[:, None]
        indices = np.full((len(positions), question.k), -1, dtype=np.int64)

        def task(where, rows, stop):
            score = left[rows] @ right[:stop].T
            if kernel is None:
                np.negative(score, out=score)
            else:
                np.maximum(score, 0.0, out=score)
                _kernel_in_place(kernel, score)
                score *= inverse[rows, None]
                score *= inverse[:stop]
                score -= scaled[rows] @ scaled[:stop].T
                np.abs(score, out=score)
            _best(score, rows, question.k, question.workload.predecessors, indices[where])

        blocks = list(_blocks(question, positions))
        begin = time.perf_counter()
        on_pool([lambda block=block: task(*block) for block in blocks], question.threads)
        return Run(time.perf_counter() - begin, indices)


def _kernel_in_place(kernel, r2):
    """Values of `kernel` in place of squared scaled distances."""
    if isinstance(kernel, kernels.RBF):
        r2 *= -0.5
        np.exp(r2, out=r2)
    elif isinstance(kernel, kernels.RationalQuadratic):
        r2 /= 2.0 * kernel.alpha
        r2 += 1.0
        np.power(r2, -kernel.alpha, out=r2)
    else:
        degree = {kernels.Matern12: 1.0, kernels.Matern32: 3.0, kernels.Matern52: 5.0}[type(kernel)]
        np.sqrt(r2, out=r2)
        r2 *= np.sqrt(degree)
        decay = np.exp(-r2)
        if degree == 5.0:
            r2 += r2 * r2 / 3.0
        r2 += 1.0
        np.multiply(decay, r2 if degree > 1.0 else 1.0, out=r2)
    r2 *= kernel.variance


# ---------------------------------------------------------------------------------------------------------------------
# GPBoost


class GPBoost(Entrant):
    """GPBoost's likelihood under ``gp_approx="vif_correlation"``, less the same under "vif", which searches in space.

    The difference is its search under residual correlation. It runs in a process of its own, so that Ctrl-C ends it.
    """

    name = "gpboost"
    needs = {"gpboost": "pip install gpboost==1.8.*"}  # noqa: RUF012
    note = (
        'GPBoost\'s time with gp_approx="vif_correlation" less that with "vif"; it prints no neighbours, '
        "so its recall is unknown"
    )

    def unable(self, question: Question) -> str | None:
        if question.kernel is None or not question.workload.metric.get("inducing"):
            return "it has this search under residual correlation alone"
        if not (question.workload.predecessors and question.every_row):
            return "it finds predecessors of all points alone"
        if isinstance(question.kernel, kernels.RationalQuadratic):
            return "it has no rational quadratic kernel"
        return None

    def run(self, question: Question, state, positions: np.ndarray) -> Run:
        from multiprocessing import get_context

        workload = question.workload
        arguments = workload.X, *_covariance(workload), workload.k, workload.metric["inducing"], question.threads
        with get_context("spawn").Pool(1, _quiet) as pool:
            return Run(pool.apply_async(gpboost_seconds, arguments).get(), None)


def _quiet():
    """In the other process: what GPBoost prints goes to stderr, and Ctrl-C is left to the parent, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)


def _covariance(workload):
    """GPBoost's name, shape and parameters (noise, variance, ranges) of the workload's kernel."""
    kernel = workload.metric["kernel"]
    name, shape, stretch = {
        # Its Gaussian is exp(-(r / range)^2), without the half.
        kernels.RBF: ("gaussian", 0.0, np.sqrt(2.0)),
        kernels.Matern12: ("matern", 0.5, 1.0),
        kernels.Matern32: ("matern", 1.5, 1.0),
        kernels.Matern52: ("matern", 2.5, 1.0),
    }[type(kernel)]
    ranges = np.atleast_1d(kernel.lengthscale) * stretch
    if len(ranges) > 1:
        name += "_ard"
    return name, shape, np.concatenate([[1e-6, kernel.variance], ranges])


def gpboost_seconds(
    X: np.ndarray, name: str, shape: float, parameters: np.ndarray, k: int, m: int, threads: int
) -> float:
    """Seconds of GPBoost's search under residual correlation."""
    import gpboost

    y = np.random.default_rng(0).normal(size=len(X))
    seconds = {}
    for approximation in ("vif", "vif_correlation"):
        begin = time.perf_counter()
        model = gpboost.GPModel(
            gp_coords=X,
            cov_function=name,
            cov_fct_shape=shape,
            gp_approx=approximation,
            num_ind_points=m,
            ind_points_selection="random",
            num_neighbors=k,
            vecchia_ordering="none",
            likelihood="gaussian",
            num_parallel_threads=threads,
        )
        model.neg_log_likelihood(cov_pars=parameters, y=y)
        seconds[approximation] = time.perf_counter() - begin
    return max(seconds["vif_correlation"] - seconds["vif"], 1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# pynndescent


class PyNNDescent(Entrant):
    """pynndescent's approximate graph, the metric written in Numba.

    It keeps points in float32, in which residual correlations may be noise; so each number is given to it as the sum of
    two of them, and the metric adds them up in float64.
    """

    name = "pynndescent"
    needs = {"pynndescent": _INSTALL}  # noqa: RUF012
    growth = 1.3
    slow_start = True
    note = "approximate; the residual metric in Numba, each number as two float32, as it keeps no float64"

    def unable(self, question: Question) -> str | None:
        if question.workload.predecessors:
            return "it cannot be told to find predecessors alone"
        if isinstance(question.kernel, kernels.RationalQuadratic):
            return "its metric here is written for the other kernels"
        return None

    def prepare(self, question: Question):
        if question.kernel is None:
            return question.workload.X, "euclidean"
        coords = question.kernel.scale(question.workload.X)
        scale = 1.0 / np.sqrt(question.oracle.p)
        values = np.column_stack([coords, question.oracle.V * scale[:, None], scale])
        high = values.astype(np.float32)
        data = np.ascontiguousarray(np.column_stack([high, (values - high).astype(np.float32)]))
        metric = _residual_metric(question.kernel, coords.shape[1], values.shape[1])
        self._graph(data[: min(len(data), 4 * question.k + 64)], metric, question)  # compiles
        return data, metric

    def _graph(self, data, metric, question):
        from pynndescent import NNDescent

        return NNDescent(
            data, metric=metric, n_neighbors=min(question.k + 1, len(data) - 1), random_state=0, n_jobs=question.threads
        )

    def run(self, question: Question, state, positions: np.ndarray) -> Run:
        data, metric = state
        begin = time.perf_counter()
        index = self._graph(data, metric, question)
        if question.every_row:
            found = index.neighbor_graph[0]
            return Run(time.perf_counter() - begin, without_self(found, question.rows, question.k))
        index.prepare()
        built = time.perf_counter() - begin
        rows = question.rows
        index.query(data[rows[:1]], k=question.k + 1)  # compiles
        begin = time.perf_counter()
        found = index.query(data[rows], k=question.k + 1)[0]
        return Run(time.perf_counter() - begin, without_self(found, rows, question.k), prepare=built)


@lru_cache(maxsize=4)  # as compiling all that uses it takes a minute or two
def _residual_metric(kernel, d, columns):
    """A Numba function of two rows (coordinates, factors and 1, each over sqrt(p)), as high and low halves."""
    import numba

    variance = kernel.variance
    degree = {kernels.RBF: 0, kernels.Matern12: 1, kernels.Matern32: 3, kernels.Matern52: 5}[type(kernel)]
    root = float(np.sqrt(degree))

    @numba.njit(fastmath=True)
    def distance(a, b):
        r2 = 0.0
        for i in range(d):
            t = (np.float64(a[i]) - np.float64(b[i])) + (np.float64(a[columns + i]) - np.float64(b[columns + i]))
            r2 += t * t
        dot = 0.0
        for i in range(d, columns - 1):
            dot += (np.float64(a[i]) + np.float64(a[columns + i])) * (np.float64(b[i]) + np.float64(b[columns + i]))
        if degree == 0:
            value = np.exp(-0.5 * r2)
        else:
            r = root * np.sqrt(r2)
            value = np.exp(-r)
            if degree == 3:
                value *= 1.0 + r
            elif degree == 5:
                value *= 1.0 + r + r * r / 3.0
        last = columns - 1
        scale = (np.float64(a[last]) + np.float64(a[last + columns])) * (
            np.float64(b[last]) + np.float64(b[last + columns])
        )
        return np.float32(np.sqrt(max(0.0, 1.0 - abs(variance * value * scale - dot))))

    return distance


# ---------------------------------------------------------------------------------------------------------------------
# Euclidean


class _Euclidean(Entrant):
    """An index over coordinates: built on the clock, asked for one neighbour more, as it finds the query too."""

    divisible = True

    def unable(self, question: Question) -> str | None:
        if question.kernel is not None:
            return "it cannot express residual correlation"
        if question.workload.predecessors:
            return "it cannot be told to find predecessors alone"
        return None

    def run(self, question: Question, state, positions: np.ndarray) -> Run:
        X, rows = question.workload.X, question.rows[positions]
        begin = time.perf_counter()
        index = self.build(X, question.threads)
        built = time.perf_counter() - begin
        begin = time.perf_counter()
        found = self.query(index, X[rows], question.k + 1, question.threads)
        seconds = time.perf_counter() - begin
        found = without_self(np.asarray(found, dtype=np.int64), rows, question.k)
        return Run(seconds, found, fixed=built, prepare=built)


class SciPy(_Euclidean):
    """scipy.spatial.cKDTree."""

    name = "scipy"
    note = "scipy.spatial.cKDTree, workers = threads"

    def build(self, X: np.ndarray, threads: int):
        from scipy.spatial import cKDTree

        return cKDTree(X)

    def query(self, index, points: np.ndarray, k: int, threads: int) -> np.ndarray:
        return index.query(points, k=k, workers=threads)[1]


class PyKDTree(_Euclidean):
    """pykdtree.kdtree.KDTree, OpenMP inside."""

    name = "pykdtree"
    needs = {"pykdtree": _INSTALL}  # noqa: RUF012
    note = "pykdtree.kdtree.KDTree, OpenMP on the same threads"

    def build(self, X: np.ndarray, threads: int):
        from pykdtree.kdtree import KDTree

        return KDTree(X)

    def query(self, index, points: np.ndarray, k: int, threads: int) -> np.ndarray:
        return index.query(points, k=k)[1]


class ScikitLearn(_Euclidean):
    """sklearn.neighbors.NearestNeighbors with one of its algorithms."""

    needs = {"sklearn": _INSTALL}  # noqa: RUF012

    def __init__(self, algorithm):
        self.algorithm = algorithm
        self.name = f"sklearn-{algorithm.replace('_', '')}"
        self.note = f'sklearn.neighbors.NearestNeighbors(algorithm="{algorithm}"), n_jobs = threads'

    def build(self, X: np.ndarray, threads: int):
        from sklearn.neighbors import NearestNeighbors

        return NearestNeighbors(algorithm=self.algorithm, n_jobs=threads).fit(X)

    def query(self, index, points: np.ndarray, k: int, threads: int) -> np.ndarray:
        return index.kneighbors(points, n_neighbors=k, return_distance=False)


#: All peers, in the order of their rows.
PEERS = (
    NumPy(),
    Blocked(),
    GPBoost(),
    SciPy(),
    ScikitLearn("kd_tree"),
    ScikitLearn("ball_tree"),
    ScikitLearn("brute"),
    PyKDTree(),
    PyNNDescent(),
)

"""Every bad input gets an error that says what was given, what is allowed and, where it helps, what to do."""

import numpy as np
import pytest

import covertreex as cx
from covertreex.ordering import leaf_order

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3))
V = np.full((30, 4), 0.1)
RBF = cx.RBF()


def with_value(value, row=7, column=2):
    """X with one bad entry."""
    bad = X.copy()
    bad[row, column] = value
    return bad


def residual(**arguments):
    """A tree under residual correlation."""
    return cx.cover_tree(X, kernel=RBF, **{"inducing": 5, **arguments})


def supplied(**arguments):
    """A tree from supplied factors."""
    return cx.cover_tree(X, kernel=RBF, **{"v_matrix": V, **arguments})


BUILDING = {
    # The points
    "nan": (
        lambda: cx.cover_tree(with_value(np.nan)),
        r"X must be finite.*got nan at row 7, column 2; 1 such rows\. Drop",
    ),
    "inf": (lambda: cx.cover_tree(with_value(np.inf)), "X must be finite.*got inf at row 7, column 2"),
    "too large": (lambda: cx.cover_tree(with_value(-1e151)), r"at most 1e\+140 in size\), got -1e\+151 at row 7"),
    "no rows": (lambda: cx.cover_tree(np.zeros((0, 3))), r"X is empty, shape \(0, 3\); at least one row"),
    "no columns": (lambda: cx.cover_tree(np.zeros((3, 0))), r"X is empty, shape \(3, 0\)"),
    "nothing": (lambda: cx.cover_tree([]), r"X must have shape \(n, d\), got \(0,\)"),
    "one dimension": (
        lambda: cx.cover_tree(np.arange(5.0)),
        r"X must have shape \(n, d\), got \(5,\).*reshape\(-1, 1\)",
    ),
    "three dimensions": (lambda: cx.cover_tree(np.zeros((2, 2, 2))), r"X must have shape \(n, d\), got \(2, 2, 2\)"),
    "scalar": (lambda: cx.cover_tree(3.0), r"X must have shape \(n, d\), got \(\)"),
    "none": (lambda: cx.cover_tree(None), "X must be an array of real numbers, got dtype object"),
    "strings": (lambda: cx.cover_tree([["a", "b"]]), "X must be an array of real numbers, got dtype <U1"),
    "complex": (lambda: cx.cover_tree(X * 1j), "X must be an array of real numbers, got dtype complex128"),
    "objects": (lambda: cx.cover_tree(X.astype(object)), "X must be an array of real numbers, got dtype object"),
    "ragged": (lambda: cx.cover_tree([[1.0], [1.0, 2.0]]), "X must be a rectangular array of numbers"),
    "scaled out of range": (
        lambda: cx.cover_tree(1e100 * X, kernel=cx.Matern32(1e-60)),
        r"spans up to .* lengthscales, at most 1e\+140",
    ),
    # The metric
    "kernel of another kind": (lambda: cx.cover_tree(X, kernel="rbf"), "kernel must be an RBF, Matern12.*got 'rbf'"),
    "kernel class": (lambda: cx.cover_tree(X, kernel=cx.RBF), "kernel must be an RBF, Matern12"),
    "lengthscales": (
        lambda: cx.cover_tree(X, kernel=cx.RBF((1.0, 2.0))),
        "the kernel has 2 lengthscales, but the data has 3 columns",
    ),
    "inducing without kernel": (lambda: cx.cover_tree(X, inducing=5), "inducing needs a kernel; give kernel="),
    "v_matrix without kernel": (lambda: cx.cover_tree(X, v_matrix=V), "v_matrix needs a kernel"),
    "p_diag without kernel": (lambda: cx.cover_tree(X, p_diag=np.ones(30)), "p_diag needs a kernel"),
    "p_diag without v_matrix": (lambda: residual(p_diag=np.ones(30)), "p_diag goes with v_matrix"),
    "p_diag alone": (lambda: cx.cover_tree(X, kernel=RBF, p_diag=np.ones(30)), "either inducing points .* or factors"),
    "inducing and v_matrix": (lambda: residual(v_matrix=V), "either inducing points .* or factors .*, not both"),
    "metric and kernel": (
        lambda: cx.cover_tree(X, kernel=RBF, metric=cx.Euclidean()),
        "metric stands instead of kernel, inducing, v_matrix, p_diag and noise; give one or the other",
    ),
    "metric of another kind": (
        lambda: cx.cover_tree(X, metric="euclidean"),
        "metric must be a Euclidean, Correlation or ResidualCorrelation, got 'euclidean'",
    ),
    "kernel of a metric": (lambda: cx.Correlation(None), "kernel must be an RBF"),
    # Inducing points
    "fewer than none": (
        lambda: residual(inducing=-1),
        r"from 1 to n = 30 points, got -1. Correlation\(kernel\) is the metric without",
    ),
    "m > n": (lambda: residual(inducing=31), "inducing must be from 1 to n = 30 points, got 31"),
    "half a point": (lambda: residual(inducing=2.5), "inducing must be a count, rows or coordinates, got 2.5"),
    "inducing flag": (lambda: residual(inducing=True), "inducing must be a count, rows or coordinates, got True"),
    "inducing name": (lambda: residual(inducing="all"), "inducing must be a count, rows or coordinates, got 'all'"),
    "no inducing list": (lambda: residual(inducing=[]), "inducing is empty; for the plain correlation"),
    "inducing mask": (lambda: residual(inducing=np.ones(30, dtype=bool)), "inducing must be integer rows.*flatnonzero"),
    "no inducing rows": (lambda: residual(inducing=np.array([], dtype=int)), "inducing is empty"),
    "inducing row out of range": (
        lambda: residual(inducing=[0, 30]),
        "inducing must be rows from 0 to 29, got 30 at position 1",
    ),
    "inducing row twice": (lambda: residual(inducing=[4, 4]), "inducing names a row twice"),
    "inducing columns": (
        lambda: residual(inducing=np.zeros((2, 2))),
        "inducing must have 3 columns as the data has, got 2",
    ),
    "inducing nan": (lambda: residual(inducing=with_value(np.nan)), "inducing must be finite"),
    "inducing ragged": (lambda: residual(inducing=[[1.0], [1.0, 2.0]]), "inducing must be a rectangular array"),
    "jitter negative": (
        lambda: residual(jitter=-1e-6),
        "jitter must be a finite number, 0 or above, or None for 1e-06 of the variance; got -1e-06",
    ),
    "jitter nan": (lambda: residual(jitter=np.nan), "jitter must be a finite number"),
    "jitter name": (
        lambda: residual(jitter="small"),
        "jitter must be a finite number, 0 or above, or None for 1e-06 of the variance; got 'small'",
    ),
    "seed": (lambda: residual(seed="lucky"), "seed must be .*got 'lucky'"),
    # Supplied factors
    "v_matrix rows": (lambda: supplied(v_matrix=V[:20]), r"one row per point, shape \(30, m\), got \(20, 4\)\.$"),
    "v_matrix transposed": (lambda: supplied(v_matrix=V.T), r"got \(4, 30\)\. It looks transposed"),
    "v_matrix nan": (lambda: supplied(v_matrix=V * np.nan), "v_matrix must be finite.*got nan at row 0, column 0"),
    "v_matrix flat": (lambda: supplied(v_matrix=np.ones(30)), r"v_matrix must have shape \(n, d\), got \(30,\)"),
    "v_matrix too long": (
        lambda: supplied(v_matrix=V * 20),
        r"v_matrix contradicts the kernel: \|v\|\^2 = 16 at row \d+ is more than the kernel's variance 1",
    ),
    "p_diag length": (
        lambda: supplied(p_diag=np.ones(29)),
        r"p_diag must have shape \(30,\), one entry per point, got \(29,\)",
    ),
    "p_diag zero": (lambda: supplied(p_diag=np.arange(30.0)), r"p_diag must be positive and finite, got 0\.0 at row 0"),
    "p_diag nan": (lambda: supplied(p_diag=np.full(30, np.nan)), "p_diag must be positive and finite, got nan at row"),
    "p_diag names": (lambda: supplied(p_diag=["a"] * 30), "p_diag must be .*numbers"),
    "p_diag too small": (
        lambda: supplied(p_diag=np.full(30, 0.5)),
        r"p_diag is below k\(x, x\) - \|v\|\^2 at row \d+, which is no correlation: got 0\.5, at least 0\.96 is needed",
    ),
    "threads": (
        lambda: cx.cover_tree(X, n_threads=0),
        "n_threads must be a positive integer or None for all cores, got 0",
    ),
    "threads of another kind": (
        lambda: cx.cover_tree(X, n_threads=1.5),
        "n_threads must be a positive integer.*got 1.5",
    ),
}

ASKING = {
    # k
    "k = 0": (lambda t: t.knn(0), r"k must be from 1 to 30 \(the number of points\), got 0"),
    "k < 0": (lambda t: t.knn(-3), "k must be from 1 to 30.*got -3"),
    "k > n": (lambda t: t.knn(31), "k must be from 1 to 30.*got 31"),
    "k of another kind": (lambda t: t.knn(2.0), "k must be an integer, got 2.0"),
    "k flag": (lambda t: t.knn(True), "k must be an integer, got True"),
    "k none": (lambda t: t.knn(None), "k must be an integer, got None"),
    # Queries
    "row below": (lambda t: t.knn(1, queries=[0, -1]), "queries must be rows from 0 to 29, got -1 at position 1"),
    "row above": (lambda t: t.knn(1, queries=[30]), "queries must be rows from 0 to 29, got 30 at position 0"),
    "float rows": (lambda t: t.knn(1, queries=[0.0, 1.0]), "queries must be integer rows, got dtype float64"),
    "flags": (
        lambda t: t.knn(1, queries=np.ones(30, dtype=bool)),
        r"queries must be integer rows, got dtype bool. Give np.flatnonzero\(mask\)",
    ),
    "a set": (lambda t: t.knn(1, queries={1, 2}), "Put one row, or what a generator or a set has, into a list"),
    "masked": (lambda t: t.knn(1, queries=np.ma.masked_less(np.arange(9), 3)), "queries has 3 masked entries"),
    "a word": (lambda t: t.knn(1, predecessor_mode="no"), "predecessor_mode must be True or False, got 'no'"),
    "a number": (lambda t: t.knn(1, include_self=1), "include_self must be True or False, got 1"),
    "names": (lambda t: t.knn(1, queries=["a"]), "queries must be integer rows, got dtype <U1"),
    "one row": (
        lambda t: t.knn(1, queries=3),
        r"queries must be integer rows, shape \(q,\), or.*Put one row, or what",
    ),
    "columns": (lambda t: t.knn(1, queries=X[:, :2]), "queries must have 3 columns as the data has, got 2"),
    "query nan": (lambda t: t.knn(1, queries=with_value(np.nan)), "queries must be finite.*got nan at row 7, column 2"),
    "query dimensions": (lambda t: t.knn(1, queries=np.zeros((1, 1, 3))), r"queries must be .*got shape \(1, 1, 3\)"),
    "ragged queries": (lambda t: t.knn(1, queries=[[1.0], [1.0, 2.0]]), "queries must be a rectangular array"),
    "query too large": (
        lambda t: t.knn(1, queries=np.full((1, 3), 1e151)),
        r"queries must be finite \(at most 1e\+140",
    ),
    "predecessors of coordinates": (
        lambda t: t.knn(1, queries=X[:2], predecessor_mode=True),
        "predecessor_mode needs queries that are rows of X",
    ),
    "threads": (lambda t: t.knn(1, n_threads=-1), "n_threads must be a positive integer or None.*got -1"),
    "threads flag": (lambda t: t.knn(1, n_threads=True), "n_threads must be a positive integer.*got True"),
    "audit": (lambda t: t.search(1, audit=-1), "audit must be a number of queries, 0 or more, got -1"),
    "audit of another kind": (
        lambda t: t.search(1, audit=0.5),
        "audit must be a number of queries, 0 or more, got 0.5",
    ),
}


@pytest.mark.parametrize("name", BUILDING)
def test_building(name):
    call, message = BUILDING[name]
    with pytest.raises(cx.InvalidInputError, match=message):
        call()


@pytest.fixture(scope="module", params=["euclidean", "residual"])
def tree(request):
    return cx.cover_tree(X) if request.param == "euclidean" else residual()


@pytest.mark.parametrize("name", ASKING)
def test_asking(tree, name):
    call, message = ASKING[name]
    with pytest.raises(cx.InvalidInputError, match=message):
        call(tree)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda t: t.knn(1, settings="slow"),
            cx.SettingsError,
            "settings must be .*'gold', 'parity', 'exact'.*got 'slow'",
        ),
        (lambda t: t.knn(1, settings=3), cx.SettingsError, "settings must be a TraversalSettings.*got 3"),
        (
            lambda t: t.knn(1, backend="fortran"),
            cx.BackendError,
            "unknown backend 'fortran'; installed: .*cython.*numba",
        ),
        (
            lambda t: t.knn(1, settings="gold", backend="cython"),
            cx.BackendError,
            "gold profile runs on the numba backend",
        ),
        (
            lambda t: t.knn(1, settings=cx.PARITY.replace(gemm=True, gate=True), backend="cython"),
            cx.BackendError,
            "backend 'cython' cannot carry out the custom settings: it lacks gate, gemm",
        ),
    ],
)
def test_asking_for_what_cannot_be(tree, call, error, message):
    with pytest.raises(error, match=message):
        call(tree)


def test_coordinates_need_inducing_points():
    with pytest.raises(cx.InvalidInputError, match="queries given as coordinates need inducing points"):
        supplied().knn(1, queries=X[:2])


def test_cholesky_that_fails_names_the_jitter():
    with pytest.raises(
        cx.FactorizationError, match=r"2 inducing points is not positive definite at jitter=0 \(pivot 1"
    ):
        cx.cover_tree(np.zeros((3, 1)), kernel=RBF, inducing=2, jitter=0.0)


def test_leaf_size():
    with pytest.raises(cx.InvalidInputError, match="leaf_size must be at least 1, got 0"):
        leaf_order(X, 0)


def test_errors_come_before_any_work(monkeypatch):
    """Nothing is factorized, built or searched for a call that cannot be answered."""
    tree = residual()
    monkeypatch.setattr("covertreex.data.state.build_tree", lambda *_: pytest.fail("built a tree"))
    monkeypatch.setattr("covertreex.search.driver.run", lambda *_: pytest.fail("ran a search"))
    for call, _ in ASKING.values():
        with pytest.raises(cx.CovertreexError):
            call(tree)


@pytest.mark.parametrize(
    ("error", "standard"),
    [
        (cx.InvalidInputError, ValueError),
        (cx.SettingsError, ValueError),
        (cx.BackendError, RuntimeError),
        (cx.FactorizationError, np.linalg.LinAlgError),
        (cx.InvariantError, AssertionError),
    ],
)
def test_errors_are_ours_and_pythons(error, standard):
    assert issubclass(error, cx.CovertreexError)
    assert issubclass(error, standard)


def test_valid_extremes_are_no_errors():
    """Duplicates, constant columns, n = 1, k = n - 1, k = n, the largest coordinates."""
    cx.cover_tree(np.ones((5, 3)), kernel=RBF, inducing=1).knn(4)
    cx.cover_tree([[1.0]]).knn(1)
    cx.cover_tree([[1e140], [-1e140]]).knn(2)
    residual(inducing=30).knn(29)
    residual().knn(30)
    assert not np.isnan(cx.cover_tree(1e139 * X, kernel=cx.Matern52()).knn(3, return_distances=True)[1]).any()


@pytest.mark.parametrize("kernel", [cx.RBF, cx.Matern12, cx.Matern32, cx.Matern52, cx.RationalQuadratic])
@pytest.mark.parametrize("lengthscale", [1e-100, 1e100])
def test_never_a_nan(kernel, lengthscale):
    """An error, or numbers."""
    for scale in (1e-150, 1.0, 1e100):
        try:
            tree = cx.cover_tree(scale * X, kernel=kernel(lengthscale), inducing=3)
        except cx.CovertreexError:
            continue
        for profile in ("exact", "parity"):
            assert not np.isnan(tree.knn(3, settings=profile, return_distances=True)[1]).any()


def test_changed_rows_wants_an_earlier_answer():
    result = cx.cover_tree([[0.0], [1.0]]).search(1)
    with pytest.raises(cx.InvalidInputError, match="an earlier SearchResult, or its indices; got NoneType"):
        result.changed_rows(None)

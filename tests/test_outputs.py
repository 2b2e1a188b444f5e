"""Outputs: each equal to a slow construction from its definition, and clear refusals."""

import sys

import numpy as np
import pytest
from scipy.spatial.distance import pdist

import covertreex as cx
from covertreex import outputs

K = 5


@pytest.fixture(params=["euclidean", "residual"])
def tree(request, rng):
    X = rng.normal(size=(60, 2))
    X[31] = X[7]
    if request.param == "euclidean":
        return cx.cover_tree(X)
    return cx.cover_tree(X, kernel=cx.Matern32(0.6), inducing=10)


@pytest.fixture
def before(tree):
    return tree.search(K, predecessor_mode=True)


def truth(tree, i, k=K):
    """Predecessors of point i by the dense oracle."""
    indices, _ = tree.oracle().knn(k, np.array([i]), predecessor_mode=True)
    return [int(j) for j in indices[0] if j >= 0]


def test_to_gpgp(tree, before):
    array = outputs.to_gpgp(before)
    assert array.dtype == np.float64
    assert array.shape == (60, K + 1)
    for i in range(60):
        row = [i + 1] + [j + 1 for j in truth(tree, i)]
        np.testing.assert_array_equal(array[i], row + [np.nan] * (K + 1 - len(row)))
    whole = outputs.to_gpgp(before, na=-(2**31))
    assert whole.dtype == np.int64
    np.testing.assert_array_equal(whole, np.where(np.isnan(array), -(2**31), array))


def test_to_stan(tree, before):
    data = outputs.to_stan(before, tree)
    assert (data["N"], data["M"]) == (60, K)
    assert data["NN_ind"].shape == data["NN_dist"].shape == (59, K)
    assert data["NN_distM"].shape == (59, K * (K - 1) // 2)
    for i in range(1, 60):
        found = truth(tree, i)
        # As R does it: dist() of the point and its neighbours is a lower triangle by columns, the point's column first.
        triangle = pdist(tree.X[[i, *found]])
        count = len(found)
        np.testing.assert_array_equal(data["NN_ind"][i - 1], [j + 1 for j in found] + [0] * (K - count))
        np.testing.assert_allclose(data["NN_dist"][i - 1, :count], triangle[:count], rtol=1e-14)
        np.testing.assert_allclose(data["NN_distM"][i - 1, : len(triangle) - count], triangle[count:], rtol=1e-14)
        assert not data["NN_dist"][i - 1, count:].any()
        assert not data["NN_distM"][i - 1, len(triangle) - count :].any()


def test_to_stan_is_what_the_stan_program_reads(tree, before):
    """The likelihood that the case study's program computes from the arrays, against Vecchia's from the points."""
    phi, w = 1.3, np.random.default_rng(0).normal(size=60)
    w[31] = w[7]
    data = outputs.to_stan(before, tree.X)
    for i in range(2, 61):
        dim = min(i - 1, K)
        corr, h = np.eye(dim), 0
        for j in range(dim - 1):
            for k in range(j + 1, dim):
                corr[j, k] = corr[k, j] = np.exp(-phi * data["NN_distM"][i - 2, h])
                h += 1
        corr[np.diag_indices(dim)] += 1e-8
        mean = np.exp(-phi * data["NN_dist"][i - 2, :dim]) @ np.linalg.solve(corr, w[data["NN_ind"][i - 2, :dim] - 1])
        found = truth(tree, i - 1)
        kernel = cx.Matern12(1.0 / phi)
        dense = kernel(tree.X[found], tree.X[found]) + 1e-8 * np.eye(dim)
        expected = (kernel(tree.X[[i - 1]], tree.X[found]) @ np.linalg.solve(dense, w[found]))[0]
        assert mean == pytest.approx(expected, abs=1e-6)


def test_to_stan_of_one_neighbour_and_of_one_point():
    data = outputs.to_stan(np.array([[-1], [0], [0]]), [[0.0], [3.0], [1.0]])
    assert data["NN_dist"].tolist() == [[3.0], [1.0]]
    assert data["NN_distM"].shape == (2, 0)
    assert outputs.to_stan(np.array([[-1, -1]]), [[0.0]])["NN_distM"].shape == (0, 1)


def test_to_gpytorch(tree, before):
    array = outputs.to_gpytorch(before)
    assert array.dtype == np.int64
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, [truth(tree, i) for i in range(K, 60)])


@pytest.mark.parametrize("mode", ["distance", "correlation", "connectivity"])
@pytest.mark.parametrize("include_self", [False, True])
def test_to_csr(tree, mode, include_self):
    if mode == "correlation" and isinstance(tree.metric, cx.Euclidean):
        pytest.skip("no correlation")
    result = tree.search(K)
    graph = outputs.to_csr(result, mode, include_self=include_self)
    assert graph.shape == (60, 60)
    assert graph.format == "csr"
    closeness = tree.oracle().closeness(np.arange(60))
    for i in range(60):
        part = slice(graph.indptr[i], graph.indptr[i + 1])
        others = sorted((j for j in range(60) if j != i), key=lambda j, i=i: (-closeness[i, j], j))[:K]
        row = [i, *others] if include_self else others
        assert graph.indices[part].tolist() == row
        near = closeness[i, row]
        if mode == "connectivity":
            near[:] = 1.0
        elif mode == "distance":
            near = -near if isinstance(tree.metric, cx.Euclidean) else np.sqrt(1.0 - near)
            near[0] = 0.0 if include_self else near[0]
        np.testing.assert_allclose(graph.data[part], near, atol=1e-6)


def test_to_csr_keeps_zeros_and_drops_what_is_not_there(tree, before):
    graph = outputs.to_csr(before)
    assert graph.nnz == np.sum(before.indices >= 0)
    assert 0.0 in graph.data[graph.indptr[31] : graph.indptr[32]]  # a duplicate of row 7
    np.testing.assert_array_equal(np.diff(graph.indptr), np.minimum(np.arange(60), K))


def test_to_csr_of_other_queries(tree, rng):
    result = tree.search(3, queries=rng.normal(size=(4, 2)))
    graph = outputs.to_csr((result.indices, result.distances), n=60)
    assert graph.shape == (4, 60)
    np.testing.assert_array_equal(graph.indices.reshape(4, 3), result.indices)


def test_to_csr_is_sorted_as_scikit_learn_wants_it(tree):
    graph_module = pytest.importorskip("sklearn.neighbors._base")
    graph = outputs.to_csr(tree.search(K), include_self=True)
    assert graph_module._is_sorted_by_data(graph)


@pytest.mark.parametrize("function", ["to_frame", "to_arrow"])
def test_tables(tree, before, function):
    pytest.importorskip("pandas" if function == "to_frame" else "pyarrow")
    names = np.array([f"p{i}" for i in range(60)])
    for queries, name in ((None, lambda i: i), (names, lambda i: f"p{i}")):
        table = getattr(outputs, function)(before, queries=queries)
        columns = table.to_dict("list") if function == "to_frame" else table.to_pydict()
        expected = [
            (name(i), rank, j, before.distances[i, rank]) for i in range(60) for rank, j in enumerate(truth(tree, i))
        ]
        assert list(columns) == ["query", "rank", "neighbor", "distance"]
        assert list(zip(*columns.values(), strict=True)) == expected


@pytest.mark.parametrize(
    ("function", "module", "extra"), [("to_frame", "pandas", "pandas"), ("to_arrow", "pyarrow", "arrow")]
)
def test_a_missing_extra_is_named(monkeypatch, function, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{function} needs {module}.*pip install '\.\[{extra}\]'"):
        getattr(outputs, function)((np.array([[0]]), np.array([[1.0]])))


PAIR = (np.array([[1], [0]]), np.array([[1.5], [1.5]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: outputs.to_gpgp(PAIR), "row 0 has neighbour 1, which is not before it"),
        (lambda: outputs.to_gpgp(np.array([[-1, -1], [-1, 0]])), "row 1 has a neighbour after an absent one"),
        (lambda: outputs.to_gpgp(np.array([[-1.0]])), "indices must be integers"),
        (lambda: outputs.to_gpgp(np.array([-1])), r"indices must be integers of shape \(q, k\)"),
        (lambda: outputs.to_gpgp(np.array([[-2]])), "rows, or -1 for none, got -2"),
        (lambda: outputs.to_gpgp(np.zeros((0, 3), dtype=int)), "at least one row"),
        (lambda: outputs.to_gpgp(np.array([[-1]]), na=1), "na must be NaN"),
        (lambda: outputs.to_gpgp(np.array([[-1]]), na=0.5), "na must be NaN"),
        (lambda: outputs.to_stan(np.array([[-1]]), [[1.0], [2.0]]), "one row for each of the 1 rows"),
        (lambda: outputs.to_stan(np.array([[-1]]), [[np.nan]]), "finite"),
        (lambda: outputs.to_gpytorch(np.array([[-1], [-1]])), "row 1 has 0"),
        (lambda: outputs.to_csr(PAIR, "weights"), "mode must be one of 'distance', 'correlation', 'connectivity'"),
        (lambda: outputs.to_csr(PAIR[0]), "to_csr needs a SearchResult, or the pair"),
        (lambda: outputs.to_csr((PAIR[0], PAIR[1][:1])), "distances must have the shape"),
        (lambda: outputs.to_csr(PAIR, "correlation"), "at most 1; got 1.5"),
        (lambda: outputs.to_csr(PAIR, n=1), "names row 1, but there are n = 1 columns"),
        (lambda: outputs.to_csr(PAIR, n=0), "positive integer"),
        (lambda: outputs.to_csr(PAIR, n=3, include_self=True), "there are 2 queries of 3 points"),
        (lambda: outputs.to_csr((PAIR[0][::-1], PAIR[1]), include_self=True), "row 0 holds itself"),
        (lambda: outputs.to_frame(PAIR, queries=["a"]), "name each of the 2 rows"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        call()


@pytest.mark.parametrize("kernel", [None, cx.Matern32()])
def test_what_a_radius_search_finds(kernel):
    tree = cx.cover_tree(np.random.default_rng(3).normal(size=(60, 2)), kernel=kernel)
    found = tree.radius(0.4)
    graph = outputs.to_csr(found)
    np.testing.assert_array_equal(graph.indptr, found.indptr)
    np.testing.assert_array_equal(graph.indices, found.indices)
    np.testing.assert_array_equal(graph.data, found.distances)
    own = outputs.to_csr(found, include_self=True)
    assert own.nnz == graph.nnz + 60
    np.testing.assert_array_equal(own.indices[own.indptr[:-1]], np.arange(60))
    np.testing.assert_array_equal(own.toarray(), graph.toarray())
    assert outputs.to_csr(found, "connectivity").sum() == graph.nnz
    if kernel:
        np.testing.assert_array_equal(outputs.to_csr(found, "correlation").data, 1.0 - found.distances**2)
    table = outputs.to_arrow(found, queries=np.arange(100, 160)).to_pydict()
    assert table["neighbor"] == found.indices.tolist()
    assert table["query"] == np.repeat(np.arange(100, 160), np.diff(found.indptr)).tolist()
    assert table["rank"] == [rank for count in np.diff(found.indptr) for rank in range(count)]
    with pytest.raises(cx.InvalidInputError, match=r"to_gpgp needs as many neighbours for each row.*to_csr, to_frame"):
        outputs.to_gpgp(found)


@pytest.mark.parametrize(
    ("columns", "stored", "expected"),
    [(5, 9, np.int32), (2**31 - 1, 2**31 - 1, np.int32), (2**31, 9, np.int64), (5, 2**31, np.int64)],
)
def test_indices_of_a_sparse_matrix_are_wide_enough(columns, stored, expected):
    assert outputs._index_dtype(columns, stored) is expected


def test_a_sparse_matrix_has_the_indices_that_were_chosen(monkeypatch):
    """As if it had 2**31 entries."""
    result = cx.cover_tree([[0.0], [1.0], [3.0]]).radius(2.0)
    small = outputs.to_csr(result)
    monkeypatch.setattr(outputs, "_index_dtype", lambda columns, stored: np.int64)
    large = outputs.to_csr(result, include_self=True)
    assert small.indices.dtype == small.indptr.dtype == np.int32
    assert large.shape == (3, 3)
    assert (large - small).nnz == 0


# ---------------------------------------------------------------------------------------------------------------------
# prediction points, orders, and points that were deleted


def changed(kind, rng):
    """A tree of 40 points of data with 15 to predict at behind them."""
    X = rng.normal(size=(40, 2))
    arguments = {} if kind == "euclidean" else {"kernel": cx.Matern32(0.6), "inducing": 8}
    return cx.cover_tree(X, **arguments).insert(rng.normal(size=(15, 2)))


@pytest.mark.parametrize("kind", ["euclidean", "residual"])
@pytest.mark.parametrize("deleted", [[], [3, 17, 44], list(range(0, 40, 2))], ids=["none", "few", "many"])
@pytest.mark.parametrize("which", ["data first", "mixed"])
def test_prediction_points_come_out_at_their_places(kind, deleted, which, rng):
    """Row by row against the dense oracle: inserted behind the data, ordered with them, some deleted."""
    tree = changed(kind, rng).delete(deleted) if deleted else changed(kind, rng)
    ids = tree.ids
    n, y = len(ids), rng.normal(size=len(tree.X))
    order = rng.permutation(ids)
    if which == "data first":
        order = np.concatenate([order[order < 40], order[order >= 40]])
    result = tree.search(K, predecessor_mode=True, order=order)
    closeness = tree.oracle().closeness(order)
    places = []
    for i, row in enumerate(order):
        earlier = order[:i]
        nearest = sorted(earlier, key=lambda j, i=i: (-closeness[i, j], j))[:K]
        places.append([int(np.flatnonzero(order == j)[0]) for j in nearest])
        assert row not in nearest
    for given in (result, (result.indices, result.distances), result.indices):
        array = outputs.to_gpgp(given, order=order)
        for i in range(n):
            absent = [np.nan] * (K - len(places[i]))
            np.testing.assert_array_equal(array[i], [i + 1] + [j + 1 for j in places[i]] + absent)
            # What R looks up in y[order] is what belongs to the rows that were found.
            known = array[i][~np.isnan(array[i])].astype(int) - 1
            found = result.indices[np.searchsorted(ids, order[i])]
            np.testing.assert_array_equal(y[order][known], y[[order[i], *found[found >= 0]]])
        np.testing.assert_array_equal(outputs.to_gpytorch(given, order=order), places[K:])
        data = outputs.to_stan(given, tree, order=order)
        as_rows = outputs.to_stan(outputs.to_gpgp(given, order=order, na=0).astype(int)[:, 1:] - 1, tree.X[order])
        for name, value in data.items():
            np.testing.assert_array_equal(value, as_rows[name])
        for i in range(1, n):
            assert data["NN_ind"][i - 1].tolist() == [j + 1 for j in places[i]] + [0] * (K - len(places[i]))


@pytest.mark.parametrize("kind", ["euclidean", "residual"])
def test_rows_that_are_left_keep_their_names(kind, rng):
    pytest.importorskip("pandas")
    tree = changed(kind, rng).delete([0, 3, 17, 54])
    ids, n = tree.ids, len(tree.X)
    truth, _ = tree.oracle().knn(K)
    for result in (tree.search(K), tree.search(K, ids[::-1])):
        rows = result.rows
        expected = truth[np.searchsorted(ids, rows)]
        for own in (False, True):
            graph = outputs.to_csr(result, n=n, include_self=own)
            assert graph.shape == (len(ids), n)
            wanted = np.column_stack([rows, expected]) if own else expected
            np.testing.assert_array_equal(graph.indices.reshape(len(ids), -1), wanted)
        frame = outputs.to_frame(result)
        np.testing.assert_array_equal(frame["query"], np.repeat(rows, K))
        np.testing.assert_array_equal(frame["neighbor"], expected.ravel())
        with pytest.raises(cx.InvalidInputError, match=r"rows of X that are not 0 to 50.*Give n=len\(tree\.X\)"):
            outputs.to_csr(result)
    found = tree.radius(0.5)
    frame = outputs.to_frame(found)
    np.testing.assert_array_equal(frame["query"], np.repeat(ids, np.diff(found.indptr)))
    own = outputs.to_csr(found, n=n, include_self=True)
    np.testing.assert_array_equal(own.indices[own.indptr[:-1]], ids)

    before = tree.search(K, predecessor_mode=True)
    for function in (outputs.to_gpgp, outputs.to_gpytorch, lambda result: outputs.to_stan(result, tree)):
        with pytest.raises(cx.InvalidInputError, match=r"row 0 of the result is about row 1.*order=tree\.ids"):
            function(before)
    array = outputs.to_gpgp(before, order=ids, na=0)
    expected, _ = tree.oracle().knn(K, predecessor_mode=True)
    np.testing.assert_array_equal(array[:, 0], np.arange(1, len(ids) + 1))
    np.testing.assert_array_equal(np.append(ids, -1)[array[:, 1:] - 1], expected)


def test_orders_that_are_not_those_of_the_result(rng):
    tree = changed("euclidean", rng)
    order = rng.permutation(55)
    result = tree.search(K, predecessor_mode=True, order=order)
    for given, options, message in (
        (result, {}, r"of a search with an order; give it to to_gpgp as well, order=order"),
        (result, {"order": order[::-1]}, "not the one that was searched"),
        (result.indices, {"order": order[::-1]}, "which is not before it"),
        (result.indices, {"order": order[:-1]}, r"integers of shape \(55,\), got int64 of shape \(54,\)"),
        (result.indices, {"order": order * 1.0}, r"integers of shape \(55,\), got float64"),
        (result.indices, {"order": np.zeros(55, dtype=int)}, "each row .* once"),
        (result.indices, {"order": np.where(order == 0, 99, order)}, "row 0, which is not in order"),
        (tree.search(K, [4, 5], predecessor_mode=True), {}, "row 0 of the result is about row 4"),
        (tree.search(K, [4, 5], predecessor_mode=True), {"order": [5, 4]}, "which is not in order"),
    ):
        with pytest.raises(cx.InvalidInputError, match=message):
            outputs.to_gpgp(given, **options)
    same = tree.search(K, predecessor_mode=True, order=np.arange(55))
    np.testing.assert_array_equal(
        outputs.to_gpgp(same), outputs.to_gpgp(tree.search(K, predecessor_mode=True), order=np.arange(55))
    )

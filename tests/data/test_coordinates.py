"""Which coordinates are compared: matrices of lengthscales, columns by name, places on the sphere."""

import pickle
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import covertreex as cx
from covertreex import oracle
from covertreex.io.description import assemble, describe
from covertreex.kernels import Stationary
from covertreex.kernels.columns import solved

TRIANGULAR = ((2.0, 0.0, 0.0), (0.5, 0.3, 0.0), (-0.7, 0.1, 1.5))
FULL = ((0.2, 1.0, -0.3), (0.5, 0.3, 0.4), (-0.7, 0.1, 1.5))


@pytest.fixture
def X(rng):
    return np.round(rng.normal(size=(300, 3)), 2)


def audited(tree, k=5, queries=None, **options):
    """The answer of a search that the dense oracle agrees with."""
    result = tree.search(k, queries, audit=10**6, **options)
    assert result.recall == 1.0
    return result


# -- matrices of lengthscales


@pytest.mark.parametrize("L", [TRIANGULAR, FULL, np.array(FULL), [list(row) for row in FULL]])
def test_a_matrix_of_lengthscales(X, L):
    kernel = cx.Matern32(L)
    assert kernel == pickle.loads(pickle.dumps(kernel))
    assert hash(kernel) == hash(cx.Matern32(tuple(map(tuple, np.array(L).tolist()))))
    inverse = np.linalg.inv(np.asarray(L) @ np.asarray(L).T)
    difference = X[:50, None] - X[None, :50]
    r = np.sqrt(np.einsum("abi,ij,abj->ab", difference, inverse, difference))
    a = np.sqrt(3.0) * r
    np.testing.assert_allclose(kernel(X[:50], X[:50]), (1.0 + a) * np.exp(-a), rtol=1e-9, atol=1e-14)


def test_a_diagonal_matrix_is_one_lengthscale_per_axis(X, backend):
    matrix, ard = cx.RBF(np.diag([0.3, 1.7, 2.9])), cx.RBF((0.3, 1.7, 2.9))
    np.testing.assert_array_equal(matrix.scale(X), ard.scale(X))
    one, other = (cx.cover_tree(X, kernel=kernel, inducing=20).search(k=4, backend=backend) for kernel in (matrix, ard))
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.distances, other.distances)


@pytest.mark.parametrize("L", [TRIANGULAR, FULL])
@pytest.mark.parametrize("inducing", [None, 30])
def test_searches_under_a_matrix(X, L, inducing, backend, tmp_path):
    tree = cx.cover_tree(X, kernel=cx.Matern52(L, variance=2.0), inducing=inducing)
    for profile in ("exact", "parity"):
        audited(tree, settings=profile, backend=backend)
    audited(tree, queries=X[:40] + 0.013, backend=backend)
    tree.save(tmp_path / "tree")
    for again in (cx.load(tmp_path / "tree"), pickle.loads(pickle.dumps(tree))):
        assert again.metric.kernel == tree.metric.kernel
        np.testing.assert_array_equal(again.knn(k=5), tree.knn(k=5))
    other = tree.with_metric(cx.Matern52(FULL))
    np.testing.assert_array_equal(
        other.knn(k=5), cx.cover_tree(X, kernel=cx.Matern52(FULL), inducing=inducing).knn(k=5)
    )


@given(st.data())
def test_elimination(data):
    d = data.draw(st.integers(1, 6))
    number = st.floats(-100, 100, allow_subnormal=False).map(lambda x: round(x, 3))
    L = data.draw(st.lists(st.lists(number, min_size=d, max_size=d), min_size=d, max_size=d))
    A, X = np.array(L), np.array([data.draw(st.lists(number, min_size=d, max_size=d))])
    sound = abs(np.linalg.det(A)) > 1e-3 and np.linalg.cond(A) < 1e5
    if sound:
        assert cx.RBF(L).lengthscale == tuple(map(tuple, L))
        np.testing.assert_allclose(solved(tuple(map(tuple, L)), X), np.linalg.solve(A, X.T).T, rtol=1e-8, atol=1e-8)
    elif np.linalg.matrix_rank(A) < d:
        with pytest.raises(cx.InvalidInputError, match="matrix that is"):
            cx.RBF(L)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cx.RBF([[1.0, 2.0], [2.0, 4.0]]), "matrix that is singular"),
        (lambda: cx.RBF([[0.0]]), "matrix that is singular"),
        (lambda: cx.RBF([[1.0, 1.0], [1.0, 1.0 + 1e-13]]), "nearly singular.*at most 1e\\+10"),
        (lambda: cx.RBF([[1.0, np.nan], [0.0, 1.0]]), r"lengthscale\[0\]\[1\] must be positive and finite"),
        (lambda: cx.RBF([[1.0, 0.0], [0.0]]), "rows of one length"),
        (lambda: cx.RBF([[1.0, "a"], [0.0, 1.0]]), r"lengthscale\[0\]\[1\] must be a number"),
        (lambda: cx.RBF(np.ones((2, 2, 2))), r"a square matrix.*got shape \(2, 2, 2\)"),
        (lambda: cx.RBF(np.eye(2)).scale(np.zeros((4, 3))), "2 lengthscales, but the data has 3 columns"),
        (lambda: cx.RBF(1e-90 * np.eye(3)).scale(np.full((1, 3), 1e60)), "the data spans up to"),
    ],
)
def test_a_matrix_that_cannot_be(make, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        make()


def test_units_do_not_make_a_matrix_ill_conditioned():
    kernel = cx.RBF(np.diag([1e-9, 1e9]) @ np.array([[1.0, 0.2], [0.3, 1.0]]))
    assert np.isfinite(kernel.scale(np.array([[1e-9, 1e9]]))).all()


def test_the_oracle_knows_a_matrix(X):
    kernel = cx.RBF(TRIANGULAR)
    indices, _ = oracle.knn(X, 3, kernel=kernel)
    scaled = np.linalg.solve(np.array(TRIANGULAR), X.T).T
    np.testing.assert_array_equal(indices, oracle.knn(scaled, 3, kernel=cx.RBF())[0])


# -- columns by name


@pytest.fixture
def frame(X):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(X, columns=["x", "t", "y"])


def space_time(*dims):
    space, time = dims
    return cx.RBF((0.5, 0.7), active_dims=space) * cx.Matern12(0.9, active_dims=time)


def test_columns_by_name(frame, X, backend, tmp_path):
    by_name, by_number = space_time(["x", "y"], "t"), space_time([0, 2], 1)
    tree = cx.cover_tree(frame, kernel=by_name, inducing=20)
    assert tree.metric.kernel == by_number
    expected = cx.cover_tree(X, kernel=by_number, inducing=20)
    np.testing.assert_array_equal(audited(tree, backend=backend).indices, expected.knn(k=5))
    np.testing.assert_array_equal(tree.knn(3, frame[:7]), expected.knn(3, X[:7]))
    np.testing.assert_array_equal(tree.insert(frame[:9]).knn(4), expected.insert(X[:9]).knn(4))
    other = tree.with_metric(cx.RBF(2.0, active_dims="t"))
    np.testing.assert_array_equal(other.knn(4), expected.with_metric(cx.RBF(2.0, active_dims=[1])).knn(4))
    tree.save(tmp_path / "tree")
    again = cx.load(tmp_path / "tree")
    assert again.feature_names_in_ == ("x", "t", "y")
    np.testing.assert_array_equal(again.with_metric(cx.RBF(2.0, active_dims="t")).knn(4), other.knn(4))
    metric = cx.ResidualCorrelation(2.0 * (by_name + cx.RBF()), inducing=20)
    np.testing.assert_array_equal(
        cx.cover_tree(frame, metric=metric).knn(4), cx.cover_tree(X, kernel=by_number + cx.RBF(), inducing=20).knn(4)
    )


@pytest.mark.parametrize("inducing", [None, 15])
@pytest.mark.parametrize("dims", [[1], [2, 0]])
def test_a_tree_of_some_columns_is_saved(X, dims, inducing, tmp_path):
    tree = cx.cover_tree(X, kernel=cx.RBF(active_dims=dims), inducing=inducing)
    tree.save(tmp_path / "tree")
    for again in (cx.load(tmp_path / "tree"), pickle.loads(pickle.dumps(tree))):
        np.testing.assert_array_equal(again.X, X)
        np.testing.assert_array_equal(again.knn(4), tree.knn(4))
    smaller = tree.delete(np.arange(100))
    smaller.save(tmp_path / "smaller")
    np.testing.assert_array_equal(cx.load(tmp_path / "smaller").knn(4), smaller.knn(4))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda f: cx.cover_tree(f, kernel=cx.RBF(active_dims=["x", "z"])),
            "has 'z', but the data has the columns 'x', 't', 'y'",
        ),
        (
            lambda f: cx.cover_tree(f.to_numpy(), kernel=cx.RBF(active_dims="x")),
            "the data has no names for its columns",
        ),
        (lambda f: cx.cover_tree(f, kernel=cx.RBF(active_dims=["x", 0])), "names a column twice"),
        (lambda f: cx.cover_tree(f).with_metric(cx.RBF(active_dims="q")), "has 'q', but the data"),
        (lambda f: cx.RBF(active_dims="x")(f, f), "the data has no names"),
        (lambda f: cx.RBF(active_dims=[0, 3]).scale(f.to_numpy()), "column 3, but the data has 3 columns"),
    ],
)
def test_columns_that_are_not_there(frame, ask, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        ask(frame)


# -- longitudes and latitudes


def chords(A, B, radius=1.0):
    """By haversines."""
    A, B = np.radians(A), np.radians(B)
    up, along = (A[:, None, i] - B[None, :, i] for i in (1, 0))
    h = np.sin(up / 2) ** 2 + np.cos(A[:, None, 1]) * np.cos(B[None, :, 1]) * np.sin(along / 2) ** 2
    return 2.0 * radius * np.sqrt(h)


@pytest.fixture
def places(rng):
    """Longitude, latitude and a time; some twice, some beyond 180 degrees, and poles."""
    n = 260
    X = np.stack([rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.normal(size=n)], axis=1)
    X[200:240] = X[:40]
    X[200:220, 0] += 360.0
    X[240:244, :2] = [[0, 90], [77, 90], [-12.5, -90], [180, -90]]
    X[244:246] = [[180.0, 10.0, 0.0], [-180.0, 10.0, 0.0]]
    return X


def test_places_on_a_sphere(places):
    coords = cx.RBF(active_dims=[0, 1], lonlat=6371.0).scale(places)
    assert coords.shape == (260, 3)
    np.testing.assert_allclose(np.linalg.norm(coords, axis=1), 6371.0, rtol=1e-15)
    np.testing.assert_array_equal(coords[240], coords[241])
    np.testing.assert_array_equal(coords[242], coords[243])
    np.testing.assert_array_equal(coords[244], coords[245])
    np.testing.assert_allclose(coords[200:220], coords[:20], atol=1e-9)
    apart = np.linalg.norm(coords[:, None] - coords[None], axis=2)
    np.testing.assert_allclose(apart, chords(places, places, 6371.0), atol=1e-8)


def test_longitudes_wrap_to_the_bit():
    lon = np.arange(-720.0, 721.0, 7.5)
    lat = np.linspace(-90, 90, len(lon))
    scale = cx.RBF(lonlat=True).scale
    wrapped = [scale(np.stack([lon + turn, lat], axis=1)) for turn in (0.0, 360.0, -720.0)]
    np.testing.assert_array_equal(wrapped[0], wrapped[1])
    np.testing.assert_array_equal(wrapped[0], wrapped[2])


@pytest.mark.parametrize("threads", [1, 2])
def test_euclidean_neighbours_go_by_great_circle(places, backend, threads, tmp_path):
    tree = cx.cover_tree(places[:, :2], lonlat=True, radius=6371.0, n_threads=threads)
    assert tree.metric == cx.Euclidean(lonlat=6371.0)
    queries = places[:50, :2] + np.array([0.3, 0.0])
    for asked, points in ((None, places[:, :2]), (queries, queries)):
        result = audited(tree, queries=asked, backend=backend)
        truth = chords(points, places[:, :2], 6371.0)
        if asked is None:
            np.fill_diagonal(truth, np.inf)
        np.testing.assert_allclose(result.distances, np.sort(truth, axis=1)[:, :5], atol=1e-5)
    audited(tree, settings="parity", backend=backend)
    audited(tree, predecessor_mode=True, backend=backend)
    within = tree.radius(500.0, queries)
    assert len(within.indices) == np.sum(chords(queries, places[:, :2], 6371.0) <= 500.0)
    tree.save(tmp_path / "tree")
    for again in (cx.load(tmp_path / "tree"), pickle.loads(pickle.dumps(tree))):
        np.testing.assert_array_equal(again.X, places[:, :2])
        np.testing.assert_array_equal(again.knn(3, queries), tree.knn(3, queries))
        with pytest.raises(cx.InvalidInputError, match="queries must have latitudes"):
            again.knn(3, [[0.0, 91.0]])
    order = cx.ordering.maximin(tree, start=0)
    coords = tree.payload.coords[tree.payload.row]
    np.testing.assert_array_equal(order, cx.ordering.maximin(coords, start=0))


KERNELS = {
    "places": (cx.Matern32(0.4, active_dims=[0, 1]), None),
    "all": (cx.Matern32((0.4, 1.5)), None),
    "product": (cx.RBF(0.4, active_dims=[0, 1]) * cx.Matern12(0.8, active_dims=[2]), 20),
    "sum": (cx.RBF(0.3, active_dims=[2, 1, 0]) + 0.4 * cx.Matern52(1.0), 20),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_on_a_sphere(places, name, backend, tmp_path):
    kernel, inducing = KERNELS[name]
    tree = cx.cover_tree(places, kernel=kernel, inducing=inducing, lonlat=True)
    queries = places[:30] + np.array([0.1, 0.0, 0.1])
    for profile in ("exact", "parity"):
        audited(tree, settings=profile, backend=backend)
    audited(tree, queries=queries, backend=backend)
    if name == "product":
        r, t = chords(places, places) / 0.4, np.abs(places[:, None, 2] - places[None, :, 2]) / 0.8
        np.testing.assert_allclose(tree.metric.kernel(places, places), np.exp(-0.5 * r * r - t), atol=1e-12)
    grown = tree.insert(queries).delete(np.arange(25))
    audited(grown, backend=backend)
    grown.save(tmp_path / "tree")
    again = cx.load(tmp_path / "tree")
    np.testing.assert_array_equal(again.knn(5), grown.knn(5))
    other = again.with_metric(cx.RBF(0.2))
    assert other.metric.kernel == cx.RBF(0.2, lonlat=1.0)
    audited(other, backend=backend)
    assert again.with_metric(cx.Euclidean()).metric == cx.Euclidean(1.0)
    own = cx.cover_tree(places, kernel=tree.metric.kernel, inducing=inducing)
    np.testing.assert_array_equal(own.knn(5), tree.knn(5))
    assert own.with_metric(cx.RBF(0.2)).metric.kernel == cx.RBF(0.2, lonlat=1.0)


def test_inducing_points_are_longitudes_and_latitudes(places):
    kernel = cx.Matern32(0.4, active_dims=[0, 1])
    by_row = cx.cover_tree(places, kernel=kernel, inducing=np.arange(9), lonlat=True)
    by_place = cx.cover_tree(places, kernel=kernel, inducing=places[:9], lonlat=True)
    np.testing.assert_array_equal(by_row.payload.factors, by_place.payload.factors)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda X: cx.cover_tree(X[:, ::-1], lonlat=True),
            r"X must have latitudes from -90 to 90 .* at row \d+; \d+ such rows",
        ),
        (lambda X: cx.cover_tree(X[:, :1], lonlat=True), "X needs two columns, longitude and latitude"),
        (lambda X: cx.cover_tree(X, radius=6371.0), "give lonlat=True beside it"),
        (lambda X: cx.cover_tree(X, lonlat=6371.0), "lonlat must be True or False"),
        (lambda X: cx.cover_tree(X, lonlat=True, radius=-1.0), "radius of the sphere, must be positive"),
        (lambda X: cx.cover_tree(X, lonlat=True).insert([[0.0, -90.1]]), "X_new must have latitudes .* -90.1 at row 0"),
        (
            lambda X: cx.cover_tree(X, kernel=cx.RBF(), lonlat=True, inducing=[[0.0, 200.0]]),
            "inducing must have latitudes .* 200.0 at row 0",
        ),
        (lambda X: cx.cover_tree(X, kernel=cx.RBF(active_dims=[1]), lonlat=True), "but one of them. Compare both"),
        (
            lambda X: cx.cover_tree(X, kernel=cx.RBF((1.0, 1.0)), lonlat=True),
            "2 lengthscales, but with lonlat 1 are needed",
        ),
        (lambda X: cx.cover_tree(X, kernel=cx.RBF(np.eye(2)), lonlat=True), "a matrix of lengthscales needs axes"),
        (lambda X: cx.cover_tree(X, kernel=cx.RBF(lonlat=2.0), lonlat=True), "sphere of radius 1 .* on one of 2"),
        (lambda X: cx.cover_tree(X, metric=cx.Euclidean(2.0), lonlat=True), "sphere of radius 1, but the metric"),
    ],
)
def test_places_that_cannot_be(places, ask, message):
    X = places[:, :2].copy()
    X[3, 0] = 130.0
    with pytest.raises(cx.InvalidInputError, match=message):
        ask(X)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-90, 90)), min_size=2, max_size=30), st.floats(0.1, 1e4))
def test_any_places_and_radius(points, radius):
    X = np.round(points, 9)
    tree = cx.cover_tree(X, lonlat=True, radius=radius)
    indices, distances = tree.knn(1, return_distances=True)
    truth = chords(X, X, radius)
    np.testing.assert_allclose(distances[:, 0], truth[np.arange(len(X)), indices[:, 0]], atol=1e-7 * radius, rtol=1e-9)


@dataclass(frozen=True)
class Flat(Stationary):
    """A kernel of axes alone."""

    takes_lonlat: ClassVar[bool] = False
    correlation = cx.RBF.correlation


def test_a_kernel_that_knows_no_sphere(places):
    for ask in (lambda: Flat(lonlat=True), lambda: cx.cover_tree(places, kernel=Flat() + cx.RBF(), lonlat=True)):
        with pytest.raises(cx.InvalidInputError, match="Flat cannot compare longitudes and latitudes"):
            ask()
    tree = cx.cover_tree(places, kernel=Flat(active_dims=[2]) * cx.RBF(0.5, active_dims=[0, 1]), lonlat=True)
    assert [part.lonlat for part in tree.metric.kernel.parts] == [None, 1.0]


@pytest.mark.parametrize("kernel", [None, cx.RBF(0.5)])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, a: d.update(lonlat="wide"), "lonlat must be a number"),
        (lambda d, a: d.update(lonlat=0.0), "lonlat must be a number"),
        (lambda d, a: a.update(x=a["x"] + np.array([0.0, 90.0])), "longitude and latitude|latitudes"),
        (lambda d, a: a.update(x=np.ascontiguousarray(a["x"][:, :1])), "longitude and latitude|columns wide"),
        (lambda d, a: d["metric"].get("kernel", d["metric"]).update(lonlat=2.0), "'coords' is not"),
        (
            lambda d, a: d["metric"].get("kernel", d["metric"]).pop("lonlat"),
            "'coords' must be 2 columns wide, but is 3",
        ),
    ],
)
def test_files_of_other_places(places, kernel, change, message):
    document, arrays = describe(cx.cover_tree(places[:, :2], kernel=kernel, lonlat=True)._state)
    assert assemble(document, dict(arrays), 1, verify=True).lonlat == 1.0
    change(document, arrays)
    with pytest.raises(cx.FileFormatError, match=message):
        assemble(document, arrays, 1, verify=True)

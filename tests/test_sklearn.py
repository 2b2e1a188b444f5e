"""The scikit-learn estimator: its own checks, and the answers of scikit-learn's neighbours and of the dense oracle."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import covertreex as cx

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.exceptions import NotFittedError
from sklearn.manifold import TSNE
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor, KNeighborsTransformer, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from covertreex.sklearn import CoverTreeNeighbors, VecchiaGPRegressor

pd = pytest.importorskip("pandas")

RESIDUAL = {"kernel": cx.Matern32(0.7), "inducing": 10, "random_state": 3}


@parametrize_with_checks(
    [
        CoverTreeNeighbors(),
        CoverTreeNeighbors(mode="connectivity", n_jobs=2),
        CoverTreeNeighbors(mode="correlation", kernel=cx.Matern32(2.0)),
    ]
)
def test_scikit_learn_checks(estimator, check):
    if check.func.__name__ == "check_array_api_input":
        pytest.skip("it asks for SCIPY_ARRAY_API=1, and other array types become NumPy's here")
    check(estimator)


@pytest.fixture
def X(rng):
    return rng.normal(size=(120, 3))


def test_the_same_as_scikit_learn(X, rng):
    ours, theirs = CoverTreeNeighbors(7).fit(X), NearestNeighbors(n_neighbors=7).fit(X)
    for queries in (None, rng.normal(size=(20, 3))):
        for found, expected in zip(ours.kneighbors(queries), theirs.kneighbors(queries), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        np.testing.assert_array_equal(
            ours.kneighbors(queries, 3, return_distance=False), ours.kneighbors(queries)[1][:, :3]
        )
        for mode in ("connectivity", "distance"):
            found = ours.kneighbors_graph(queries, mode=mode)
            np.testing.assert_allclose(found.toarray(), theirs.kneighbors_graph(queries, mode=mode).toarray())


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_transform_is_that_of_scikit_learn(X, rng, mode):
    ours = CoverTreeNeighbors(4, mode=mode)
    theirs = KNeighborsTransformer(n_neighbors=4, mode=mode)
    for found, expected in (
        (ours.fit_transform(X), theirs.fit_transform(X)),
        (ours.transform(X[:9] + 0.1), theirs.transform(X[:9] + 0.1)),
    ):
        np.testing.assert_array_equal(found.indptr, expected.indptr)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.data, expected.data, rtol=1e-12)


def test_radius_neighbors(X, rng):
    ours = CoverTreeNeighbors(radius=0.8).fit(X)
    theirs = NearestNeighbors(radius=0.8).fit(X)
    for queries in (None, rng.normal(size=(20, 3)), X[:2] + 100.0):
        found, expected = ours.radius_neighbors(queries), theirs.radius_neighbors(queries, sort_results=True)
        for ours_, theirs_ in zip(found, expected, strict=True):
            assert ours_.dtype == object
            assert len(ours_) == len(theirs_)
            for row, expected_row in zip(ours_, theirs_, strict=True):
                np.testing.assert_allclose(row, expected_row, rtol=1e-12)
        rows = ours.radius_neighbors(queries, 0.3, return_distance=False)
        assert all(np.all(d <= 0.3) == (len(d) == len(r)) for d, r in zip(found[0], rows, strict=True))

    residual = CoverTreeNeighbors(**RESIDUAL, radius=0.6).fit(X)
    truth = cx.oracle.DenseOracle(X, kernel=RESIDUAL["kernel"], inducing=10, seed=3)
    closeness = truth.closeness(np.arange(120))
    for i, rows in enumerate(residual.radius_neighbors(return_distance=False)):
        near = np.sqrt(1.0 - closeness[i]) <= 0.6
        near[i] = False
        assert sorted(rows) == np.flatnonzero(near).tolist()


def test_residual_correlation_against_the_oracle(X, rng):
    estimator = CoverTreeNeighbors(5, **RESIDUAL).fit(X)
    truth = cx.oracle.DenseOracle(X, kernel=RESIDUAL["kernel"], inducing=10, seed=3)
    queries = rng.normal(size=(15, 3))
    assert truth.recall(estimator.kneighbors(return_distance=False)) == 1.0
    distances, indices = estimator.kneighbors(queries)
    assert truth.recall(indices, queries) == 1.0
    graph = estimator.kneighbors_graph(queries, mode="correlation")
    closeness = np.take_along_axis(truth.closeness(queries), indices, axis=1)
    np.testing.assert_allclose(graph.data.reshape(15, 5), closeness, atol=1e-7)
    np.testing.assert_allclose(1.0 - distances**2, closeness, atol=1e-7)
    own = estimator.fit_transform(X)
    assert own.nnz == 120 * 6
    np.testing.assert_array_equal(own.indices[::6], np.arange(120))
    np.testing.assert_array_equal(own.data[::6], 0.0)


def test_in_pipelines(X, rng):
    y = X[:, 0] + 0.1 * rng.normal(size=120)
    new = rng.normal(size=(30, 3))
    graph = CoverTreeNeighbors(10, mode="distance")
    model = make_pipeline(graph, KNeighborsRegressor(n_neighbors=5, metric="precomputed", weights="distance"))
    direct = KNeighborsRegressor(n_neighbors=5, weights="distance").fit(X, y)
    np.testing.assert_allclose(model.fit(X, y).predict(new), direct.predict(new), rtol=1e-9)

    many = CoverTreeNeighbors(60)
    labels = make_pipeline(many, DBSCAN(eps=0.6, metric="precomputed")).fit_predict(X)
    np.testing.assert_array_equal(labels, DBSCAN(eps=0.6).fit_predict(X))
    assert len(set(labels)) > 1

    tsne = TSNE(perplexity=5, metric="precomputed", init="random", random_state=0, max_iter=250)
    with threadpool_limits(1):
        place = make_pipeline(CoverTreeNeighbors(16), tsne).fit_transform(X)
        expected = make_pipeline(KNeighborsTransformer(n_neighbors=16), tsne).fit_transform(X)
    np.testing.assert_allclose(place, expected, rtol=1e-3, atol=1e-3)


def test_grid_search_over_kernels(X):
    model = make_pipeline(CoverTreeNeighbors(5, inducing=8), KNeighborsRegressor(n_neighbors=5, metric="precomputed"))
    kernels = [cx.Matern32(0.5), cx.RBF(1.0)]
    search = GridSearchCV(model, {"covertreeneighbors__kernel": kernels}, cv=3).fit(X, X[:, 0])
    assert search.best_params_["covertreeneighbors__kernel"] in kernels


def test_clone_pickle_and_names(X):
    estimator = CoverTreeNeighbors(4, **RESIDUAL, settings="parity", backend="cython")
    twin = clone(estimator)
    assert twin.get_params() == estimator.get_params()
    assert {"n_neighbors", "mode", "kernel", "inducing", "jitter", "random_state", "n_jobs"} < set(twin.get_params())
    estimator.fit(X)
    again = pickle.loads(pickle.dumps(estimator))
    for found, expected in zip(again.kneighbors(), estimator.kneighbors(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert list(estimator.get_feature_names_out()[:2]) == ["covertreeneighbors0", "covertreeneighbors1"]
    assert len(estimator.get_feature_names_out()) == 120


def test_feature_names(X):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    estimator = CoverTreeNeighbors(2).fit(frame)
    assert estimator.feature_names_in_.tolist() == ["a", "b", "c"]
    estimator.kneighbors(frame)
    with pytest.raises(ValueError, match="feature names"):
        estimator.kneighbors(frame[["b", "a", "c"]])


def test_names_reach_the_tree_and_its_inducing_points(X):
    table = pd.DataFrame(X[:, :2], columns=["x", "y"])
    neighbors = CoverTreeNeighbors().fit(table)
    assert neighbors.tree_.feature_names_in_ == ("x", "y")
    neighbors.kneighbors()
    with pytest.raises(cx.InvalidInputError, match="columns of queries are in another order"):
        neighbors.tree_.knn(1, table[["y", "x"]])
    with pytest.raises(cx.InvalidInputError, match="columns of inducing are in another order"):
        CoverTreeNeighbors(kernel=cx.RBF(), inducing=table[["y", "x"]][:3]).fit(table)


@pytest.mark.parametrize("make", [np.array, list, pd.DataFrame, lambda rows: np.array(rows, dtype=object)])
def test_integers_that_float64_would_round(make):
    rows = [[0, 0], [1, 2**53 + 1], [2, 3]]
    with pytest.raises(cx.InvalidInputError, match=r"would round: 9007199254740993 at row 1, column 1"):
        CoverTreeNeighbors(n_neighbors=1).fit(make(rows))
    neighbors = CoverTreeNeighbors(n_neighbors=1).fit(make([[0, 0], [1, 2**53], [2, 3]]))
    with pytest.raises(cx.InvalidInputError, match=r"would round: 9007199254740993 at row 1, column 1"):
        neighbors.kneighbors(make(rows))


def test_random_state_and_jobs(X):
    one = CoverTreeNeighbors(4, **RESIDUAL).fit(X)
    np.testing.assert_array_equal(
        one.kneighbors()[0],
        cx.cover_tree(X, kernel=RESIDUAL["kernel"], inducing=10, seed=3).search(4).distances,
    )
    for state in (None, np.random.RandomState(0)):
        CoverTreeNeighbors(4, **{**RESIDUAL, "random_state": state}).fit(X)
    two = CoverTreeNeighbors(4, **RESIDUAL, n_jobs=-1).fit(X)
    np.testing.assert_array_equal(one.kneighbors()[0], two.kneighbors()[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "weights"}, "mode must be one of 'distance', 'correlation', 'connectivity'"),
        ({"mode": "correlation"}, "needs a kernel"),
        ({"n_neighbors": 0}, "n_neighbors must be a positive integer, got 0"),
        ({"n_neighbors": 2.0}, "n_neighbors must be a positive integer, got 2.0"),
        ({"inducing": 3}, "inducing needs a kernel"),
        ({"kernel": "rbf"}, "kernel must be an RBF"),
    ],
)
def test_bad_parameters(X, change, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        CoverTreeNeighbors(**change).fit(X)


def test_bad_calls(X):
    estimator = CoverTreeNeighbors(5)
    for call in (
        estimator.kneighbors,
        estimator.kneighbors_graph,
        estimator.radius_neighbors,
        lambda: estimator.transform(X),
    ):
        with pytest.raises(NotFittedError):
            call()
    estimator.fit(X)
    with pytest.raises(cx.InvalidInputError, match=r"from 1 to 119 .*no point is its own neighbour.*got 120"):
        estimator.kneighbors(n_neighbors=120)
    assert estimator.kneighbors(X[:2], 120)[1].shape == (2, 120)
    with pytest.raises(cx.InvalidInputError, match=r"must be an integer, got 2\.5"):
        estimator.kneighbors(n_neighbors=2.5)
    with pytest.raises(cx.InvalidInputError, match="at most 1"):
        estimator.kneighbors_graph(mode="correlation")
    with pytest.raises(cx.InvalidInputError, match="mode must be one of"):
        estimator.kneighbors_graph(mode="weights")
    with pytest.raises(ValueError, match="3 features"):
        estimator.kneighbors(X[:, :2])


def test_longitudes_names_and_noise(rng):
    places = np.column_stack([rng.uniform(-180, 180, 120), rng.uniform(-90, 90, 120), rng.normal(size=120)])
    frame = pd.DataFrame(places, columns=["lon", "lat", "day"])
    tree = cx.cover_tree(places[:, :2], lonlat=True, radius=6371.0)
    ours = CoverTreeNeighbors(4, lonlat=6371.0).fit(frame[["lon", "lat"]])
    for asked, expected in ((None, tree.knn(4)), (frame[["lon", "lat"]][:9], tree.knn(4, places[:9, :2]))):
        np.testing.assert_array_equal(ours.kneighbors(asked, return_distance=False), expected)
    kernel = cx.RBF(0.5, active_dims=["lat", "lon"]) * cx.RBF(active_dims="day")
    ours = clone(CoverTreeNeighbors(4, kernel=kernel, inducing=10, lonlat=True, noise=0.2)).fit(frame)
    kernel = cx.RBF(0.5, active_dims=[1, 0]) * cx.RBF(active_dims=[2])
    tree = cx.cover_tree(places, kernel=kernel, inducing=10, noise=0.2, lonlat=True)
    np.testing.assert_array_equal(ours.kneighbors(return_distance=False), tree.knn(4))
    assert pickle.loads(pickle.dumps(ours)).tree_.lonlat == 1.0


def test_without_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None; import covertreex; import covertreex.sklearn"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "covertreex.sklearn needs scikit-learn 1.6 or later" in run.stderr
    assert "pip install '.[sklearn]'" in run.stderr


@pytest.mark.parametrize("estimator", [CoverTreeNeighbors, VecchiaGPRegressor])
def test_parameters_of_the_kernel_are_set(estimator):
    made = estimator(kernel=cx.RBF() + cx.Matern32())
    made.set_params(kernel__k2__lengthscale=0.3)
    assert made.kernel == cx.RBF() + cx.Matern32(0.3)
    assert made.get_params()["kernel__k2__lengthscale"] == 0.3
    with pytest.raises(cx.InvalidInputError, match="kernel__lengthscale needs a kernel, but kernel is None"):
        estimator().set_params(kernel__lengthscale=0.3)

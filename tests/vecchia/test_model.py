"""The model against a dense Gaussian process, and against the formulas row by row in plain NumPy."""

import signal
import time
import tracemalloc

import numpy as np
import pytest
from dense_process import KERNELS, dense_log_likelihood, factors_of, plain, points, tree_of
from threadpoolctl import ThreadpoolController

import covertreex as cx
from covertreex.vecchia import Vecchia


@pytest.mark.parametrize("inducing", [None, 25], ids=["plain", "inducing"])
@pytest.mark.parametrize("name", KERNELS)
def test_all_predecessors_are_the_dense_model(name, inducing):
    kernel, X, noise = KERNELS[name], points(300), 0.15
    C = kernel(X, X) + noise * np.eye(300)
    y = np.random.default_rng(1).multivariate_normal(np.zeros(300), C)
    model = Vecchia(tree_of(X, kernel, inducing), k=299, noise=noise)
    assert model.log_likelihood(y) == pytest.approx(dense_log_likelihood(C, y), rel=1e-8)
    assert len(model.jittered) == 0

    new = points(40, seed=2)
    mean, variance = model.predict(new, y, k=300)
    c = kernel(new, X)
    np.testing.assert_allclose(mean, c @ np.linalg.solve(C, y), rtol=1e-8, atol=1e-8 * np.abs(y).max())
    expected = kernel.variance - np.sum(c * np.linalg.solve(C, c.T).T, axis=1)
    np.testing.assert_allclose(variance, expected, rtol=1e-8)
    np.testing.assert_array_equal(model.predict(new, y, k=300, observed=True)[1], variance + noise)


@pytest.mark.parametrize("k", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("inducing", [None, 17], ids=["plain", "inducing"])
@pytest.mark.parametrize("name", ["matern32", "matern 0.8", "product"])
def test_few_neighbours_row_by_row(name, inducing, k):
    kernel, X, noise = KERNELS[name], points(120, seed=3), 0.05
    tree = tree_of(X, kernel, None if inducing is None else X[:inducing])
    U = np.zeros((120, 0)) if inducing is None else factors_of(X, X[:inducing], kernel)
    C = kernel(X, X) - U @ U.T + noise * np.eye(120)
    model = Vecchia(tree, k=k, noise=noise)
    np.testing.assert_array_equal(model.neighbors, tree.knn(k, predecessor_mode=True))
    B, D = plain(C, model.neighbors)
    got, variances = model.factor()
    np.testing.assert_allclose(got.toarray(), B, atol=1e-8)
    np.testing.assert_allclose(variances, D, rtol=1e-8)

    # Woodbury's formula and the determinant lemma against the n x n matrix.
    Sigma = U @ U.T + np.linalg.inv(B.T @ (B / D[:, None]))
    y = np.random.default_rng(4).normal(size=120)
    assert model.log_likelihood(y) == pytest.approx(dense_log_likelihood(Sigma, y), rel=1e-8)

    # Predictions: each point is regressed on its neighbours, given all that is known of the inducing points.
    new = points(11, seed=5)
    mean, variance = model.predict(new, y, k=k)
    found = tree.knn(k, new)
    V = np.zeros((11, 0)) if inducing is None else factors_of(new, X[:inducing], kernel)
    precision = B.T @ (B / D[:, None])
    M = np.eye(U.shape[1]) + U.T @ precision @ U
    w = np.linalg.solve(M, U.T @ precision @ y)
    for i, N in enumerate(found):
        c = kernel(new[i : i + 1], X[N])[0] - U[N] @ V[i]
        A = np.linalg.solve(C[np.ix_(N, N)], c)
        u = V[i] - A @ U[N]
        assert mean[i] == pytest.approx(V[i] @ w + A @ (y[N] - U[N] @ w), rel=1e-7, abs=1e-8)
        left = kernel.variance - V[i] @ V[i] - A @ c
        assert variance[i] == pytest.approx(left + u @ np.linalg.solve(M, u), rel=1e-7)


@pytest.mark.parametrize("latent", [False, True], ids=["response", "latent"])
def test_the_scale_of_all_variances(latent):
    """Times it, no other multiple has a larger likelihood; and the profile likelihood is what its formula says."""
    X, A = points(120), np.ones((120, 1))
    y = np.random.default_rng(0).normal(3.0, 2.0, size=120)
    model = Vecchia(tree_of(X, cx.Matern32(0.2, variance=1.5), 10), k=8, noise=0.2, latent=latent)
    s = model.scale(y, A)
    best, less, more = (
        Vecchia(tree_of(X, cx.Matern32(0.2, variance=1.5 * m), 10), neighbors=model.neighbors, noise=0.2 * m,
                latent=latent).log_likelihood(y, A) for m in (s, 0.98 * s, 1.02 * s)
    )  # fmt: skip
    assert best > max(less, more)
    quadratic = 120 * s
    log_det = -2.0 * model.log_likelihood(y, A) - 120 * np.log(2.0 * np.pi) - quadratic
    assert best == pytest.approx(-0.5 * (120 * np.log(2.0 * np.pi * s) + log_det + 120), rel=1e-10)


@pytest.mark.parametrize("inducing", [None, 15], ids=["plain", "inducing"])
def test_a_linear_mean(inducing):
    kernel, X, noise = KERNELS["matern32"], points(200), 0.1
    rng = np.random.default_rng(6)
    A = np.column_stack([np.ones(200), 1e5 * X[:, 0]])
    C = kernel(X, X) + noise * np.eye(200)
    y = A @ [1e4, -2.0] + rng.multivariate_normal(np.zeros(200), C)
    model = Vecchia(tree_of(X, kernel, inducing), k=199, noise=noise)
    beta, covariance = model.coefficients(y, A)
    inner = np.linalg.inv(A.T @ np.linalg.solve(C, A))
    expected = inner @ A.T @ np.linalg.solve(C, y)
    np.testing.assert_allclose(beta, expected, rtol=1e-8)
    np.testing.assert_allclose(covariance, inner, rtol=1e-7)
    assert model.log_likelihood(y, A) == pytest.approx(dense_log_likelihood(C, y - A @ expected), rel=1e-8)
    for step in ([1.0, 0.0], [0.0, 1e-3]):  # no other coefficients are better
        assert model.log_likelihood(y - A @ (beta + step)) < model.log_likelihood(y, A)

    new = points(20, seed=7)
    A_new = np.column_stack([np.ones(20), 1e5 * new[:, 0]])
    mean, variance = model.predict(new, y, k=200, X_mean=A, X_mean_new=A_new)
    weights = np.linalg.solve(C, kernel(X, new))
    h = A_new - weights.T @ A
    np.testing.assert_allclose(mean, A_new @ expected + weights.T @ (y - A @ expected), rtol=1e-8)
    known = kernel.variance - np.sum(kernel(X, new) * weights, axis=0)
    np.testing.assert_allclose(variance, known + np.sum((h @ inner) * h, axis=1), rtol=1e-7)


@pytest.mark.parametrize("inducing", [None, 10], ids=["plain", "inducing"])
def test_an_order(inducing):
    """The approximation in an order is that of the data in this order."""
    kernel, X = KERNELS["ard"], points(150)
    order = cx.ordering.maximin(X)
    Z = None if inducing is None else X[:inducing]
    model = Vecchia(tree_of(X, kernel, Z), k=6, noise=0.2, order=order)
    moved = Vecchia(tree_of(X[order], kernel, Z), k=6, noise=0.2)
    y = np.random.default_rng(8).normal(size=150)
    assert model.log_likelihood(y) == pytest.approx(moved.log_likelihood(y[order]), rel=1e-12)
    assert model.log_likelihood(y) != pytest.approx(Vecchia(model.tree, k=6, noise=0.2).log_likelihood(y), rel=1e-6)
    (B, D), (C, E) = model.factor(), moved.factor()
    np.testing.assert_array_equal(np.triu(B.toarray(), 1), 0.0)
    np.testing.assert_array_equal(B.diagonal(), 1.0)
    np.testing.assert_allclose(B.toarray(), C.toarray(), atol=1e-12)
    np.testing.assert_allclose(D, E, rtol=1e-12)
    np.testing.assert_array_equal(model.order, order)


def test_neighbours_of_anyone():
    kernel, X = KERNELS["matern32"], points(100)
    tree = cx.cover_tree(X, kernel=kernel)
    y = np.random.default_rng(9).normal(size=100)
    near = cx.cover_tree(X).knn(5, predecessor_mode=True)
    model = Vecchia(tree, neighbors=near, noise=0.1)
    B, D = plain(kernel(X, X) + 0.1 * np.eye(100), near)
    expected = -0.5 * (100 * np.log(2 * np.pi) + np.sum(np.log(D)) + np.sum((B @ y) ** 2 / D))
    assert model.log_likelihood(y) == pytest.approx(expected, rel=1e-9)
    # Sets, in whatever sequence.
    backwards = near.copy()
    for row in backwards:
        there = row >= 0
        row[there] = row[there][::-1]
    assert Vecchia(tree, neighbors=backwards, noise=0.1).log_likelihood(y) == pytest.approx(expected, rel=1e-9)
    alone = Vecchia(tree, neighbors=np.full((100, 1), -1), noise=0.1)
    independent = -0.5 * (100 * np.log(2 * np.pi * 1.8) + np.sum(y**2) / 1.8)
    assert alone.log_likelihood(y) == pytest.approx(independent, rel=1e-12)


def test_noise_is_that_of_the_tree_unless_it_is_given():
    kernel, X = KERNELS["matern32"], points(80)
    y = np.random.default_rng(10).normal(size=80)
    each = np.random.default_rng(11).uniform(0.05, 0.5, size=80)
    for noise in (0.3, each):
        C = kernel(X, X) + np.eye(80) * noise
        heard = Vecchia(cx.cover_tree(X, kernel=kernel, inducing=9, noise=noise), k=79)
        given = Vecchia(cx.cover_tree(X, kernel=kernel, inducing=9), k=79, noise=noise)
        assert heard.log_likelihood(y) == pytest.approx(dense_log_likelihood(C, y), rel=1e-8)
        assert given.log_likelihood(y) == pytest.approx(dense_log_likelihood(C, y), rel=1e-8)
    both = Vecchia(cx.cover_tree(X, kernel=kernel, noise=7.0), k=79, noise=0.3)  # not added
    assert both.log_likelihood(y) == pytest.approx(dense_log_likelihood(kernel(X, X) + 0.3 * np.eye(80), y), rel=1e-8)
    assert "<80 variances>" in repr(Vecchia(cx.cover_tree(X, kernel=kernel, noise=each), k=3))


def test_factors_that_were_supplied():
    """Their units, and a kernel whose variance is no power of four."""
    kernel, X = cx.Matern32(0.3, variance=50.0), points(150)
    Z, y = points(12, seed=12), np.random.default_rng(13).normal(size=150)
    made = Vecchia(cx.cover_tree(X, kernel=kernel, inducing=Z), k=10, noise=2.0)
    V = factors_of(X, Z, kernel)
    given = Vecchia(cx.cover_tree(X, kernel=kernel, v_matrix=V), neighbors=made.neighbors, noise=2.0)
    assert given.log_likelihood(y) == pytest.approx(made.log_likelihood(y), rel=1e-8)
    new = points(9, seed=14)
    expected = made.predict(new, y, k=150)
    found = given.predict(new, y, k=150, v_query=factors_of(new, Z, kernel))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("inducing", [None, 4], ids=["plain", "inducing"])
def test_draws_have_the_covariance_of_the_model(inducing):
    kernel, X = cx.Matern32(0.4, variance=3.0), points(25, seed=15)
    Z = None if inducing is None else X[:inducing]
    order = np.random.default_rng(16).permutation(25)
    model = Vecchia(tree_of(X, kernel, Z), k=3, noise=0.5, order=order)
    U = np.zeros((25, 0)) if Z is None else factors_of(X, Z, kernel)
    B, D = (part.toarray() if part.ndim == 2 else part for part in model.factor())
    R = np.empty((25, 25))
    R[np.ix_(order, order)] = np.linalg.inv(B.T @ (B / D[:, None]))
    Sigma, size = U @ U.T + R, 40_000
    draws = model.sample(17, size=size)
    np.testing.assert_array_equal(draws, model.sample(np.random.default_rng(17), size=size))
    deviation = np.sqrt((Sigma**2 + np.outer(np.diag(Sigma), np.diag(Sigma))) / size)
    assert np.max(np.abs(draws.T @ draws / size - Sigma) / deviation) < 5.0
    assert np.max(np.abs(draws.mean(axis=0)) / np.sqrt(np.diag(Sigma) / size)) < 5.0


@pytest.mark.parametrize("inducing", [None, 20], ids=["plain", "inducing"])
def test_divergence_from_the_dense_model_falls_with_k(inducing):
    kernel, X = KERNELS["matern32"], points(250, seed=18)
    C = kernel(X, X) + 0.01 * np.eye(250)
    Z = None if inducing is None else X[:inducing]
    U = np.zeros((250, 0)) if Z is None else factors_of(X, Z, kernel)
    divergences = []
    for k in (1, 2, 4, 8, 16, 32, 64, 249):
        B, D = Vecchia(tree_of(X, kernel, Z), k=k, noise=0.01).factor()
        B = B.toarray()
        Sigma = U @ U.T + np.linalg.inv(B.T @ (B / D[:, None]))
        logs = np.linalg.slogdet(Sigma)[1] - np.linalg.slogdet(C)[1]
        divergences.append(0.5 * (np.trace(np.linalg.solve(Sigma, C)) - 250 + logs))
    assert np.all(np.diff(divergences) < 0.0), divergences
    assert abs(divergences[-1]) < 1e-6 < divergences[0]


def same_site(X, model, i):
    group = X[np.append(model.neighbors[i][model.neighbors[i] >= 0], i)]
    return len(np.unique(group, axis=0)) < len(group)


@pytest.mark.parametrize("inducing", [None, 8], ids=["plain", "inducing"])
def test_sites_that_coincide_get_jitter_and_are_counted(inducing):
    X = np.repeat(points(60, seed=19), 2, axis=0)
    tree = tree_of(X, KERNELS["matern32"], inducing)
    model = Vecchia(tree, k=6)
    expected = [i for i in range(120) if same_site(X, model, i)]
    assert len(expected) >= 60
    if inducing is None:
        np.testing.assert_array_equal(model.jittered, expected)
    else:  # inducing points themselves have next to no variance left
        assert set(expected) <= set(model.jittered)
    y = np.repeat(np.random.default_rng(20).normal(size=60), 2)
    B, D = model.factor()
    assert np.isfinite(B.data).all()
    assert np.all(D > 0.0)
    assert np.isfinite(model.log_likelihood(y))
    mean, variance = model.predict(X[:30], y, k=5)
    np.testing.assert_allclose(mean, y[:30], atol=1e-3)
    assert np.all((variance >= 0.0) & (variance < 1e-3))
    assert len(Vecchia(tree, k=6, noise=0.01).jittered) == 0


def test_jitter_is_as_small_as_will_do():
    """The second of two points in one place has the variance that 1e-10 of the variance leaves it."""
    kernel = cx.Matern32(1.0, variance=5.0)
    B, D = Vecchia(cx.cover_tree([[0.0], [0.0], [9.0]], kernel=kernel), k=2).factor()
    assert D[1] == pytest.approx(2e-10 * 5.0, rel=1e-4)
    assert B[1, 0] == pytest.approx(-1.0, abs=1e-9)


def test_predictions_where_the_data_are():
    X = points(50)
    model = Vecchia(cx.cover_tree(X, kernel=cx.Matern12(0.3)), k=10)
    y = model.sample(0)[0]
    mean, variance = model.predict(X, y, k=10)
    np.testing.assert_allclose(mean, y, atol=1e-9)
    assert np.all(variance >= 0.0)
    assert variance.max() < 1e-12


def test_ties():
    """On a grid many neighbours are at one distance, and which of them are taken is the tree's decision."""
    X = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0)), axis=-1).reshape(-1, 2)
    kernel = cx.Matern32(2.0)
    model = Vecchia(cx.cover_tree(X, kernel=kernel), k=4, noise=0.1)
    B, D = plain(kernel(X, X) + 0.1 * np.eye(100), cx.cover_tree(X, kernel=kernel).knn(4, predecessor_mode=True))
    np.testing.assert_allclose(model.factor()[0].toarray(), B, atol=1e-10)
    np.testing.assert_allclose(model.factor()[1], D, rtol=1e-10)


@pytest.mark.parametrize("latent", [False, True])
def test_threads_of_blas_change_no_bit(latent, rng):
    """Their number is that of a machine's cores, and a Cholesky factor of 300 columns has other bits on two."""
    X, y = points(600), rng.normal(size=600)

    def found(threads):
        with ThreadpoolController().limit(limits=threads, user_api="blas"):
            model = Vecchia(tree_of(X, cx.Matern32(0.2), 300), k=5, noise=0.1, latent=latent)
            gradient = [] if latent else model.log_likelihood(y, grad=True)[1].values()
            beta, covariance = model.coefficients(y, X)
            return [
                *gradient,
                model.log_likelihood(y),
                *model.predict(X[:9] + 0.01, y),
                model.sample(0),
                beta,
                covariance,
            ]

    for one, two in zip(found(1), found(2), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("inducing", [None, 40], ids=["plain", "inducing"])
def test_threads_change_no_bit(inducing):
    X, new = points(5_000), points(3_000, seed=21)
    one, two = (Vecchia(tree_of(X, cx.Matern32(0.2), inducing, n_threads=count), k=12, noise=0.1) for count in (1, 2))
    y = one.sample(0)[0]
    np.testing.assert_array_equal(y, two.sample(0)[0])
    (B, D), (C, E) = one.factor(), two.factor()
    np.testing.assert_array_equal(B.data, C.data)
    np.testing.assert_array_equal(D, E)
    assert one.log_likelihood(one.sample(1)[0]) == two.log_likelihood(two.sample(1)[0])
    draw = one.sample(2)[0]
    np.testing.assert_array_equal(one.predict(new, draw), two.predict(new, draw))
    given = Vecchia(one.tree, neighbors=one.neighbors, noise=0.1, n_threads=2)
    assert given.log_likelihood(draw) == one.log_likelihood(draw)


def test_a_tree_that_points_were_inserted_into():
    X, kernel = points(200), cx.Matern32(0.3)
    whole = Vecchia(cx.cover_tree(X, kernel=kernel, inducing=X[:10]), k=8, noise=0.1)
    grown = Vecchia(cx.cover_tree(X[:150], kernel=kernel, inducing=X[:10]).insert(X[150:]), k=8, noise=0.1)
    y = whole.sample(0)[0]
    assert grown.log_likelihood(y) == pytest.approx(whole.log_likelihood(y), rel=1e-10)


def test_longitudes_and_latitudes():
    degrees = np.random.default_rng(22).uniform((-180, -80), (180, 80), size=(120, 2))
    lon, lat = np.radians(degrees).T
    xyz = np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    kernel, y = cx.Matern32(0.4), np.random.default_rng(23).normal(size=120)
    model = Vecchia(cx.cover_tree(degrees, kernel=kernel, lonlat=True), k=119, noise=0.2)
    C = kernel(xyz, xyz) + 0.2 * np.eye(120)
    assert model.log_likelihood(y) == pytest.approx(dense_log_likelihood(C, y), rel=1e-8)
    mean, _ = model.predict(degrees[:5] + 1.0, y, k=120)
    lon, lat = np.radians(degrees[:5] + 1.0).T
    new = np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    np.testing.assert_allclose(mean, kernel(new, xyz) @ np.linalg.solve(C, y), rtol=1e-7, atol=1e-9)


def test_one_point():
    model = Vecchia(cx.cover_tree([[1.0, 2.0]], kernel=cx.RBF(variance=2.0)), k=1, noise=1.0)
    assert model.log_likelihood([3.0]) == pytest.approx(-0.5 * (np.log(2 * np.pi * 3.0) + 3.0))
    mean, variance = model.predict([[1.0, 2.0]], [3.0])
    np.testing.assert_allclose([mean[0], variance[0]], [2.0, 2.0 - 4.0 / 3.0])


def test_memory_is_not_that_of_another_copy_of_the_factors():
    n, m, k = 40_000, 208, 5
    tree = cx.cover_tree(points(n), kernel=cx.Matern32(0.2), inducing=m)
    neighbors = np.maximum(np.arange(n)[:, None] - np.arange(1, k + 1), -1)
    y = np.zeros(n)
    tracemalloc.start()
    try:
        Vecchia(tree, neighbors=neighbors, noise=0.1).log_likelihood(y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.6 * n * m * 8, f"{peak / 1e6:.0f} MB"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_ctrl_c_is_heard():
    X = np.random.default_rng(0).uniform(size=(4_000, 2))
    rows = np.arange(4_000)[:, None] - np.arange(1, 201)
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.1), inducing=150)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    began = time.perf_counter()
    try:
        Vecchia(tree, neighbors=np.maximum(rows, -1), noise=0.1)
        whole = time.perf_counter() - began
        signal.setitimer(signal.ITIMER_REAL, whole / 4)
        began = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            Vecchia(tree, neighbors=np.maximum(rows, -1), noise=0.1)
        assert time.perf_counter() - began < 0.75 * whole
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_no_jitter_helps_where_a_kernel_is_no_covariance():
    X = np.linspace(0.0, 4.0, 60)[:, None]
    with pytest.raises(cx.FactorizationError, match=r"row \d+: the covariance of its conditioning set"):
        Vecchia(cx.cover_tree(X, kernel=cx.Isotropic(lambda r: np.exp(-(r**4)))), k=40)


ONES = np.ones((4, 1))
SQUARE = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda tree: Vecchia(SQUARE), "tree must be a CoverTree"),
        (lambda tree: Vecchia(cx.cover_tree(SQUARE)), "needs a kernel, and this tree is Euclidean"),
        (lambda tree: Vecchia(tree.delete([1]), k=2), "1 points of this tree are deleted"),
        (lambda tree: Vecchia(cx.cover_tree(SQUARE, kernel=cx.Covariance(lambda A, B: A @ B.T + 1.0)), k=2),
         "Covariance of your own is not known to compiled code"),
        (lambda tree: Vecchia(tree, k=5), "k must be"),
        (lambda tree: Vecchia(tree, k=2, noise=-1.0), "noise must be a variance, 0 or above"),
        (lambda tree: Vecchia(tree, k=2, noise=[1.0, 2.0]), r"shape \(4,\); got \(2,\)"),
        (lambda tree: Vecchia(tree, k=2, noise="loud"), "noise must be a variance"),
        (lambda tree: Vecchia(tree, k=2, order=[0, 1, 2, 2]), "order .* each once; it names row 2 2 times"),
        (lambda tree: Vecchia(tree, neighbors=[[-1], [0], [0], [4]]),
         "row 3 of neighbors names 4, but rows are 0 to 3"),
        (lambda tree: Vecchia(tree, neighbors=[[-1], [0], [2], [0]]),
         "row 2 of neighbors names 2, which is not before"),
        (lambda tree: Vecchia(tree, neighbors=[[1], [-1], [1], [0]], order=[1, 2, 3, 0]),
         "row 3 of neighbors names 0, which is not before it"),
        (lambda tree: Vecchia(tree, neighbors=[[-1, -1], [0, -1], [0, 1], [1, 1]]),
         "row 3 of neighbors names 1 twice"),
        (lambda tree: Vecchia(tree, neighbors=[[-1, -1], [-1, 0], [0, 1], [1, 0]]),
         "row 1 of neighbors names 0 after a -1"),
        (lambda tree: Vecchia(tree, neighbors=[[0.0]] * 4), r"integers of shape \(n, k\)"),
        (lambda tree: Vecchia(tree, neighbors=[0, 0, 0, 0]), r"integers of shape \(n, k\)"),
        (lambda tree: Vecchia(tree, k=2).log_likelihood([1.0]), r"y must have one number per point, shape \(4,\)"),
        (lambda tree: Vecchia(tree, k=2).log_likelihood([1.0, 2.0, np.nan, 0.0]), "y must be finite, got nan at row 2"),
        (lambda tree: Vecchia(tree, k=2).log_likelihood([1.0] * 4, ONES[1:]), "X_mean must have one row per point"),
        (lambda tree: Vecchia(tree, k=2).log_likelihood([1.0] * 4, np.ones((4, 2))), "columns of X_mean depend"),
        (lambda tree: Vecchia(tree, k=2).predict(SQUARE, [1.0] * 4, X_mean=ONES), "go together"),
        (lambda tree: Vecchia(tree, k=2).predict(SQUARE, [1.0] * 4, X_mean=ONES, X_mean_new=np.ones((3, 1))),
         "X_mean_new must have 4 rows"),
        (lambda tree: Vecchia(tree, k=2, noise=[1.0] * 4).predict(SQUARE, [1.0] * 4, observed=True),
         "noise of its own"),
        (lambda tree: Vecchia(tree, k=2).predict([[0.0]], [1.0] * 4), "column"),
        (lambda tree: Vecchia(tree, k=2).sample(0, size=0), "size must be a number of draws"),
    ],
)  # fmt: skip
def test_messages(make, said):
    with pytest.raises(cx.InvalidInputError, match=said):
        make(cx.cover_tree(SQUARE, kernel=cx.Matern32()))

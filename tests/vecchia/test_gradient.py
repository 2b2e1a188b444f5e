"""Gradients against differences of the likelihood, and against a dense process."""

from functools import partial

import numpy as np
import pytest

import covertreex as cx
from covertreex.vecchia import Vecchia, free_parameters
from covertreex.vecchia.gradient import powers, telling_rows

KERNELS = {
    "matern12": cx.Matern12(0.3, variance=5.0),
    "matern32": cx.Matern32((0.2, 0.4), variance=2.0),
    "rbf": cx.RBF(0.2, variance=1e-3),
    "rational quadratic": cx.RationalQuadratic(0.3, alpha=1.5),
    "matern": cx.Matern(0.2, nu=0.8),
    "power": cx.PoweredExponential(0.3, power=1.3),
    "wendland": cx.Wendland(0.6),
    "sum": cx.Matern52(0.2) + cx.RBF(0.5, variance=0.3),
    "same lengthscale twice": cx.Matern52(0.3) + cx.RBF(0.3, variance=0.3),
    "product": cx.RBF(0.3, active_dims=[0]) * cx.Matern12(0.7, variance=2.0, active_dims=[1]),
    "products of sums": (cx.RBF(0.3) + cx.Matern32(0.5)) * (cx.Matern12(0.7, variance=2.0) + cx.RBF(0.2)),
    "multiple": 2.0 * (cx.RBF(0.2) + cx.Matern12(0.4)),
    "periodic": cx.Periodic(0.5, period=0.7) * cx.RBF(1.0),
    "gneiting": cx.Gneiting(0.4, 0.5, space_dims=[0], time_dims=[1]),
    "matrix": cx.Matern32(((0.3, 0.0), (0.1, 0.2)), variance=2.0),
}


def points(n, seed=0, d=2):
    return np.random.default_rng(seed).uniform(size=(n, d))


def flat(gradient):
    return np.concatenate([np.ravel(value) for value in gradient.values()])


def differences(model, y, X_mean=None, names=None):
    """Central differences of the likelihood, neighbours and inducing points staying, by the public interface."""
    kernel, found = model.kernel, []
    tree, neighbors = model.tree, model.neighbors

    def value(kernel, noise):
        other = Vecchia(tree.with_metric(kernel), neighbors=neighbors, noise=noise)
        return other.log_likelihood(y, X_mean)

    def difference(at, number):
        step = 1e-5 * number
        return (at(number + step) - at(number - step)) / (2.0 * step)

    def moved(name, place, number):
        now = kernel.get_params()[name]
        return kernel.set_params(**{name: number if place is None else (*now[:place], number, *now[place + 1 :])})

    for name in free_parameters(kernel) if names is None else names:
        now = kernel.get_params()[name]
        for place, number in enumerate(now) if isinstance(now, tuple) else [(None, now)]:
            at = partial(moved, name, place)
            found.append(difference(lambda x, at=at: value(at(x), model.noise), number))
    return np.array([*found, difference(lambda x: value(kernel, x), model.noise)])


@pytest.mark.parametrize("mean", [False, True], ids=["", "mean"])
@pytest.mark.parametrize("inducing", [None, 18], ids=["plain", "inducing"])
@pytest.mark.parametrize("name", KERNELS)
def test_differences(name, inducing, mean):
    """Ties to no formula of the gradient: only the likelihood, which other tests have compared with a dense process."""
    kernel, X = KERNELS[name], points(150)
    y, A = np.random.default_rng(1).normal(size=150), np.ones((150, 1)) if mean else None
    model = Vecchia(cx.cover_tree(X, kernel=kernel, inducing=inducing), k=7, noise=0.1 * kernel.variance)
    value, gradient = model.log_likelihood(y, A, grad=True)
    assert value == model.log_likelihood(y, A)
    assert list(gradient) == [*free_parameters(kernel), "noise"]
    expected = differences(model, y, A)
    np.testing.assert_allclose(flat(gradient), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    rows = telling_rows(X)
    for parameter in free_parameters(kernel):  # all of these are analytic
        number = kernel.get_params()[parameter]
        for place in range(len(number)) if isinstance(number, tuple) else [None]:
            assert powers(kernel, parameter, place, rows) is not None


@pytest.mark.parametrize("inducing", [None, 18], ids=["plain", "inducing"])
def test_the_dense_gradient(inducing):
    """All predecessors: tr(S dK) - r dK r, r = S y, by plain NumPy."""
    kernel, X, noise = cx.Matern32((0.2, 0.4), variance=2.0), points(120), 0.2
    y = np.random.default_rng(1).normal(size=120)
    model = Vecchia(cx.cover_tree(X, kernel=kernel, inducing=inducing), k=119, noise=noise)
    gradient = model.log_likelihood(y, grad=True)[1]
    precision = np.linalg.inv(kernel(X, X) + noise * np.eye(120))
    r = precision @ y
    offs = (X[:, None, :] - X[None, :, :]) / kernel.lengthscale
    distance = np.sqrt(3.0 * np.sum(offs**2, axis=2))
    for j, name in enumerate(("first", "second")):
        dK = 2.0 * 3.0 * offs[:, :, j] ** 2 * np.exp(-distance) / kernel.lengthscale[j]
        expected = -0.5 * (np.sum(precision * dK) - r @ dK @ r)
        assert gradient["lengthscale"][j] == pytest.approx(expected, rel=1e-6), name
    dK = kernel(X, X) / 2.0
    assert gradient["variance"] == pytest.approx(-0.5 * (np.sum(precision * dK) - r @ dK @ r), rel=1e-6)
    assert gradient["noise"] == pytest.approx(-0.5 * (np.trace(precision) - r @ r), rel=1e-6)


@pytest.mark.parametrize(
    ("kernel", "names"),
    [
        (cx.Matern(0.3, nu=0.9), ["nu", "lengthscale"]),
        (cx.RationalQuadratic(0.3, alpha=1.5), ["alpha"]),
        (cx.Periodic(0.5, period=0.7) * cx.RBF(1.0), ["k1__period"]),
        (cx.PoweredExponential(0.3, power=1.3) + cx.RBF(0.1), ["k1__power", "k2__variance"]),
    ],
    ids=["nu", "alpha", "period", "power"],
)
def test_other_parameters_by_differences(kernel, names):
    X, y = points(100), np.random.default_rng(1).normal(size=100)
    model = Vecchia(cx.cover_tree(X, kernel=kernel, inducing=10), k=6, noise=0.1)
    gradient = model.log_likelihood(y, grad=True, free=names)[1]
    assert list(gradient) == [*names, "noise"]
    expected = differences(model, y, names=names)
    np.testing.assert_allclose(flat(gradient), expected, rtol=1e-4, atol=1e-4)


def test_noise_of_each_observation():
    """Then there is none in the gradient."""
    X, y = points(100), np.random.default_rng(1).normal(size=100)
    noise = np.random.default_rng(2).uniform(0.1, 0.3, size=100)
    model = Vecchia(cx.cover_tree(X, kernel=cx.Matern32(0.3), inducing=10), k=6, noise=noise)
    gradient = model.log_likelihood(y, grad=True)[1]
    assert list(gradient) == ["lengthscale", "variance"]
    ends = [
        Vecchia(model.tree.with_metric(cx.Matern32(x)), neighbors=model.neighbors, noise=noise).log_likelihood(y)
        for x in (0.3 - 1e-6, 0.3 + 1e-6)
    ]
    assert gradient["lengthscale"] == pytest.approx((ends[1] - ends[0]) / 2e-6, rel=1e-5)


def test_jitter_is_a_share_of_the_variance():
    """Sites that coincide, without noise: the jitter of their sets goes with the variance."""
    X = np.repeat(points(40), 2, axis=0)
    y = np.random.default_rng(1).normal(size=80)
    model = Vecchia(cx.cover_tree(X, kernel=cx.Matern12(0.5, variance=3.0)), k=5, noise=0.0)
    assert len(model.jittered) > 0
    gradient = model.log_likelihood(y, grad=True, free=["variance"])[1]
    ends = [
        Vecchia(model.tree.with_metric(cx.Matern12(0.5, variance=v)), neighbors=model.neighbors, noise=0.0)
        .log_likelihood(y) for v in (3.0 - 3e-5, 3.0 + 3e-5)
    ]  # fmt: skip
    assert gradient["variance"] == pytest.approx((ends[1] - ends[0]) / 6e-5, rel=1e-5)


@pytest.mark.parametrize("jitter", [None, 1e-3])
def test_jitter_of_inducing_points(jitter):
    """By default it is a share of the variance; one that is given is not."""
    X, y = points(100), np.random.default_rng(1).normal(size=100)
    tree = cx.cover_tree(X, kernel=cx.RBF(0.6, variance=2.0), inducing=20, jitter=jitter)
    model = Vecchia(tree, k=5, noise=0.05)
    gradient = model.log_likelihood(y, grad=True)[1]
    np.testing.assert_allclose(flat(gradient), differences(model, y), rtol=2e-5)


@pytest.mark.parametrize("inducing", [None, 20], ids=["plain", "inducing"])
def test_threads_change_no_bit(inducing):
    X, y = points(3000), np.random.default_rng(1).normal(size=3000)
    found = [
        Vecchia(cx.cover_tree(X, kernel=cx.Matern32(0.1), inducing=inducing), k=5, noise=0.1, n_threads=threads)
        .log_likelihood(y, grad=True) for threads in (1, 2, 3)
    ]  # fmt: skip
    assert found[0] == found[1] == found[2]


def test_longitudes_and_latitudes():
    X = np.random.default_rng(0).uniform([-180.0, -80.0], [180.0, 80.0], size=(100, 2))
    y = np.random.default_rng(1).normal(size=100)
    model = Vecchia(cx.cover_tree(X, kernel=cx.Matern32(0.4), lonlat=True, inducing=10), k=6, noise=0.1)
    gradient = model.log_likelihood(y, grad=True)[1]
    np.testing.assert_allclose(flat(gradient), differences(model, y), rtol=1e-6)


def test_degenerate_sizes():
    one = Vecchia(cx.cover_tree([[1.0, 2.0]], kernel=cx.RBF(variance=2.0)), k=1, noise=1.0)
    gradient = one.log_likelihood([3.0], grad=True)[1]
    expected = -0.5 * (1.0 / 3.0 - 9.0 / 9.0)
    assert gradient == {"lengthscale": 0.0, "variance": pytest.approx(expected), "noise": pytest.approx(expected)}


def test_messages():
    line, y = [[0.0], [1.0], [2.0], [4.0]], [1.0, 2.0, 0.0, 1.0]
    supplied = Vecchia(cx.cover_tree(line, kernel=cx.RBF(), v_matrix=np.full((4, 1), 0.1)), k=2, noise=0.1)
    with pytest.raises(cx.InvalidInputError, match="factors, which belong to one kernel"):
        supplied.log_likelihood(y, grad=True)
    model = Vecchia(cx.cover_tree(line, kernel=cx.RBF()), k=2, noise=0.1)
    with pytest.raises(cx.InvalidInputError, match="free names 'nu', but the kernel has lengthscale"):
        model.log_likelihood(y, grad=True, free=["nu"])
    with pytest.raises(cx.InvalidInputError, match="grad must be"):
        model.log_likelihood(y, grad="yes")

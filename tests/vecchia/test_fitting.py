"""Maximum likelihood: that it is a maximum, that neighbours follow, and what is refused."""

import numpy as np
import pytest

import covertreex as cx
from covertreex.vecchia import Vecchia, free_parameters


def data(n, kernel, noise, seed=0, d=2):
    X = np.random.default_rng(seed).uniform(size=(n, d))
    covariance = kernel(X, X) + noise * np.eye(n)
    return X, np.linalg.cholesky(covariance) @ np.random.default_rng(seed + 1).normal(size=n)


def fit(X, y, X_mean=None, *, kernel=None, inducing=None, k=30, noise=None, order=None, **more):
    """A fit that begins with this kernel and noise."""
    tree = X if isinstance(X, cx.CoverTree) else cx.cover_tree(X, kernel=kernel, inducing=inducing)
    return Vecchia(tree, k=k, noise=noise, order=order).fit(y, X_mean, **more)


@pytest.mark.parametrize("inducing", [None, 20], ids=["plain", "inducing"])
def test_the_maximum_of_the_dense_likelihood(inducing):
    """With all predecessors: no parameter moved by a little does better in the dense model, nor a search of its own."""
    X, y = data(250, cx.Matern32(0.2, variance=4.0), 0.3)
    fitted = fit(X, y, kernel=cx.Matern32(0.4), inducing=inducing, k=249)

    def dense(kernel, noise):
        C = kernel(X, X) + noise * np.eye(250)
        return -0.5 * (250 * np.log(2 * np.pi) + np.linalg.slogdet(C)[1] + y @ np.linalg.solve(C, y))

    kernel, noise = fitted.kernel, fitted.noise
    best = dense(kernel, noise)
    assert fitted.log_likelihood == pytest.approx(best, rel=1e-8)
    for factor in (0.95, 1.05):
        assert dense(kernel.set_params(variance=factor * kernel.variance), noise) < best
        assert dense(kernel.set_params(lengthscale=factor * kernel.lengthscale), noise) < best
        assert dense(kernel, factor * noise) < best
    # Within a hundredth of a log-likelihood of the very best, by a search of its own.
    from scipy.optimize import minimize

    def minus(theta):
        return -dense(cx.Matern32(*np.exp(theta[:2])), np.exp(theta[2]))

    other = minimize(minus, np.log([0.2, 4.0, 0.3]), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-5})
    assert best > -other.fun - 0.01
    assert set(fitted.changed) == {0}  # all predecessors are all predecessors
    assert fitted.converged
    assert fitted.parameters == {
        "lengthscale": kernel.lengthscale,
        "variance": kernel.variance,
        "noise": noise,
    }


def test_neighbours_follow_the_kernel():
    """Lengthscales that begin the wrong way round have other neighbours; in the end they are those of the estimates."""
    X, y = data(600, cx.Matern32((0.6, 0.1), variance=2.0), 0.05)
    fitted = fit(cx.cover_tree(X, kernel=cx.Matern32((0.1, 0.6)), inducing=15), y, k=8)
    assert fitted.converged
    assert fitted.changed[0] == 0
    assert fitted.changed[1] > 200
    assert fitted.changed[-1] < 60
    assert len(fitted.changed) >= 3
    assert fitted.kernel.lengthscale[0] > 3.0 * fitted.kernel.lengthscale[1]
    anew = cx.cover_tree(X, kernel=fitted.kernel, inducing=15)
    ends = Vecchia(anew, k=8, noise=fitted.noise)
    assert len(np.flatnonzero(np.any(np.sort(ends.neighbors) != np.sort(fitted.model.neighbors), axis=1))) < 10
    assert ends.log_likelihood(y) == pytest.approx(fitted.log_likelihood, abs=0.05)


def test_a_linear_mean_and_predictions():
    X, y = data(300, cx.Matern32(0.2), 0.1, seed=3)
    A = np.column_stack([np.ones(300), X[:, 0]])
    fitted = fit(X, y + A @ [20.0, -7.0], kernel=cx.Matern32(0.3), k=15, X_mean=A)
    np.testing.assert_allclose(fitted.coefficients, [20.0, -7.0], atol=2.5)
    new = np.random.default_rng(5).uniform(size=(30, 2))
    A_new = np.column_stack([np.ones(30), new[:, 0]])
    found = fitted.predict(new, 15, X_mean_new=A_new, observed=True)
    expected = fitted.model.predict(new, fitted.y, 15, X_mean=A, X_mean_new=A_new, observed=True)
    np.testing.assert_array_equal(found, expected)
    assert fitted.log_likelihood == fitted.model.log_likelihood(fitted.y, A)


def test_noise_that_is_not_fitted_stays():
    X, y = data(200, cx.Matern32(0.3), 0.2, seed=6)
    fitted = fit(X, y, kernel=cx.Matern32(0.2), k=10, noise=0.25, fit_noise=False)
    assert fitted.noise == 0.25
    silent = fit(X, y, kernel=cx.Matern12(0.2), k=10, fit_noise=False)
    assert silent.noise == 0.0


def test_noise_of_each_observation_stays():
    X, y = data(200, cx.Matern32(0.3), 0.2, seed=6)
    noise = np.random.default_rng(0).uniform(0.1, 0.3, size=200)
    fitted = fit(X, y, kernel=cx.Matern32(0.2), k=10, noise=noise, fit_noise=False)
    np.testing.assert_array_equal(fitted.model.noise, noise)
    assert fitted.converged
    for factor in (0.95, 1.05):
        tree = cx.cover_tree(X, kernel=fitted.kernel.set_params(lengthscale=factor * fitted.kernel.lengthscale))
        worse = Vecchia(tree, neighbors=fitted.model.neighbors, noise=noise)
        assert worse.log_likelihood(y) < fitted.log_likelihood


def test_neighbours_of_anyone_stay():
    X, y = data(200, cx.Matern32((0.6, 0.1)), 0.1)
    near = cx.cover_tree(X).knn(8, predecessor_mode=True)
    fitted = Vecchia(cx.cover_tree(X, kernel=cx.Matern32((0.3, 0.3))), neighbors=near, noise=0.1).fit(y)
    np.testing.assert_array_equal(fitted.model.neighbors, near)
    assert fitted.converged
    assert set(fitted.changed) == {0}
    assert fitted.kernel.lengthscale[0] > 2.0 * fitted.kernel.lengthscale[1]


def test_neighbours_of_observations_follow_the_noise():
    """Where the tree knows of noise, each search is under the estimate at hand, in these units of the variance."""
    X, y = data(300, cx.Matern32(0.5, variance=2.0), 0.4, seed=7)
    tree = cx.cover_tree(X, kernel=cx.Matern32(0.3), inducing=10, noise=0.01)
    fitted = fit(tree, y, k=6)
    heard = cx.cover_tree(X, kernel=fitted.kernel, inducing=10, noise=fitted.noise).knn(6, predecessor_mode=True)
    deaf = cx.cover_tree(X, kernel=fitted.kernel, inducing=10, noise=0.01).knn(6, predecessor_mode=True)

    def others(neighbors):
        return np.sum(np.any(np.sort(neighbors) != np.sort(fitted.model.neighbors), axis=1))

    assert others(heard) < 10 < others(deaf)


def test_a_poor_start_does_not_end_in_a_kernel_of_no_reach():
    """The noise begins at a fortieth of what it is: L-BFGS alone leaps to a lengthscale of 5e-5, all noise."""
    X, y = data(300, cx.Matern32(0.5, variance=2.0), 0.4, seed=7)
    poor, good = (
        fit(X, y, kernel=cx.Matern32(lengthscale, variance), inducing=10, k=6, noise=noise)
        for lengthscale, variance, noise in ((0.3, 1.0, 0.01), (0.5, 2.0, 0.4))
    )
    assert poor.log_likelihood == pytest.approx(good.log_likelihood, abs=0.05)
    assert poor.kernel.lengthscale == pytest.approx(good.kernel.lengthscale, rel=0.05)


def test_some_parameters_and_an_order():
    X, y = data(200, cx.RBF(0.3), 0.1, seed=8)
    order = cx.ordering.maximin(X)
    fitted = fit(X, y, kernel=cx.RBF(0.31), k=10, free=["variance"], order=order, searches=3)
    assert fitted.kernel.lengthscale == 0.31
    assert fitted.kernel.variance != 1.0
    np.testing.assert_array_equal(fitted.model.order, order)
    assert set(fitted.parameters) == {"variance", "noise"}


def test_a_range_that_ends():
    """Data smoother than any powered exponential with so much noise: the power goes to 2, and no further."""
    X, y = data(200, cx.RBF(0.3), 0.01, seed=8)
    start = {"kernel": cx.PoweredExponential(0.4, power=1.8), "k": 20, "free": ["lengthscale", "power"]}
    fitted = fit(X, y, noise=0.02, fit_noise=False, **start)
    assert fitted.kernel.power == 2.0
    assert fitted.converged
    assert fitted.model.log_likelihood(y, grad=True, free=["power"])[1]["power"] > 0.0


def test_where_the_leash_ends_is_no_maximum():
    """The noise has far to go, and the neighbours stay what they are."""
    X, y = data(100, cx.RBF(0.3), 0.01, seed=8)
    far, near = (
        fit(X, y, kernel=cx.PoweredExponential(0.4, power=1.8), k=99, free=["lengthscale", "power"], noise=noise)
        for noise in (1.0, 0.01)
    )
    assert far.converged
    assert far.log_likelihood == pytest.approx(near.log_likelihood, abs=0.02)
    assert far.noise == pytest.approx(near.noise, rel=0.05)


def test_curvature_holds_behind_a_search():
    """Six parameters, far from where they begin, in fewer evaluations than two and a half times their square."""
    truth = cx.Matern52(lengthscale=(0.3, 0.6, 1.0, 2.0))
    X = np.random.default_rng(0).uniform(size=(800, 4))
    y = Vecchia(cx.cover_tree(X, kernel=truth), k=30, noise=0.1).sample(0)[0]
    fitted = fit(X, y, kernel=cx.Matern52(lengthscale=(1.0, 1.0, 1.0, 1.0)), inducing=40, k=15, noise=0.3)
    assert fitted.converged
    assert fitted.evaluations < 90


def test_what_is_free():
    one, two = cx.RBF(0.3), cx.Matern12((0.1, 0.2))
    assert free_parameters(one) == ["lengthscale", "variance"]
    assert free_parameters(one + two) == [f"k{i}__{name}" for i in (1, 2) for name in ("lengthscale", "variance")]
    assert free_parameters(one * (one + two)) == [
        "k1__lengthscale", "k1__variance", "k2__k1__lengthscale", "k2__k2__lengthscale", "k2__k2__variance",
    ]  # fmt: skip
    assert free_parameters(2.0 * (one + two)) == [
        "kernel__k1__lengthscale", "kernel__k2__lengthscale", "kernel__k2__variance", "variance",
    ]  # fmt: skip
    assert free_parameters(cx.RBF(np.eye(2))) == ["variance"]
    assert free_parameters(cx.Gneiting()) == ["lengthscale_space", "lengthscale_time", "variance"]


LINE = [[0.0], [1.0], [2.0], [4.0]]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"kernel": cx.RBF(), "searches": 0}, "searches must be an integer"),
        ({"kernel": cx.RBF(), "free": ["colour"]}, "free names 'colour', but the kernel has lengthscale"),
        ({"kernel": cx.RBF(), "free": ["active_dims"]}, "only positive numbers are fit"),
        ({"kernel": cx.RBF(), "free": [], "fit_noise": False}, "nothing is free"),
        ({"kernel": cx.RBF(), "noise": [1.0] * 4}, "a fit finds one for all"),
        ({"kernel": cx.RBF(), "fit_noise": 1}, "fit_noise must be"),
        ({"kernel": cx.RBF(), "X_mean": np.ones((3, 1))}, "X_mean must have one row per point"),
    ],
)
def test_messages(more, said):
    with pytest.raises(cx.InvalidInputError, match=said):
        fit(LINE, [1.0, 2.0, 0.0, 1.0], k=2, **more)


def test_messages_about_trees():
    y = [1.0, 2.0, 0.0, 1.0]
    with pytest.raises(cx.InvalidInputError, match="was given factors"):
        fit(cx.cover_tree(LINE, kernel=cx.RBF(), v_matrix=np.full((4, 1), 0.1)), y, k=2)
    with pytest.raises(cx.InvalidInputError, match="has a noise of its own"):
        fit(cx.cover_tree(LINE, kernel=cx.RBF(), noise=[0.1, 0.2, 0.1, 0.2]), y, k=2)

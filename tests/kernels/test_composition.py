"""Sums, products and multiples; parameters by name, as scikit-learn sets them."""

import dataclasses

import numpy as np
import pytest
from every import COMPOSED, EVERY, words
from hypothesis import given, settings
from hypothesis import strategies as st

import covertreex as cx
from covertreex.data.canonical import covariance_matrix
from covertreex.errors import InvalidInputError
from covertreex.kernels.kernel import Scaled

sklearn = pytest.importorskip("sklearn")

SIMPLE = [k for k in EVERY if type(k) not in (cx.Isotropic,)]
simple = st.sampled_from(range(len(SIMPLE))).map(lambda i: SIMPLE[i])
X = np.random.default_rng(3).uniform(size=(12, 3))


@settings(max_examples=30)
@given(simple, simple, simple)
def test_algebra(a, b, c):
    K = [k(X, X) for k in (a, b, c)]
    for kernel, expected in (
        (a + b, K[0] + K[1]),
        (a * b, K[0] * K[1]),
        (a * (b + c), K[0] * (K[1] + K[2])),
        (a * b + c, K[0] * K[1] + K[2]),
        (3.0 * (a + b), 3.0 * (K[0] + K[1])),
        (a * 2.0, 2.0 * K[0]),
        ((2.0 * (a + b)) * c, 2.0 * (K[0] + K[1]) * K[2]),
    ):
        np.testing.assert_allclose(kernel(X, X), expected, rtol=1e-12, atol=1e-13)
        scaled = kernel.scale(X)
        found = covariance_matrix(kernel, scaled, scaled)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * kernel.variance)
        assert np.all(np.diagonal(found) == kernel.variance)
        assert kernel.variance == pytest.approx(expected[0, 0], rel=1e-14)


def test_sums_and_products_are_flat():
    a, b, c = cx.RBF(), cx.Matern12(), cx.Matern32()
    assert ((a + b) + c).parts == (a + (b + c)).parts == (a, b, c)
    assert ((a * b) * c).parts == (a * (b * c)).parts == (a, b, c)
    assert (2.0 * (3.0 * (a + b))).kernel == a + b


def test_columns_of_their_own():
    kernel = cx.RBF(0.5, active_dims=[0, 1]) * cx.Matern12(0.1, active_dims=[2])
    np.testing.assert_allclose(kernel(X, X), cx.RBF(0.5)(X[:, :2], X[:, :2]) * cx.Matern12(0.1)(X[:, 2:], X[:, 2:]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: 0.0 * cx.RBF(), "a factor of a kernel must be positive"),
        (lambda: -1.0 * (cx.RBF() + cx.RBF()), "a factor of a kernel must be positive"),
        (lambda: cx.Sum((cx.RBF(),)), "a sum has at least two kernels"),
        (lambda: cx.Product((cx.RBF(), 3)), "a product is of kernels, got 3"),
        (lambda: cx.cover_tree(X, kernel=sum(map(cx.RBF, range(2, 40)), cx.RBF())), "at most 64 kernels over 16"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_no_other_operands():
    for other in ("a", True, None):
        with pytest.raises(TypeError):
            cx.RBF() * other
    with pytest.raises(TypeError):
        cx.RBF() + 1.0


@pytest.mark.parametrize("kernel", [*EVERY, *COMPOSED], ids=words)
def test_parameters_by_name(kernel):
    own = kernel.get_params(deep=False)
    assert list(own) == [field.name for field in dataclasses.fields(kernel)]
    assert type(kernel)(**own) == kernel
    assert kernel.set_params(**own) == kernel
    assert kernel.set_params(**kernel.get_params()) == kernel
    assert kernel.set_params() is kernel
    with pytest.raises(InvalidInputError, match=r"has no parameter 'width'; it has "):
        kernel.set_params(width=3.0)
    for name in [name for name in kernel.get_params() if name.endswith("variance") and name != "variance"]:
        changed = kernel.set_params(**{name: 7.0})
        assert changed.get_params()[name] == 7.0
        assert kernel.get_params()[name] != 7.0


def test_parameters_of_parts():
    kernel = cx.RBF(0.5) + 2.0 * (cx.Matern(nu=0.7) * cx.Cauchy())
    changed = kernel.set_params(k1__lengthscale=0.1, k2__kernel__k1__nu=1.1)
    assert changed == cx.RBF(0.1) + 2.0 * (cx.Matern(nu=1.1) * cx.Cauchy())
    assert kernel.set_params(k1=cx.Matern12()).parts[0] == cx.Matern12()
    assert kernel.set_params(k1=cx.Matern12(), k1__variance=3.0).parts[0] == cx.Matern12(variance=3.0)
    assert isinstance(kernel.parts[1], Scaled)
    with pytest.raises(InvalidInputError, match="k3__variance"):
        kernel.set_params(k3__variance=1.0)
    with pytest.raises(InvalidInputError, match="nu must be from"):
        kernel.set_params(k2__kernel__k1__nu=-1.0)


@pytest.mark.parametrize("kernel", [*EVERY, *COMPOSED], ids=words)
def test_scikit_learn_clones(kernel):
    from sklearn.base import clone

    from covertreex.sklearn import CoverTreeNeighbors

    assert clone(kernel) is kernel
    assert clone(CoverTreeNeighbors(kernel=kernel)).kernel is kernel


def test_a_grid_over_the_kernel():
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline

    from covertreex.sklearn import CoverTreeNeighbors

    rng = np.random.default_rng(0)
    points = rng.uniform(size=(80, 2))
    kernel = cx.RBF((1.0, 1.0)) + cx.Matern12()
    model = make_pipeline(CoverTreeNeighbors(3, kernel=kernel), KNeighborsRegressor(3, metric="precomputed"))
    grid = GridSearchCV(model, {"covertreeneighbors__kernel__k1__lengthscale": [(0.1, 9.0), (9.0, 0.1)]}, cv=3)
    grid.fit(points, np.sin(9.0 * points[:, 0]))
    scores = grid.cv_results_["mean_test_score"]
    assert scores[0] != scores[1]
    assert grid.best_estimator_[0].kernel.parts[0].lengthscale == grid.best_params_.popitem()[1]
    assert model[0].kernel is kernel
    with pytest.raises(InvalidInputError, match="needs a kernel"):
        CoverTreeNeighbors().set_params(kernel__lengthscale=1.0)


def test_numpy_numbers_set_parameters():
    assert cx.RBF().set_params(lengthscale=np.float64(0.3)) == cx.RBF(0.3)
    assert cx.RBF().set_params(lengthscale=np.array([0.3, 0.4])) == cx.RBF((0.3, 0.4))

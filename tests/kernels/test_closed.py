"""Covariance functions against their textbook formulas, one pair of points at a time."""

import dataclasses
import math

import numpy as np
import pytest

import covertreex as cx
from covertreex.errors import InvalidInputError
from covertreex.kernels import CLOSED, Stationary
from covertreex.oracle import kernel_values, squared_distances

TEXTBOOK = {
    cx.RBF: lambda r, alpha: math.exp(-0.5 * r * r),
    cx.Matern12: lambda r, alpha: math.exp(-r),
    cx.Matern32: lambda r, alpha: (1 + math.sqrt(3) * r) * math.exp(-math.sqrt(3) * r),
    cx.Matern52: lambda r, alpha: (1 + math.sqrt(5) * r + 5 * r * r / 3) * math.exp(-math.sqrt(5) * r),
    cx.RationalQuadratic: lambda r, alpha: (1 + r * r / (2 * alpha)) ** -alpha,
}


def textbook(kernel, A, B):
    """The covariance matrix, entry by entry."""
    lengthscale = np.broadcast_to(kernel.lengthscale, A.shape[1])
    formula, alpha = TEXTBOOK[type(kernel)], getattr(kernel, "alpha", None)
    return np.array(
        [[kernel.variance * formula(math.dist(a / lengthscale, b / lengthscale), alpha) for b in B] for a in A]
    )


def test_ard_formula(ard_kernel, rng):
    A, B = rng.normal(size=(20, 5)), rng.normal(size=(30, 5))
    np.testing.assert_allclose(ard_kernel(A, B), textbook(ard_kernel, A, B), rtol=1e-13)


@pytest.mark.parametrize("cls", TEXTBOOK)
@pytest.mark.parametrize("lengthscale", [0.01, 1, 30.0])
def test_isotropic_formula(cls, lengthscale, rng):
    kernel, A = cls(lengthscale=lengthscale), rng.normal(size=(25, 3))
    np.testing.assert_allclose(kernel(A, A), textbook(kernel, A, A), rtol=1e-12, atol=1e-300)


def test_one_lengthscale_is_the_same_for_every_axis(ard_kernel, rng):
    A = rng.normal(size=(10, 5))
    one = dataclasses.replace(ard_kernel, lengthscale=0.7)
    five = dataclasses.replace(ard_kernel, lengthscale=[0.7] * 5)
    np.testing.assert_array_equal(one(A, A), five(A, A))


def test_canonical_values_agree(ard_kernel, rng):
    A = rng.normal(size=(40, 5))
    scaled = ard_kernel.scale(A)
    found = kernel_values(
        ard_kernel.code, ard_kernel.variance, getattr(ard_kernel, "alpha", 1.0),
        squared_distances(scaled[:, None], scaled[None]),
    )  # fmt: skip
    np.testing.assert_allclose(found, ard_kernel(A, A), rtol=1e-13)


def test_value_at_distance_zero_is_the_variance(ard_kernel):
    x = np.array([[3.0, -1.0, 0.1, 1e3, 7.0]])
    assert ard_kernel(x, x).tolist() == [[ard_kernel.variance]]


def test_covariance_is_positive_semi_definite(ard_kernel, rng):
    A = rng.normal(size=(60, 5))
    K = ard_kernel(A, A)
    np.testing.assert_array_equal(K, K.T)
    assert np.linalg.eigvalsh(K)[0] > -1e-12


def test_rational_quadratic_tends_to_rbf(rng):
    A = rng.normal(size=(20, 2))
    np.testing.assert_allclose(cx.RationalQuadratic(alpha=1e7)(A, A), cx.RBF()(A, A), rtol=1e-4)


def test_kernels_are_frozen_and_compare_by_value(ard_kernel):
    with pytest.raises(dataclasses.FrozenInstanceError):
        ard_kernel.variance = 3.0
    assert dataclasses.replace(ard_kernel) == ard_kernel
    assert hash(dataclasses.replace(ard_kernel)) == hash(ard_kernel)


def test_parameters_become_plain_floats():
    kernel = cx.RationalQuadratic(np.array([1, 2]), np.float32(0.5), 2)
    assert kernel.lengthscale == (1.0, 2.0)
    assert {type(v) for v in (*kernel.lengthscale, kernel.variance, kernel.alpha)} == {float}


def test_codes_and_names():
    assert list(CLOSED) == ["rbf", "matern12", "matern32", "matern52", "rationalquadratic"]
    assert [cls.code for cls in CLOSED.values()] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cx.RBF(0.0), r"lengthscale must be positive and finite \(between 1e-100 and 1e\+100\), got 0\.0"),
        (lambda: cx.RBF(-1.0), "lengthscale must be positive"),
        (lambda: cx.RBF(float("nan")), "lengthscale must be positive and finite.*got nan"),
        (lambda: cx.RBF(float("inf")), "lengthscale must be positive and finite.*got inf"),
        (lambda: cx.RBF(1e-101), "Rescale the data"),
        (lambda: cx.RBF("wide"), "lengthscale must be a number, got 'wide'"),
        (lambda: cx.RBF("1.0"), "lengthscale must be a number, got '1.0'"),
        (lambda: cx.RBF(variance=True), "variance must be a number, got True"),
        (lambda: cx.RBF(None), "lengthscale must be a number, got None"),
        (lambda: cx.RBF([1.0, -2.0]), r"lengthscale\[1\] must be positive and finite.*got -2\.0"),
        (lambda: cx.RBF([]), r"a sequence of one per axis, got shape \(0,\)"),
        (lambda: cx.RBF([[1.0, 2.0]]), r"a sequence of one per axis, got shape \(1, 2\)"),
        (lambda: cx.Matern12(1.0, variance=0.0), "variance must be positive"),
        (lambda: cx.Matern52(1.0, variance="x"), "variance must be a number, got 'x'"),
        (lambda: cx.RationalQuadratic(alpha=-1.0), r"alpha must be positive and finite.*got -1\.0"),
        (lambda: cx.RBF((1.0, 2.0)).scale(np.zeros((4, 3))), "2 lengthscales, but the data has 3 columns"),
        (lambda: Stationary(), "Stationary is abstract; use RBF"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()

"""A1 to A6 of docs/mathematics.md: C and NumPy agree to the bit, and both with extended precision."""

import decimal
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import cholesky, solve_triangular

import covertreex as cx
from covertreex import oracle
from covertreex._core import canonical, factors

EXTENDED = decimal.Context(prec=45)


def same_bits(a, b):
    """Whether two float64 arrays are equal to the bit, the sign of zero included."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return a.shape == b.shape and a.dtype == b.dtype == np.float64 and a.tobytes() == b.tobytes()


def worst_error_in_ulps(values, results, exact):
    """Largest distance of `results` from ``exact(Decimal, context)``, in units in the last place."""
    worst = 0.0
    for value, result in zip(values.tolist(), results.tolist(), strict=True):
        truth = exact(decimal.Decimal(value), EXTENDED)
        error = abs(EXTENDED.subtract(decimal.Decimal(result), truth))
        worst = max(worst, float(error) / math.ulp(float(truth)))
    return worst


# ---------------------------------------------------------------------------------------------------------------------
# A2, A3: exp and log

EXP_EDGES = np.array([-0.0, 0.0, -5e-324, -1e-300, -1e-17, -math.log(2) / 2, -math.log(2), -1.0, -707.9999999, -708.0,
                      np.nextafter(-708.0, -np.inf), -745.2, -1e5, -1e308, -np.inf])  # fmt: skip
LOG_EDGES = np.array([1.0, np.nextafter(1.0, 2.0), 1.5, math.sqrt(2.0), np.nextafter(math.sqrt(2.0), 2.0), 2.0, 3.0,
                      np.nextafter(4.0, 0.0), 4.0, 2.0**52 + 1.0, 1e100, 2.0**1023, np.finfo(float).max])  # fmt: skip


def exp_arguments(rng):
    scales = 10.0 ** rng.uniform(-20, math.log10(708), 4000)
    return np.concatenate([EXP_EDGES, -scales, rng.uniform(-708, 0, 4000), -0.5 * math.log(2) * np.arange(1, 2000)])


def log_arguments(rng):
    near_one = 1.0 + 10.0 ** rng.uniform(-16, 0, 3000)
    return np.concatenate([LOG_EDGES, near_one, rng.uniform(1, 4, 3000), 10.0 ** rng.uniform(0, 308, 3000)])


def test_exp_bits(rng):
    x = exp_arguments(rng)
    assert same_bits(canonical.exp_neg(x), oracle.exp_neg(x))


def test_log_bits(rng):
    x = log_arguments(rng)
    assert same_bits(canonical.log(x), oracle.log(x))


@given(st.lists(st.floats(max_value=0.0, allow_nan=False), min_size=1))
def test_exp_bits_anywhere(values):
    x = np.array(values)
    assert same_bits(canonical.exp_neg(x), oracle.exp_neg(x))


@given(st.lists(st.floats(min_value=1.0, allow_nan=False, allow_infinity=False), min_size=1))
def test_log_bits_anywhere(values):
    x = np.array(values)
    assert same_bits(canonical.log(x), oracle.log(x))


def test_exp_error(rng):
    x = exp_arguments(rng)
    x = x[x >= -708.0]
    assert worst_error_in_ulps(x, canonical.exp_neg(x), lambda v, context: context.exp(v)) < 1.3  # measured: 1.22


def test_log_error(rng):
    x = log_arguments(rng)
    x = x[x > 1.0]
    assert worst_error_in_ulps(x, canonical.log(x), lambda v, context: context.ln(v)) < 2.0  # measured: 1.88, near 1


def test_exp_at_its_ends():
    assert canonical.exp_neg(np.array([0.0, -0.0])).tolist() == [1.0, 1.0]
    assert canonical.exp_neg(np.array([-708.0]))[0] > 0.0
    assert canonical.exp_neg(np.array([np.nextafter(-708.0, -np.inf), -1e308, -np.inf])).tolist() == [0.0, 0.0, 0.0]


def test_log_of_one_is_zero():
    assert canonical.log(np.array([1.0])).tolist() == [0.0]


# ---------------------------------------------------------------------------------------------------------------------
# A1: the dot product


@pytest.mark.parametrize("m", [16, 32, 208, 512])
def test_dot_is_sixteen_lanes(m, rng):
    a, b = rng.normal(size=(2, m)) * 10.0 ** rng.uniform(-8, 8, size=(2, m))
    lanes = [0.0] * 16
    for i in range(m):
        lanes[i % 16] += float(a[i]) * float(b[i])
    lanes = [lanes[i] + lanes[i + 8] for i in range(8)]
    lanes = [lanes[i] + lanes[i + 4] for i in range(4)]
    assert float(oracle.dot16(a, b)) == (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])


@pytest.mark.parametrize("m", [1, 15, 16, 17, 40, 130])
def test_dot_bits_in_distances(m, rng):
    """Random short factors of points that the kernel holds for uncorrelated, so that distances are those of dots."""
    n = 60
    V = rng.normal(size=(n, m))
    V /= 10.0 * np.sqrt(np.einsum("ij,ij->i", V, V))[:, None]
    metric = cx.ResidualCorrelation(cx.RBF(lengthscale=1e-3), v_matrix=V, p_diag=np.ones(n))
    payload, _ = metric.prepare(rng.normal(size=(n, 2)))
    assert_distance_bits(payload)


# ---------------------------------------------------------------------------------------------------------------------
# A4, A5: kernels and distances


def assert_distance_bits(payload):
    a, b = (axis.ravel() for axis in np.indices((len(payload), len(payload))))
    found = canonical.distances(payload, a, b)
    assert same_bits(found, oracle.canonical_distances(payload, a, b))
    square = found.reshape(len(payload), len(payload))
    assert same_bits(square, square.T)
    assert not square.diagonal().any()
    assert not np.isnan(square).any()
    return square


@pytest.mark.parametrize("inducing", [None, 1, 37])
def test_distance_bits(every_kernel, inducing, rng):
    metric = cx.Correlation(every_kernel) if inducing is None else cx.ResidualCorrelation(every_kernel, inducing)
    payload, _ = metric.prepare(rng.normal(size=(120, 5)))
    assert np.ptp(assert_distance_bits(payload)) > 0.5


@pytest.mark.parametrize("d", [1, 2, 3, 5, 8, 33])
def test_euclidean_bits(d, rng):
    X = rng.normal(size=(80, d)) * 10.0 ** rng.uniform(-5, 5, size=(80, 1))
    assert_distance_bits(cx.Euclidean().prepare(X)[0])


@pytest.mark.parametrize("scale", [1e-100, 1e-5, 1e3, 1e100])
def test_euclidean_bits_at_any_scale(scale, rng):
    D = assert_distance_bits(cx.Euclidean().prepare(scale * rng.normal(size=(50, 3)))[0])
    assert np.isfinite(D).all()
    assert (D[~np.eye(50, dtype=bool)] > 0.0).all()


@pytest.mark.parametrize("spread", [1e-8, 1.0, 1e3, 1e12])
def test_kernel_bits_near_and_far(every_kernel, spread, rng):
    assert_distance_bits(cx.Correlation(every_kernel).prepare(spread * rng.normal(size=(60, 5)))[0])


def test_exact_duplicates_above_the_floor_are_at_zero(every_kernel, rng):
    X = np.repeat(rng.normal(size=(30, 5)), 2, axis=0)
    payload, _ = cx.ResidualCorrelation(every_kernel, inducing=rng.normal(size=(12, 5))).prepare(X)
    assert payload.floored == 0
    first = payload.row[np.arange(0, 60, 2)]
    second = payload.row[np.arange(1, 60, 2)]
    assert not canonical.distances(payload, first, second).any()


# ---------------------------------------------------------------------------------------------------------------------
# A6: factors


def covariance(kernel, A, B):
    return oracle.covariances(kernel, kernel.scale(A)[:, None], kernel.scale(B)[None])


@pytest.mark.parametrize("m", [1, 15, 16, 33])
def test_factor_bits(every_kernel, m, rng):
    X, Z = rng.normal(size=(101, 5)), rng.normal(size=(m, 5))
    payload, projection = cx.ResidualCorrelation(every_kernel, inducing=Z, jitter=1e-5).prepare(X)

    kernel = every_kernel.unitless()
    jitter = 1e-5 / every_kernel.variance
    L = oracle.canonical_cholesky(covariance(kernel, Z, Z) + jitter * np.eye(m))
    V = oracle.canonical_solve(L, covariance(kernel, X, Z))
    assert same_bits(projection.cholesky, L)
    assert same_bits(payload.factors, V[payload.index])
    assert same_bits(payload.p, (1.0 - oracle.dot16(V, V))[payload.index])


def test_factors_agree_with_scipy(every_kernel, rng):
    X = rng.normal(size=(200, 5))
    payload, projection = cx.ResidualCorrelation(every_kernel, inducing=np.arange(40)).prepare(X)

    kernel = every_kernel.unitless()
    L = cholesky(kernel(X[:40], X[:40]) + 1e-6 * np.eye(40), lower=True)
    V = solve_triangular(L, kernel(X[:40], X), lower=True).T
    np.testing.assert_allclose(projection.cholesky[:, :40], L, rtol=0, atol=1e-10)
    np.testing.assert_allclose(payload.factors[payload.row][:, :40], V, rtol=0, atol=1e-9)
    assert not payload.factors[:, 40:].any()


@pytest.mark.parametrize("block", [1, 7, 1024])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_factors_do_not_depend_on_threads_or_blocks(n_threads, block, monkeypatch, rng):
    X = rng.normal(size=(150, 3))
    metric = cx.ResidualCorrelation(cx.Matern32(), inducing=40)
    expected, _ = metric.prepare(X, n_threads=1)
    monkeypatch.setattr("covertreex.base.tuning.FACTOR_BLOCK", block)
    payload, _ = metric.prepare(X, n_threads)
    assert same_bits(payload.factors, expected.factors)
    assert same_bits(payload.p, expected.p)


def test_projection_of_rows_has_their_bits(every_kernel, rng):
    X = rng.normal(size=(50, 5))
    for metric in (cx.Euclidean(), cx.Correlation(every_kernel), cx.ResidualCorrelation(every_kernel, inducing=20)):
        payload, projection = metric.prepare(X)
        coords, V, p = projection(X, 2)
        assert same_bits(coords[payload.index], payload.coords)
        assert same_bits(V[payload.index], payload.factors)
        assert p.size == payload.p.size
        assert same_bits(p[payload.index] if p.size else p, payload.p)


def test_cholesky_reports_the_failing_pivot():
    K = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    assert factors.cholesky(K, np.zeros((3, 16))) == 2
    assert np.isnan(oracle.canonical_cholesky(K)).any()

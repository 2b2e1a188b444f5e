"""Every kernel against its textbook formula, by many digits; positive definiteness; what is refused; what is equal."""

import pickle

import mpmath as mp
import numpy as np
import pytest
from every import COMPOSED, EVERY, OF_DISTANCE, OF_POINTS, classes, textbook, whittle, words
from scipy import integrate

import covertreex as cx
from covertreex.data.canonical import covariance_matrix, covariances
from covertreex.errors import InvalidInputError
from covertreex.kernels import named_kernels

BY_DISTANCE = [kernel for kernel in EVERY if type(kernel) in OF_DISTANCE]


def test_each_class_has_a_formula_here():
    """A class that is new needs one in every.py; all else finds it by itself."""
    assert set(classes()) == {*OF_DISTANCE, *OF_POINTS, cx.Gneiting}
    assert set(named_kernels().values()) == set(classes()) - {cx.Isotropic, cx.Gneiting}


@pytest.mark.parametrize("kernel", EVERY, ids=words)
def test_calls_are_the_formula(kernel, rng):
    A, B = rng.uniform(size=(6, 3)), rng.uniform(size=(7, 3))
    B[0] = A[0]
    B[1] = A[1] + 1e-6
    np.testing.assert_allclose(kernel(A, B), textbook(kernel, A, B), rtol=1e-9, atol=1e-11 * kernel.variance)


@pytest.mark.parametrize("kernel", EVERY, ids=words)
def test_canonical_values_are_the_formula(kernel, rng):
    A, B = rng.uniform(size=(6, 3)), rng.uniform(size=(7, 3))
    B[0] = A[0]
    found = covariance_matrix(kernel, kernel.scale(A), kernel.scale(B))
    assert found[0, 0] == kernel.variance
    np.testing.assert_allclose(found, textbook(kernel, A, B), rtol=0, atol=4e-15 * kernel.variance)


@pytest.mark.parametrize("kernel", [*EVERY, *COMPOSED], ids=words)
def test_compiled_values_are_numpys(kernel, rng):
    A, B = (kernel.scale(X) for X in (rng.uniform(size=(20, 3)), rng.uniform(size=(30, 3))))
    found = covariance_matrix(kernel, A, B)
    assert found.tobytes() == covariances(kernel, A[:, None, :], B[None, :, :]).tobytes()


@pytest.mark.parametrize("kernel", [*EVERY, *COMPOSED], ids=words)
def test_values_are_off_by_no_more_than_is_said(kernel, rng):
    A, B = (rng.uniform(size=(30, 3)) for _ in range(2))
    off = np.abs(covariance_matrix(kernel, kernel.scale(A), kernel.scale(B)) - kernel(A, B)).max() / kernel.variance
    # What scaled coordinates are rounded by changes values too, of the roughest most.
    rough = (
        getattr(kernel, "nu", 1.0) < 0.5 or getattr(kernel, "alpha", 1.0) < 0.5 or getattr(kernel, "power", 1.0) < 0.5
    )
    # Nor are SciPy's values for large nu exact.
    assert off <= kernel.value_error + (1e-12 if rough or getattr(kernel, "nu", 1.0) > 30.0 else 2e-14)


@pytest.mark.parametrize("kernel", [k for k in BY_DISTANCE if not isinstance(k, cx.Isotropic)], ids=words)
def test_tables_are_the_formula_to_the_last_digits(kernel):
    rng = np.random.default_rng(5)
    t = np.concatenate([2.0 ** rng.uniform(-14, 8, 60), 2.0 ** rng.uniform(-80, 20, 30)])
    with mp.workdps(40):
        true = np.array([float(OF_DISTANCE[type(kernel)](kernel, mp.sqrt(mp.mpf(x)))) for x in t])
    assert np.max(np.abs(kernel.table(t) - true)) <= 2e-15
    assert kernel.table.error <= 2e-15


@pytest.mark.parametrize("nu", [0.01, 0.05, 0.3, 0.501, 0.8, 0.81, 1.0, 1.1, 2.0, 3.3, 10.0, 23.0, 100.0])
def test_matern_of_any_smoothness(nu):
    """In 40 digits, as DLMF 10.25 has it."""
    rng = np.random.default_rng(6)
    t = np.concatenate([2.0 ** rng.uniform(-12, 9, 40), 2.0 ** rng.uniform(-300, 12, 16)])
    kernel = cx.Matern(nu=nu)
    with mp.workdps(50):
        true = np.array([float(OF_DISTANCE[cx.Matern](kernel, mp.sqrt(mp.mpf(x)))) for x in t])
    found = kernel.tabulated(t)
    assert np.max(np.abs(found - true)) <= 5e-16
    assert np.max(np.abs(found - true)[true > 1e-290] / true[true > 1e-290]) < 2e-13
    np.testing.assert_allclose(kernel.correlation(t), true, rtol=1e-8, atol=1e-13)


def test_matern_tends_to_rbf():
    r2 = np.linspace(0.0, 9.0, 50)
    np.testing.assert_allclose(cx.Matern(nu=1000.0).correlation(r2), cx.RBF().correlation(r2), atol=1e-3)
    np.testing.assert_allclose(
        cx.Matern(nu=1000.0).tabulated(r2[1:]), cx.Matern(nu=1000.0).correlation(r2[1:]), atol=1e-11
    )


@pytest.mark.parametrize(
    ("kernel", "same"),
    [
        (cx.Matern(0.3, 1.7, nu=0.5), cx.Matern12(0.3, 1.7)),
        (cx.Matern(0.3, 1.7, nu=1.5), cx.Matern32(0.3, 1.7)),
        (cx.Matern(0.3, 1.7, nu=2.5), cx.Matern52(0.3, 1.7)),
        (cx.PoweredExponential(0.3, 1.7, power=1.0), cx.Matern12(0.3, 1.7)),
    ],
)
def test_closed_forms_are_equal_to_the_bit(kernel, same, rng):
    X = rng.uniform(size=(200, 3))
    one, two = (cx.cover_tree(X, kernel=k, inducing=20) for k in (kernel, same))
    assert one.payload.kernel_code == two.payload.kernel_code
    for found, expected in zip(one.knn(5, return_distances=True), two.knn(5, return_distances=True), strict=True):
        assert found.tobytes() == expected.tobytes()
    # In a sum, where tables serve.
    A, B = kernel.scale(X[:20]), kernel.scale(X[20:40])
    sums = [k + cx.RBF(2.0) for k in (kernel, same)]
    assert covariance_matrix(sums[0], *(sums[0].scale(P) for P in (X[:9], X[9:]))).tobytes() == (
        covariance_matrix(sums[1], *(sums[1].scale(P) for P in (X[:9], X[9:]))).tobytes()
    )
    assert covariance_matrix(kernel, A, B).tobytes() == covariance_matrix(same, A, B).tobytes()
    assert kernel.value_error == same.value_error
    assert kernel.beyond(1.3) == same.beyond(1.3)
    assert kernel.modulus(0.1) == same.modulus(0.1)


def test_gneiting_without_interaction_is_a_product(rng):
    X = rng.uniform(size=(20, 3))
    kernel = cx.Gneiting(0.4, 0.3, variance=2.0, nu=1.5, alpha=0.7, beta=0.0, delta=0.6)
    # (1 + u**(2 a))**-delta is Cauchy's with alpha = 2 a and beta / alpha = delta.
    product = 2.0 * cx.Matern32(0.4, active_dims=[0, 1]) * cx.Cauchy(0.3, alpha=1.4, beta=0.84, active_dims=[2])
    np.testing.assert_allclose(kernel(X, X), product(X, X), rtol=1e-12)


def test_compact_support_is_exact(rng):
    for kernel in (cx.Spherical(0.5), *(cx.Wendland(0.5, smoothness=s) for s in range(4))):
        assert kernel([[0.0]], [[0.5], [0.7], [1e100]]).tolist() == [[0.0, 0.0, 0.0]]
        assert kernel.table(np.array([1.0, 1.5, 1e300])).tolist() == [0.0, 0.0, 0.0]
        assert kernel.beyond(1.0) < 2e-15
        assert kernel([[0.0]], [[0.49]])[0, 0] > 0.0


EDGES = [
    *(cx.Matern(0.3, nu=nu) for nu in (0.01, 0.3, 7.0, 1000.0)),
    *(cx.PoweredExponential(0.3, power=p) for p in (0.01, 0.5, 1.9, 2.0)),
    *(cx.Cauchy(0.3, alpha=a, beta=b) for a in (0.1, 2.0) for b in (0.01, 1000.0)),
    *(cx.Wendland(1.5, smoothness=s, dimension=d) for s in range(4) for d in (1, 2, 3, 5)),
    cx.Spherical(1.5),
    *(cx.DampedCosine(0.2, frequency=min(8.0, np.tan(np.pi / (2 * d))), dimension=d) for d in (1, 2, 3, 5)),
    *(cx.Periodic(w, period=0.4) for w in (0.1, 3.0)),
    cx.Cosine(0.3),
    *(
        cx.Gneiting(0.3, 0.2, nu=nu, alpha=a, beta=b, delta=c, dimension=d)
        for nu in (0.3, 0.5, 5.0) for a in (0.05, 1.0) for d in (1, 2, 3)
        for b, c in ((0.0, 0.1), (1.0, 0.0), (1.0, 2.0))
    ),
]  # fmt: skip


@pytest.mark.parametrize("kernel", EDGES, ids=words)
def test_positive_semi_definite_at_the_edges_of_parameters(kernel, rng):
    d = getattr(kernel, "dimension", 1 if isinstance(kernel, cx.Cosine) else 3) + isinstance(kernel, cx.Gneiting)
    # Some on a lattice, where a kernel that is none is found out soonest.
    lattice = np.stack(np.meshgrid(*[np.arange(round(80 ** (1 / d)) + 1.0)] * d), axis=-1).reshape(-1, d)
    for X in (rng.uniform(size=(80, d)), lattice / lattice.max()):
        for K in (kernel(X, X), covariance_matrix(kernel, kernel.scale(X), kernel.scale(X))):
            assert np.abs(K - K.T).max() <= 1e-15
            assert np.linalg.eigvalsh(K)[0] > -1e-10


def test_damped_cosine_is_no_covariance_beyond_its_bound():
    """Its spectrum in the plane at frequency 0, by the integral of C(r) r: (1 - w**2) / (1 + w**2)**2."""
    r = np.linspace(0.0, 60.0, 600_001)
    for frequency, sign in ((0.99, 1.0), (1.01, -1.0)):
        assert np.sign(integrate.trapezoid(np.exp(-r) * np.cos(frequency * r) * r, r)) == sign
    cx.DampedCosine(frequency=1.0, dimension=2)
    with pytest.raises(InvalidInputError, match="up to tan"):
        cx.DampedCosine(frequency=1.01, dimension=2)


X3 = np.zeros((4, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cx.Matern(nu=0.0), r"nu must be from 0\.01 to 1000, got 0\.0"),
        (lambda: cx.Matern(nu=1001), "nu must be from 0.01 to 1000"),
        (lambda: cx.Matern(nu="smooth"), "nu must be a number, got 'smooth'"),
        (lambda: cx.Matern(nu=float("nan")), "nu must be from 0.01 to 1000, got nan"),
        (lambda: cx.PoweredExponential(power=2.1), "power must be from 0.01 to 2"),
        (lambda: cx.Cauchy(alpha=2.5), "alpha must be from 0.1 to 2"),
        (lambda: cx.Cauchy(beta=0.0), "beta must be from 0.01 to 1000"),
        (lambda: cx.Wendland(smoothness=4), "smoothness must be from 0 to 3"),
        (lambda: cx.Wendland(smoothness=1.5), "smoothness must be an integer, got 1.5"),
        (lambda: cx.Wendland(dimension=0), "dimension must be from 1 to 100"),
        (lambda: cx.Wendland(dimension=2)(X3, X3), r"Wendland\(.*\) is a .* in at most 2 dim.*but 3 .*raise dim"),
        (lambda: cx.cover_tree(np.eye(5), kernel=cx.Spherical()), "Spherical is a .* in at most 3 dimensions, but 5"),
        (lambda: cx.cover_tree(np.eye(5), kernel=cx.Spherical() + cx.RBF()), "Spherical is a .* in at most 3 dim"),
        (lambda: cx.DampedCosine(frequency=0.6), r"in 3 .* up to tan\(pi / 6\) = 0\.57735, got 0\.6"),
        (lambda: cx.DampedCosine(dimension=2)(X3, X3), "in at most 2 dimensions, but 3 columns"),
        (lambda: cx.Periodic(period=0.0), "period must be positive"),
        (lambda: cx.Periodic(period=[1.0, -1.0]), r"period\[1\] must be positive"),
        (lambda: cx.Periodic(period=[]), "period must be a number or a sequence"),
        (lambda: cx.Periodic(period=(1.0, 2.0))(X3, X3), "2 periods, but 3 columns"),
        (lambda: cx.Periodic((1.0, 2.0))(X3, X3), "2 lengthscales, but 3 columns"),
        (lambda: cx.Cosine()(X3, X3), "Cosine is a covariance in at most 1 dimension, but 3 .*active_dims"),
        (lambda: cx.Cosine((1.0, 2.0)), "Cosine compares one column"),
        (lambda: cx.Gneiting(alpha=1.5), "alpha must be from 0.05 to 1"),
        (lambda: cx.Gneiting(beta=-0.1), "beta must be from 0 to 1"),
        (lambda: cx.Gneiting(beta=0.0, delta=0.0), "does not depend on time"),
        (lambda: cx.Gneiting(space_dims=[0, 1], time_dims=[1]), "column 1 is in both"),
        (lambda: cx.Gneiting(lengthscale_space=[1.0, 0.0]), r"lengthscale_space\[1\] must be positive"),
        (lambda: cx.Gneiting()(X3[:, :1], X3[:, :1]), "columns of space and of time, but the data has 1 column"),
        (lambda: cx.Gneiting()(np.zeros((2, 4)), np.zeros((2, 4))), "in space is a .* in at most 2 dim.*space_dims"),
        (lambda: cx.Gneiting(time_dims=[7])(X3, X3), "column 7, but the data has 3 columns"),
    ],
)  # fmt: skip
def test_wrong_parameters(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()


@pytest.mark.parametrize("kernel", [*EVERY, *COMPOSED], ids=words)
def test_pickles_answer_the_same(kernel, rng):
    again = pickle.loads(pickle.dumps(kernel))
    X = rng.uniform(size=(10, 3))
    A = kernel.scale(X)
    assert covariance_matrix(again, A, A).tobytes() == covariance_matrix(kernel, A, A).tobytes()
    assert again == kernel
    assert hash(again) == hash(kernel)


@pytest.mark.parametrize("kernel", [*EVERY, *COMPOSED], ids=words)
def test_files_answer_the_same(kernel, rng, tmp_path):
    tree = cx.cover_tree(rng.uniform(size=(60, 3)), kernel=kernel, inducing=7)
    tree.save(tmp_path / "tree")
    again = cx.load(tmp_path / "tree")
    new = rng.uniform(size=(9, 3))
    for found, expected in ((again.knn(4), tree.knn(4)), (again.knn(4, new), tree.knn(4, new))):
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kernel", [*EVERY, *COMPOSED], ids=words)
def test_shows_how_it_is_made(kernel):
    if "Isotropic" not in repr(kernel):
        assert eval(repr(kernel), vars(cx) | vars(cx.kernels)) == kernel


def test_whittle_is_a_matern(rng):
    X = rng.uniform(size=(9, 3))
    np.testing.assert_allclose(cx.Isotropic(whittle, 0.3)(X, X), cx.Matern32(0.3 * np.sqrt(3.0))(X, X), rtol=1e-12)

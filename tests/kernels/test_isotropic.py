"""Any function of distance: tables of it are right, or it is refused by a message that says where and why."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from every import whittle
from scipy import special

import covertreex as cx
from covertreex.errors import InvalidInputError
from covertreex.kernels import Table

R = np.concatenate([np.geomspace(1e-12, 1e3, 3001), [0.5, 1.0, 2.0]])

SMOOTH = {
    "exponential": lambda r: np.exp(-r),
    "gauss": lambda r: np.exp(-r * r),
    "bessel": lambda r: r * special.kv(1.0, r),  # nan far away, and near 0 overflows
    "bessel3": lambda r: r**3 * special.kv(3.0, r) / 8.0,
    "cauchy": lambda r: 1.0 / (1.0 + r * r),
    "long memory": lambda r: (1.0 + r) ** -0.05,
    "rough": lambda r: np.exp(-(r**0.1)),
    "tiny lengthscale": lambda r: np.exp(-r / 1e-5),
    "huge lengthscale": lambda r: np.exp(-r / 1e9),
    "floor": lambda r: 0.3 + 0.7 * np.exp(-r),
    "swings": lambda r: np.exp(-r) * np.cos(2.0 * r),
    "float32": lambda r: np.exp(-r).astype(np.float64),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_tables_are_the_function(name):
    kernel = cx.Isotropic(SMOOTH[name], 0.5, 2.0)
    with np.errstate(all="ignore"):
        true = SMOOTH[name](R)
    true = np.where(np.isfinite(true), true, 0.0)
    assert np.max(np.abs(kernel.table(R * R) - true)) < 2e-12
    assert kernel.table(np.zeros(1)).tolist() == [1.0]
    assert kernel.table.error < 1e-12
    np.testing.assert_allclose(kernel([[0.0]], 0.5 * R[:, None])[0], 2.0 * true, rtol=1e-9, atol=1e-11)


def test_functions_are_called_once_and_never_at_zero():
    calls = []

    def function(r):
        calls.append(np.min(r))
        return np.exp(-r)

    kernel = cx.Isotropic(function)
    made = len(calls)
    assert min(calls) > 0.0
    for other in (cx.Isotropic(function, 2.0), kernel.set_params(lengthscale=3.0), 2.0 * kernel, kernel.unitless()):
        assert other.table is kernel.table
    cx.cover_tree(np.random.default_rng(0).uniform(size=(50, 2)), kernel=kernel).knn(3)
    assert len(calls) == made


def test_warnings_of_functions_are_nobodys():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cx.Isotropic(lambda r: r * special.kv(1.0, r))([[0.0]], [[0.0], [1.0], [1e60]])


@pytest.mark.parametrize("width", [1.0, 0.3, 7.0, 1e-3])
def test_breakpoints(width):
    """A function that ends, wherever it does."""
    kernel = cx.Isotropic(lambda r: np.maximum(1.0 - r / width, 0.0) ** 2, 0.5, breakpoints=width)
    r = np.linspace(0.0, 2.0 * width, 1001)
    true = np.maximum(1.0 - r / width, 0.0) ** 2
    assert np.max(np.abs(kernel([[0.0]], 0.5 * r[:, None])[0] - true)) < 1e-13
    scaled = kernel.scale(0.5 * r[:, None])
    found = cx.oracle.covariances(kernel, scaled[:1, None, :], scaled[None, :, :])[0]
    assert np.max(np.abs(found - true)) < 1e-13


def test_more_breakpoints():
    """On edges of pieces they are served, and elsewhere refused."""

    def steps(r):
        return np.where(r < 1.0, 1.0 - 0.1 * r, np.where(r < 2.0, 0.9 * np.exp(1.0 - r), 0.0))

    assert cx.Isotropic(steps, breakpoints=[2.0, 1.0]).breakpoints == (1.0, 2.0)
    with pytest.raises(
        InvalidInputError, match=r"function is not smooth enough between .*1\.97.* and 2\.00.*cut at 1\.3 exactly"
    ):
        cx.Isotropic(
            lambda r: np.where(r < 1.3, 1.0 - 0.1 * r, np.where(r < 2.0, 0.87 * np.exp(1.3 - r), 0.0)),
            breakpoints=[1.3, 2.0], name="function",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda r: 0.9 * np.exp(-r), r"mine is no correlation: it tends to 0\.9 as .*nugget.*variance="),
        (lambda r: 0.2 * np.exp(-r), r"it tends to 0\.2 as"),
        (lambda r: 2.0 * np.exp(-r), r"mine is 2 at the scaled distance .*from -1 to 1. A variance is "),
        (lambda r: np.maximum(1.0 - r / 3.3, 0.0), r"not smooth .* distances 3\.2.* and 3\.3.*breakpoints="),
        (lambda r: np.where(r < 0.7, np.exp(-r), 0.2 * np.exp(-r)), r"not smooth .*0\.69.* and 0\.70.*jump"),
        (lambda r: np.exp(-r) * np.cos(60.0 * r), "not smooth enough between"),
        (lambda r: np.where(r > 1.0, np.nan, 1.0 - 0.1 * r * r), r"mine is nan at the scaled distance 1\.0.*finite"),
        (lambda r: np.full(r.shape, np.nan), "no correlation|is nan"),
        (lambda r: np.exp(-r)[:5], r"one number for each distance: got shape \(5,\) for"),
        (lambda r: 1.0, r"one number for each distance: got shape \(\) for"),
        (lambda r: np.exp(-r) + 0j, "must take an array of distances and return an array.*complex"),
        (lambda r: 1.0 if r < 1 else 0.0, "must take an array of distances.*ValueError"),
        (lambda r, s: r, "must take an array of distances.*TypeError"),
        (lambda r: np.sin(r) / r, "not smooth enough"),
    ],
)  # fmt: skip
def test_what_no_table_follows_is_refused(function, message):
    with pytest.raises(InvalidInputError, match=message):
        cx.Isotropic(function, name="mine")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cx.Isotropic(3.0), "function must take an array of distances, got 3.0"),
        (lambda: cx.Isotropic(whittle, name=3), "name must be a word"),
        (lambda: cx.Isotropic(whittle, breakpoints=[0.0]), "breakpoints must be positive"),
        (lambda: cx.Isotropic(whittle, lengthscale=-1.0), "lengthscale must be positive"),
        (lambda: cx.Isotropic(whittle, active_dims=[-1]), "active_dims must be"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_unknown_arguments():
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        cx.Isotropic(whittle, width=3.0)


def test_equal_by_what_they_say():
    one, two = cx.Isotropic(lambda r: np.exp(-r), 2.0), cx.Isotropic(lambda r: np.exp(-r), 2.0)
    assert one == two
    assert hash(one) == hash(two)
    assert one != cx.Isotropic(lambda r: np.exp(-r * r), 2.0)
    assert one != cx.Isotropic(lambda r: np.exp(-r), 3.0)
    assert one != cx.Matern12(2.0)
    assert copy.copy(one) is copy.deepcopy(one) is one


def test_pickles_have_the_table():
    kernel = cx.Isotropic(lambda r: np.maximum(1.0 - r / 3.0, 0.0), 2.0, breakpoints=3.0)
    again = pickle.loads(pickle.dumps(kernel))
    assert isinstance(again.function, Table)
    assert again == kernel
    assert (
        repr(again) == repr(kernel) == "Isotropic(function=<lambda>, lengthscale=2.0, variance=1.0, breakpoints=(3.0,))"
    )
    r = np.linspace(0.0, 9.0, 50)[:, None]
    np.testing.assert_allclose(again(r, r), kernel(r, r), atol=1e-14)
    assert pickle.loads(pickle.dumps(again)) == kernel
    assert again.set_params(lengthscale=1.0).table is again.table


def test_a_table_may_be_given():
    table = cx.Isotropic(whittle).table
    assert cx.Isotropic(table) == cx.Isotropic(whittle)


def test_a_callable_without_a_hash():
    class Callable:
        __hash__ = None

        def __call__(self, r):
            return np.exp(-r)

    assert cx.Isotropic(Callable()) == cx.Isotropic(lambda r: np.exp(-r))
    assert "<Callable>" in repr(cx.Isotropic(Callable()))

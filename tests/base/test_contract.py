"""The facts that Python, C, Numba and Rust share: each has the same, and what was built with others is refused."""

import ast
import functools
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from naive import make_payload, make_queries, naive_tree

import covertreex as cx
from covertreex import kernels, protocols
from covertreex.base import contract
from covertreex.base.contract import CONTRACT, EXPRESSION, KERNEL_CODES, NO_KERNEL, difference
from covertreex.data import payload as payloads
from covertreex.data import questions
from covertreex.data.canonical import CanonicalArithmetic, covariance_matrix, covariances, squared_distances
from covertreex.errors import InvalidInputError
from covertreex.protocols import SearchOutput
from covertreex.search import scan_plans as plans
from covertreex.search.screens.cache import sharp
from covertreex.testing.cases import kernels_by_tables

PACKAGE = Path(cx.__file__).parent


# ---------------------------------------------------------------------------------------------------------------------
# One place


def test_names_are_where_they_always_were():
    assert protocols.COUNTERS is contract.COUNTERS
    assert protocols.PROTOCOL_VERSION is contract.PROTOCOL_VERSION
    assert (payloads.LANES, payloads.EUCLIDEAN, payloads.RESIDUAL) == (contract.LANES, 0, 1)
    assert {name: cls.code for name, cls in kernels.CLOSED.items()} == KERNEL_CODES
    assert kernels.Kernel.code == EXPRESSION not in KERNEL_CODES.values()


def test_the_contract_loads_before_covertreex_is_built():
    tree = ast.parse(Path(contract.__file__).read_text())
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    assert runpy.run_path(contract.__file__)["CONTRACT"] == CONTRACT


def test_backends_that_say_so_were_built_with_it(backend):
    theirs = getattr(cx.get_backend(backend), "contract", CONTRACT)
    assert difference(theirs) == ""
    assert backend not in ("cython", "rust") or hasattr(cx.get_backend(backend), "contract")


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({}, "protocol is absent there and 4 here"),
        (None, "protocol is absent there and 4 here"),
        ({**CONTRACT, "lanes": 8}, "lanes is 8 there and 16 here"),
        ({**CONTRACT, "new": 1}, "new is 1 there and absent here"),
        ({**CONTRACT, "kernels": {**KERNEL_CODES, "cauchy": 5}}, "kernels['cauchy'] is 5 there and absent here"),
        ({**CONTRACT, "counters": ["distance_evals"]}, "counters[1] is absent there and 'nodes_visited' here"),
    ],
)
def test_difference_names_the_fact(theirs, words):
    assert difference(theirs) == words


# ---------------------------------------------------------------------------------------------------------------------
# Another contract


def test_another_contract_refuses_the_compiled_parts(tmp_path):
    copy = tmp_path / "covertreex"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.c", "*.h"))
    file = copy / "base" / "contract.py"
    text = file.read_text()
    altered = text.replace('"distance_evals",\n    "nodes_visited"', '"nodes_visited",\n    "distance_evals"')
    assert altered != text
    file.write_text(altered)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", "import covertreex"], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode != 0
    for words in (
        "ImportError",
        "built with another contract",
        "counters[0] is 'distance_evals' there and 'nodes_visited' here",
        "Build them again",
    ):
        assert words in done.stderr


def test_another_contract_refuses_a_backend(backend, monkeypatch):
    if not hasattr(cx.get_backend(backend), "contract"):
        pytest.skip(f"{backend} imports the contract")
    monkeypatch.setitem(KERNEL_CODES, "matern12", 7)
    cx.refresh()
    try:
        reason = next(info.reason for info in cx.list_backends(load=True) if info.name == backend)
        assert "another contract than this covertreex has: kernels['matern12'] is 1 there and 7 here" in reason
        assert "install matching versions of the two, or build it again" in reason
        with pytest.raises(cx.BackendError, match=r"is broken: .*matern12.* is 1 there"):
            cx.get_backend(backend)
    finally:
        monkeypatch.undo()
        cx.refresh()
    assert cx.get_backend(backend).name == backend


# ---------------------------------------------------------------------------------------------------------------------
# Unknown numbers


class Altered:
    """A payload store but for some attributes, which its own checks would not let pass."""

    def __init__(self, store, **changes):
        self.__dict__.update(store=store, **changes)

    def __getattr__(self, name):
        return getattr(self.store, name)

    def __len__(self):
        return len(self.store)


KNOWN_KERNELS = (
    r"known are 0 \(rbf\), 1 \(matern12\), 2 \(matern32\), 3 \(matern52\), 4 \(rationalquadratic\), 16 \(expression\)"
)
UNKNOWN = [
    ({"kernel_code": 9}, f"no kernel has code 9; {KNOWN_KERNELS}"),
    ({"kernel_code": -1}, f"no kernel has code -1; {KNOWN_KERNELS}"),
    ({"metric": 5}, r"no metric has code 5; known are 0 \(euclidean\), 1 \(residual\)"),
    ({"metric": 0}, "Euclidean distance has no kernel, code -1; got code 2"),
]


@pytest.mark.parametrize(("changes", "message"), UNKNOWN)
@pytest.mark.parametrize("verb", ["search", "scan"])
def test_unknown_numbers_are_refused(backend, verb, changes, message, rng):
    store = make_payload(rng.normal(size=(40, 2)), cx.Matern32(), range(4))
    queries, out = make_queries(store, range(5)), SearchOutput.empty(5, 3)
    wrong = Altered(store, **changes)
    arguments = {
        "search": (naive_tree(store), wrong, queries, 3, cx.PARITY, out),
        "scan": (wrong, plans.whole_range(store, queries), 3, cx.EXACT, out),
    }
    with pytest.raises(ValueError, match=message):
        getattr(cx.get_backend(backend), verb)(*arguments[verb])


class Unknown(cx.RBF):
    """A kernel whose number is nobody's."""

    code = 9


def test_factors_and_screens_refuse_unknown_kernels(rng):
    from covertreex._core import screen
    from covertreex._core.canonical import CovarianceView

    with pytest.raises(ValueError, match="no kernel has code 9"):
        CovarianceView(Unknown(), 2)
    store = make_payload(rng.normal(size=(40, 2)), cx.Matern32(), range(4))
    wrong = Altered(sharp(store), payload=Altered(store, kernel=Unknown()))
    with pytest.raises(ValueError, match="no kernel has code 9"):
        screen.Lens(wrong, sharp(store).of_queries(make_queries(store, [0])), 1)


def test_a_payload_of_an_unknown_kernel_is_not_made():
    with pytest.raises(InvalidInputError, match=f"payload: no kernel has code 9; {KNOWN_KERNELS}"):
        make_payload(np.zeros((3, 1)), Unknown())


@pytest.mark.parametrize("verb", ["search", "scan"])
def test_a_kernel_by_tables_without_its_tables_is_refused(verb, rng):
    """Backends that are not compiled ask the kernel itself, as C does."""
    store = make_payload(rng.normal(size=(40, 2)), cx.Matern32(), range(4))
    queries, out = make_queries(store, range(5)), SearchOutput.empty(5, 3)
    wrong = Altered(store, kernel_code=EXPRESSION)
    arguments = {
        "search": (naive_tree(store), wrong, queries, 3, cx.PARITY, out),
        "scan": (wrong, plans.whole_range(store, queries), 3, cx.EXACT, out),
    }
    for backend in {"numba", "rust"} & {info.name for info in cx.list_backends(load=True) if info.status == "ok"}:
        with pytest.raises(ValueError, match=r"payload\.expression must be there for a kernel of code 16"):
            getattr(cx.get_backend(backend), verb)(*arguments[verb])


# ---------------------------------------------------------------------------------------------------------------------
# A kernel has the same values in every language

#: Every closed form: one that is added to covertreex.kernels is looked at here without further ado.
CLASSES = list(kernels.CLOSED.values())


def of_shape(cls, alpha):
    """A kernel of a class, with this alpha if it has one."""
    return cls(alpha=alpha) if "alpha" in cls.__dataclass_fields__ else cls()


def in_c(code, variance, alpha, r2):
    from covertreex._core import canonical

    return canonical.kernel_values(code, variance, alpha, r2)


@functools.cache
def compiled_by_numba():
    from covertreex_numba.kernels import kernel_value
    from numba import njit

    @njit
    def evaluate(code, variance, alpha, r2, out):
        for i in range(len(r2)):
            out[i] = kernel_value(code, variance, alpha, r2[i])

    return evaluate


def in_numba(code, variance, alpha, r2):
    out = np.empty(len(r2))
    compiled_by_numba()(code, variance, alpha, r2, out)
    if np.isnan(out).any():
        raise ValueError(f"no kernel has code {code}")
    return out


def in_rust(code, variance, alpha, r2):
    core = pytest.importorskip("covertreex_rust._core", reason="the rust backend is not installed")
    return np.array(core.kernel_values(code, variance, alpha, r2.tolist()))


LANGUAGES = {"C": in_c, "Numba": in_numba, "Rust": in_rust}


def squares():
    """Squared scaled distances: edges of canonical arithmetic, and numbers of all sizes."""
    edges = [0.0, 5e-324, 1e-160, 1.0, 707.9, 708.0, 708.1, 1416.0, 1416.1, 501264.0, 501265.0, 1e10, 1e300]
    rng = np.random.default_rng(3)
    return np.concatenate([edges, rng.uniform(0, 3, 2000), 10 ** rng.uniform(-12, 6, 2000)])


@pytest.mark.parametrize("alpha", [0.3, 1.0, 50.0])
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("cls", CLASSES)
def test_values_are_the_class_s_own(cls, language, alpha):
    r2 = squares()
    own = 1.7 * of_shape(cls, alpha).correlation(r2, CanonicalArithmetic)
    try:
        found = LANGUAGES[language](cls.code, 1.7, alpha, r2)
    except ValueError as error:
        pytest.fail(f"{language} does not have {cls.__name__}: {error}")
    np.testing.assert_array_equal(found, own)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_missing_kernel_is_an_error(language):
    with pytest.raises(ValueError, match="no kernel has code 9"):
        LANGUAGES[language](9, 1.7, 1.0, squares())


@pytest.mark.parametrize("cls", CLASSES)
def test_distances_are_made_of_the_class_s_own_values(cls, backend, rng):
    """Without factors ``|rho|`` is the kernel's value; scans have loops of their own, which this looks at."""
    store = make_payload(rng.normal(size=(200, 2)), cls(lengthscale=0.7))
    queries, out = make_queries(store, range(200), include_self=True), SearchOutput.empty(200, 200)
    cx.get_backend(backend).scan(store, plans.whole_range(store, queries), 200, cx.EXACT, out)
    r2 = squared_distances(store.coords[:, None], store.coords[None])
    own = np.sqrt(1.0 - cls().correlation(r2, CanonicalArithmetic))
    np.fill_diagonal(own, 0.0)
    np.testing.assert_array_equal(out.distances, np.take_along_axis(own, out.indices, axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [0.3, 1.0, 50.0])
@pytest.mark.parametrize("cls", CLASSES)
def test_screens_are_within_their_bound_of_the_class_s_own_values(cls, alpha, dtype):
    """C1 leaves a kernel's value 40 units of roundoff, all but those of the squared distance."""
    from covertreex._core import screen

    r2 = squares()
    r2 = r2[r2 < 1e30].astype(dtype)
    own = of_shape(cls, alpha).correlation(r2.astype(np.float64))
    screen.kernel_values(cls.code, alpha, r2)
    assert np.abs(r2 - own).max() <= 40 * np.finfo(dtype).eps / 2


def test_screens_refuse_unknown_kernels():
    from covertreex._core import screen

    with pytest.raises(ValueError, match=f"no kernel has code 9; {KNOWN_KERNELS}"):
        screen.kernel_values(9, 1.0, np.zeros(3))


@pytest.mark.parametrize("name", kernels_by_tables())
def test_tables_have_the_same_values_in_numpy_and_in_c(name, rng):
    kernel = kernels_by_tables()[name]
    coords = kernel.scale(np.concatenate([rng.normal(size=(60, 3)), 10 ** rng.uniform(-9, 9, size=(60, 3))]))
    own = covariances(kernel, coords[:, None], coords[None])
    np.testing.assert_array_equal(covariance_matrix(kernel, coords, coords), own)
    assert (np.diagonal(own) == kernel.variance).all()


@pytest.mark.parametrize("name", kernels_by_tables())
def test_distances_are_made_of_tables(name, backend, rng):
    """Without factors ``|rho|`` is the kernel's value, in every language."""
    kernel = kernels_by_tables()[name]
    store = make_payload(rng.normal(size=(90, 3)), kernel.unitless())
    queries, out = make_queries(store, range(90), include_self=True), SearchOutput.empty(90, 90)
    cx.get_backend(backend).scan(store, plans.whole_range(store, queries), 90, cx.EXACT, out)
    own = np.sqrt(1.0 - np.abs(covariances(store.kernel, store.coords[:, None], store.coords[None])))
    np.fill_diagonal(own, 0.0)
    np.testing.assert_array_equal(out.distances, np.take_along_axis(own, out.indices, axis=1))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("far", [50.0, 150.0, 1000.0])
def test_far_queries_lose_no_neighbour_whatever_the_tail_of_the_kernel(cls, far):
    rng = np.random.default_rng(0)
    X, asked = rng.normal(size=(3000, 3)), 3.0 * rng.normal(size=(64, 3))
    asked[:, 0] += far
    result = cx.cover_tree(X, kernel=cls(1.0), inducing=20).search(5, queries=asked, settings="exact", audit=64)
    assert result.recall == 1.0


@pytest.mark.parametrize("kind", ["exponential", "long tail"])
def test_a_query_is_moved_nearer_only_where_correlations_are_gone(kind):
    """A kernel with a long tail is told by its own values, not by its name."""
    cls = {"exponential": cx.Matern12, "long tail": cx.RationalQuadratic}[kind]
    tree = cx.cover_tree(np.random.default_rng(0).normal(size=(300, 1)), kernel=cls(1.0))
    queries = questions.block_of(tree._state, questions.check(tree._state, [[1e4]]), 1)
    moved = sharp(tree.payload).of_queries(queries).coords
    assert (np.abs(moved) < 200.0).all() == (kind == "exponential")


def test_numba_refuses_a_kernel_that_it_lacks_by_name(monkeypatch):
    from covertreex_numba import arguments

    assert arguments.KNOWN == {NO_KERNEL, EXPRESSION, *KERNEL_CODES.values()}
    monkeypatch.setattr(arguments, "KNOWN", arguments.KNOWN - {KERNEL_CODES["matern32"]})
    tree = cx.cover_tree([[0.0], [1.0], [3.0]], kernel=cx.Matern32())
    with pytest.raises(ValueError, match="numba backend does not have the kernel matern32"):
        tree.knn(1, backend="numba")

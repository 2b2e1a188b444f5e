"""What callers pass in: every accepted kind of array answers as plain float64 does, and what would not is refused."""

import pickle
import warnings
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import covertreex as cx
from covertreex.base.validation import as_float64, check_points
from covertreex.io import description

pd, pa, pl = (pytest.importorskip(name) for name in ("pandas", "pyarrow", "polars"))

BIG = 2**53 + 1
NANOSECONDS = 1_700_000_000_000_000_001
RBF = cx.RBF()
X = np.random.default_rng(3).integers(-40, 40, size=(30, 2)) / 8.0


def frame(**columns):
    return pd.DataFrame(columns or {"x": X[:, 0], "y": X[:, 1]})


def answer(points):
    return cx.cover_tree(points).knn(k=3, return_distances=True)


def test_kinds_that_answer_as_float64_does(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, X)
    frozen = X.copy()
    frozen.flags.writeable = False
    table = frame()
    kinds = {
        "list": X.tolist(),
        "tuple of arrays": tuple(X),
        "fortran": np.asfortranarray(X),
        "strided": np.repeat(X, 2, axis=0)[::2],
        "reversed": X[::-1].copy()[::-1],
        "big-endian": X.astype(">f8"),
        "read-only": frozen,
        "memmap": np.load(path, mmap_mode="r"),
        "matrix": X.view(type("Mine", (np.ndarray,), {})),
        "float32": X.astype(np.float32),
        "float16": X.astype(np.float16),
        "longdouble": X.astype(np.longdouble),
        "unmasked": np.ma.masked_array(X, mask=False),
        "frame": table,
        "Float64": table.astype("Float64"),
        "mixed": table.astype({"x": "Float32"}),
        "arrow-backed": table.astype("double[pyarrow]"),
        "arrow table": pa.table({"x": X[:, 0], "y": X[:, 1]}),
        "arrow batch": pa.RecordBatch.from_pandas(table),
        "categories": table.astype("category"),
        "sparse columns": table.astype("Sparse[float]"),
    }
    wanted = answer(X)
    for name, points in kinds.items():
        for got, want in zip(answer(points), wanted, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, np.uint64, ">i4"])
def test_integers_and_truth_values_are_numbers(dtype):
    points = (np.abs(X) > 2) if dtype is bool else np.abs(X * 8).astype(dtype)
    for got, want in zip(answer(points), answer(points.astype(np.float64)), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "int64[pyarrow]", "bool[pyarrow]", "UInt8"])
def test_nullable_columns_are_numbers(dtype):
    values = pd.DataFrame({"x": [0, 1, 1, 0], "y": [1, 1, 0, 0]})
    np.testing.assert_array_equal(answer(values.astype(dtype))[1], answer(values.to_numpy(dtype=float))[1])


def big(value=BIG, kind=np.int64):
    points = np.zeros((4, 2), dtype=kind)
    points[2, 1] = value
    return points


DIGITS = r"that float64, which is used here, would round: {} at row {}, column {}\..*"
LOSSY = {
    "int64": (big(), DIGITS.format(BIG, 2, 1) + r"Subtract an offset.*seconds for nanoseconds.*astype\(np\.float64\)"),
    "negative": (big(-BIG), DIGITS.format(-BIG, 2, 1)),
    "uint64": (big(2**64 - 1, np.uint64), DIGITS.format(2**64 - 1, 2, 1)),
    "largest int64": (big(2**63 - 1), DIGITS.format(2**63 - 1, 2, 1)),
    "list": ([[0, 0], [1, NANOSECONDS]], DIGITS.format(NANOSECONDS, 1, 1)),
    "list beside floats": ([[0.5, 0], [1, BIG]], DIGITS.format(BIG, 1, 1)),
    "arrays beside floats": ([np.array([0.5, 1.0]), np.array([1, BIG])], DIGITS.format(BIG, 1, 1)),
    "column": (frame(x=[0.5, 1.0], t=[0, BIG]), DIGITS.format(BIG, 1, "'t'")),
    "nullable column": (frame(x=[0.5, 1.0], t=[0, BIG]).astype({"t": "Int64"}), DIGITS.format(BIG, 1, "'t'")),
    "arrow column": (pa.table({"x": [0.5, 1.0], "t": [0, BIG]}), DIGITS.format(BIG, 1, "'t'")),
}
if np.finfo(np.longdouble).nmant > 52:
    LOSSY["longdouble"] = (
        big(np.longdouble(1) / 3, np.longdouble),
        DIGITS.format(r"0\.3333333333333333333\d*", 2, 1).replace(r"\..*", r"\. If rounded"),
    )


@pytest.mark.parametrize("case", LOSSY)
def test_digits_are_not_lost_in_silence(case):
    points, message = LOSSY[case]
    with pytest.raises(cx.InvalidInputError, match=message):
        cx.cover_tree(points)


@pytest.mark.parametrize("value", [2**53, -(2**53), 2**60, 2**62 + 2**11, -(2**63)])
def test_large_integers_that_float64_holds_are_accepted(value):
    assert cx.cover_tree(big(value)).X[2, 1] == value
    assert cx.cover_tree(big(value).tolist()).X[2, 1] == value
    assert cx.cover_tree([[0.5], [value]]).X[1, 0] == value


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**64 - 1) | st.integers(2**53 - 4, 2**53 + 4), min_size=1, max_size=5))
def test_integers_become_float64_as_they_are_or_not_at_all(values):
    exact = all(int(float(value)) == value for value in values)
    points = [[value, 0.25] for value in values]
    if exact:
        assert [int(value) for value in check_points(points, "X")[:, 0]] == values
    else:
        with pytest.raises(cx.InvalidInputError, match="would round"):
            check_points(points, "X")
    for dtype in (np.int64, np.uint64):
        if all(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max for value in values):
            array = np.array(values, dtype=dtype)
            if exact:
                assert [int(value) for value in as_float64(array, "X")] == values
            else:
                with pytest.raises(cx.InvalidInputError, match="would round"):
                    as_float64(array, "X")


def with_factors(**others):
    return cx.cover_tree(X, kernel=RBF, v_matrix=np.full((30, 2), 0.1), **others)


EVERYWHERE = {
    "queries": lambda: cx.cover_tree(X).knn(1, [[0, BIG]]),
    "queries of a radius": lambda: cx.cover_tree(X).radius(1.0, [[0, BIG]]),
    "insert": lambda: cx.cover_tree(X).insert([[0, BIG]]),
    "inducing": lambda: cx.cover_tree(X, kernel=RBF, inducing=np.array([[0, BIG]])),
    "v_matrix": lambda: cx.cover_tree(X, kernel=RBF, v_matrix=np.full((30, 2), BIG)),
    "p_diag": lambda: with_factors(p_diag=np.full(30, BIG)),
    "v_query": lambda: with_factors().knn(1, X[:1], v_query=[[0, BIG]]),
    "p_query": lambda: with_factors().knn(1, X[:1], v_query=[[0.1, 0.1]], p_query=[BIG]),
    "inserted p_diag": lambda: with_factors(p_diag=np.ones(30)).insert(
        X[:1], v_matrix=[[0.1, 0.1]], p_diag=np.array([BIG])
    ),
    "order": lambda: cx.ordering.maximin(big()),
    "to_stan": lambda: cx.outputs.to_stan(np.array([[-1], [0], [1], [2]]), big()),
}


@pytest.mark.parametrize("where", EVERYWHERE)
def test_digits_are_kept_wherever_numbers_come_in(where):
    with pytest.raises(cx.InvalidInputError, match=f"would round: {BIG} at row"):
        EVERYWHERE[where]()


@pytest.mark.parametrize("value", [BIG, np.int64(BIG), np.uint64(2**64 - 1)])
def test_kernel_parameters_keep_their_digits(value):
    for make, name in (
        (lambda: cx.RBF(value), "lengthscale"),
        (lambda: cx.RBF((1.0, value)), r"lengthscale\[1\]"),
        (lambda: cx.RBF(variance=value), "variance"),
    ):
        with pytest.raises(cx.InvalidInputError, match=f"{name} = {int(value)} has digits that float64.*would round"):
            make()
    assert cx.RBF(2**60).lengthscale == 2.0**60


def test_complex_kernel_parameters():
    for value in (1j, np.complex128(1 + 1j)):
        with pytest.raises(cx.InvalidInputError, match="lengthscale must be a"):
            cx.RBF(value)


TIMES = np.array([["2026-01-01", "2026-01-02"]], dtype="datetime64[ns]")
REFUSED = {
    "datetimes": (TIMES, r"datetime64\[ns\]\. Give numbers, such as \(t - t\.min\(\)\) / np\.timedelta64\(1, 's'\)"),
    "durations": (TIMES - TIMES[0, 0], r"timedelta64\[ns\]\. Give numbers, such as t / np\.timedelta64\(1, 's'\)"),
    "datetime column": (frame(x=[0.5], t=TIMES[0, :1]), r"column 't' of X must be real numbers, got dtype datetime64"),
    "arrow times": (pa.table({"t": TIMES[0]}), "column 't' of X must be real numbers, got dtype datetime64"),
    "complex": (X * 1j, "dtype complex128. Give real and imaginary parts as two columns"),
    "objects": (X.astype(object), "real numbers, got dtype object"),
    "decimals": ([[Decimal(1)]], "real numbers, got dtype object"),
    "huge integers": ([[2**70]], "real numbers, got dtype object"),
    "decimal column": (pa.table({"x": [Decimal("1.5")]}), "column 'x' of X must be real numbers, got dtype object"),
    "text column": (frame(x=[0.5], name=["Oslo"]), "column 'name' of X must be real numbers"),
    "records": (np.zeros(3, dtype=[("x", float)]), "real numbers, got dtype"),
    "missing": (frame(x=pd.array([0.5, None], dtype="Float64")), "column 'x' of X has 1 missing values. Drop or fill"),
    "missing integer": (pa.table({"x": [1, None]}), "column 'x' of X has 1 missing values"),
    "missing float": (frame(x=[0.5, np.nan], y=[0.5, 1.0]), "got nan at row 1, column 'x'; 1 such rows"),
    "sparse": (sparse.csr_matrix(X), r"X is sparse \(csr_matrix\); give X\.toarray\(\)"),
    "sparse array": (sparse.coo_array(X), r"X is sparse \(coo_array\)"),
    "masked": (np.ma.masked_array(X, mask=X > 4.5), "X has [0-9]+ masked entries"),
    "masked rows": ([np.ma.masked_array([1.0, 2.0], mask=[True, False])], "X has 1 masked entries"),
    "scalar": (np.float64(1.0), r"must have shape \(n, d\), got \(\)"),
    "column alone": (pd.Series([1.0, 2.0]), r"must have shape \(n, d\), got \(2,\).*reshape"),
    "lazy": (pl.LazyFrame({"x": [1.0, 2.0]}), r"X is a LazyFrame, not computed yet; give X\.collect\(\)"),
    "no columns": (pd.DataFrame(index=range(3)), r"X is empty, shape \(3, 0\)"),
    "no rows": (frame()[:0], r"X is empty, shape \(0, 2\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_array_of_real_numbers_is_refused(case):
    points, message = REFUSED[case]
    with pytest.raises(cx.InvalidInputError, match=message):
        cx.cover_tree(points)


class Tensor:
    """What torch's tensors do when NumPy asks for their numbers."""

    def __init__(self, values, requires_grad=False, device="cpu"):
        self.values, self.requires_grad, self.device, self.shape = values, requires_grad, device, np.shape(values)

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return (Tensor(value, self.requires_grad) if np.ndim(value) else float(value) for value in self.values)

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.device != "cpu":
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")
        return np.asarray(self.values, dtype=dtype)


class Parameter:
    """One number of a model, as a tensor of torch."""

    def __init__(self, requires_grad):
        self.requires_grad = requires_grad

    def detach(self):
        return Parameter(False)

    def __float__(self):
        if self.requires_grad:
            warnings.warn("Converting a tensor with requires_grad=True to a scalar", stacklevel=2)
        return 0.5


def test_tensors():
    np.testing.assert_array_equal(answer(Tensor(X))[0], answer(X)[0])
    with pytest.raises(cx.InvalidInputError, match=r"X is a tensor that requires grad, .*; give X\.detach\(\)"):
        cx.cover_tree(Tensor(X, requires_grad=True))
    with pytest.raises(cx.InvalidInputError, match=r"queries is a tensor that requires grad"):
        cx.cover_tree(X).knn(1, Tensor(X, requires_grad=True))
    with pytest.raises(cx.InvalidInputError, match=r"NumPy cannot read X, a Tensor: .*cuda:0.*Tensor\.cpu"):
        cx.cover_tree(Tensor(X, device="cuda:0"))
    assert cx.RBF(Parameter(requires_grad=True)) == cx.RBF(0.5)
    assert cx.RBF(Tensor([0.5, 2.0], requires_grad=True)) == cx.RBF((0.5, 2.0))  # a model's own parameter


def test_no_inducing_points():
    """0 is none, as on the command line."""
    tree = cx.cover_tree(X, kernel=RBF, inducing=0)
    assert isinstance(tree.metric, cx.Correlation)
    np.testing.assert_array_equal(tree.knn(3), cx.cover_tree(X, kernel=RBF).knn(3))
    with pytest.raises(cx.InvalidInputError, match="inducing must be a count, rows or coordinates, got False"):
        cx.cover_tree(X, kernel=RBF, inducing=False)
    with pytest.raises(cx.InvalidInputError, match=r"got 0\. Correlation\(kernel\) is the metric without"):
        cx.cover_tree(X, metric=cx.ResidualCorrelation(RBF, 0))


def test_points_of_geopandas():
    geopandas = pytest.importorskip("geopandas")
    places = geopandas.GeoSeries.from_xy(X[:, 0], X[:, 1])
    for points in (places, places.values, geopandas.GeoDataFrame(geometry=places)):
        tree = cx.cover_tree(points)
        np.testing.assert_array_equal(tree.X, X)
        assert tree.feature_names_in_ == ("x", "y")
        np.testing.assert_array_equal(tree.knn(2, points[:3]), tree.knn(2, X[:3]))
    table = geopandas.GeoDataFrame({"day": np.arange(30)}, geometry=places)
    tree = cx.cover_tree(table, kernel=cx.RBF(active_dims=("day", "x")))
    assert tree.feature_names_in_ == ("day", "x", "y")
    np.testing.assert_array_equal(tree.X, np.column_stack([np.arange(30), X]))
    high = geopandas.GeoSeries.from_xy(X[:, 0], X[:, 1], z=np.arange(30.0))
    np.testing.assert_array_equal(cx.cover_tree(high).X, np.column_stack([X, np.arange(30)]))
    with pytest.raises(cx.InvalidInputError, match=r"a geometry must be points, got Polygon.*geometry.centroid"):
        cx.cover_tree(places.buffer(1.0))
    places[3] = None
    with pytest.raises(cx.InvalidInputError, match="got nan at row 3, column 'x'; 1 such rows"):
        cx.cover_tree(places)


def test_two_columns_of_one_name():
    table = frame()
    table.columns = ["x", "x"]
    for points in (table, pa.Table.from_arrays([pa.array(X[:, 0]), pa.array(X[:, 1])], names=["x", "x"])):
        with pytest.raises(cx.InvalidInputError, match=r"X has 2 columns named 'x'\. Rename .*X\.to_numpy\(\)"):
            cx.cover_tree(points)
    np.testing.assert_array_equal(cx.cover_tree(table.to_numpy()).X, X)


# ---------------------------------------------------------------------------------------------------------------------
# names of columns


SWAPPED = "columns of {} are in another order: 'y', 'x', where the data has 'x', 'y'.*list.tree.feature_names_in_"
NAMED = {
    "knn": ("queries", lambda tree, Z: tree.knn(1, Z)),
    "search": ("queries", lambda tree, Z: tree.search(1, Z)),
    "radius": ("queries", lambda tree, Z: tree.radius(1.0, Z)),
    "insert": ("X_new", lambda tree, Z: tree.insert(Z)),
    "with_metric": ("inducing", lambda tree, Z: tree.with_metric(cx.ResidualCorrelation(RBF, Z))),
}


@pytest.mark.parametrize("verb", NAMED)
def test_columns_must_be_those_of_the_data(verb):
    name, ask = NAMED[verb]
    tree, other = cx.cover_tree(frame()), frame()[:4]
    assert tree.feature_names_in_ == ("x", "y")
    with pytest.raises(cx.InvalidInputError, match=SWAPPED.format(name)):
        ask(tree, other[["y", "x"]])
    with pytest.raises(cx.InvalidInputError, match=f"columns of {name} do not match.*not in the data: 'z'; .*: 'y'"):
        ask(tree, other.rename(columns={"y": "z"}))
    with pytest.raises(cx.InvalidInputError, match=f"columns of {name} do not match.*but missing: 'y'"):
        ask(tree, other[["x"]])
    for fine in (other, other.to_numpy(), pa.Table.from_pandas(other, preserve_index=False)):
        ask(tree, fine)
    ask(tree, other.to_numpy())
    ask(cx.cover_tree(X), other[["y", "x"]])  # data without names says nothing about them


def test_columns_of_inducing_points_must_be_those_of_the_data():
    for arguments in ({"kernel": RBF, "inducing": frame()[["y", "x"]]},
                      {"metric": cx.ResidualCorrelation(RBF, frame()[["y", "x"]])}):  # fmt: skip
        with pytest.raises(cx.InvalidInputError, match=SWAPPED.format("inducing")):
            cx.cover_tree(frame(), **arguments)


@pytest.mark.parametrize("names", [[0, 1], ["x", 1], pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])])
def test_names_that_are_no_strings_are_none(names):
    table = frame()
    table.columns = names
    tree = cx.cover_tree(table)
    assert tree.feature_names_in_ is None
    tree.knn(1, frame()[["y", "x"]])


def test_names_stay(tmp_path):
    tree = cx.cover_tree(frame(), kernel=RBF, inducing=5)
    tree.save(tmp_path / "tree.safetensors")
    trees = {
        "with_metric": tree.with_metric(cx.Matern32()),
        "insert": tree.insert(X[:2]),
        "delete": tree.delete([3]),
        "delete many": tree.delete(np.arange(20)),
        "insert, delete, insert": tree.insert(X[:2]).delete(np.arange(20)).insert(frame()[:3]),
        "pickle": pickle.loads(pickle.dumps(tree)),
        "load": cx.load(tmp_path / "tree.safetensors"),
    }
    for name, other in trees.items():
        assert other.feature_names_in_ == ("x", "y"), name
        with pytest.raises(cx.InvalidInputError, match="another order"):
            other.knn(1, frame()[["y", "x"]])
    assert pickle.loads(pickle.dumps(cx.cover_tree(X))).feature_names_in_ is None


@pytest.mark.parametrize("names", [["x"], ["x", 1], "xy", {"x": 0}])
def test_names_in_a_file_that_make_no_sense(names):
    document, arrays = description.describe(cx.cover_tree(frame())._state)
    assert document["feature_names"] == ["x", "y"]
    with pytest.raises(cx.FileFormatError, match="feature_names must be 2 strings, one per column"):
        description.assemble({**document, "feature_names": names}, arrays, 1)


@pytest.mark.parametrize("dtype", ["float64", "Float64", "double[pyarrow]"])
def test_tables_of_inducing_points_and_factors(dtype, tmp_path):
    """The same to the bit as arrays, through everything that reads the metric again."""
    inducing = frame()[:6].astype(dtype)
    V = pd.DataFrame(np.full((30, 2), 0.125)).astype(dtype)
    p = pd.Series(np.full(30, 1.0)).astype(dtype)
    pairs = [
        ({"inducing": inducing}, {"inducing": X[:6]}, {}),
        ({"v_matrix": V, "p_diag": p}, {"v_matrix": V.to_numpy(dtype=float), "p_diag": np.ones(30)},
         {"v_matrix": V[:2], "p_diag": p[:2]}),
    ]  # fmt: skip
    for tables, arrays, more in pairs:
        a, b = cx.cover_tree(frame(), kernel=RBF, **tables), cx.cover_tree(X, kernel=RBF, **arrays)
        a.save(tmp_path / "tree.safetensors")
        for left, right in (
            (a, b),
            (cx.load(tmp_path / "tree.safetensors"), b),
            (a.insert(frame()[:2], **more).delete([4]), b.insert(X[:2], **more).delete([4])),
            (a.delete(np.arange(15)), b.delete(np.arange(15))),
        ):
            for got, want in zip(*(tree.knn(4, return_distances=True) for tree in (left, right)), strict=True):
                np.testing.assert_array_equal(got, want)
            assert left.oracle().recall(left.knn(4)) == 1.0
    block = {"v_query": V[:3], "p_query": p[:3]}
    np.testing.assert_array_equal(a.knn(3, frame()[:3], **block), b.knn(3, X[:3], v_query=np.full((3, 2), 0.125),
                                  p_query=np.ones(3)))  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# factors in float32


def rounded_factors(p_too=False):
    """Smooth factors that explain nearly all, so that float32 cannot say what is left."""
    points = np.linspace(0, 1, 40)[:, None]
    K = RBF(points[::5], points[::5]) + 1e-10 * np.eye(8)
    V = np.linalg.solve(np.linalg.cholesky(K), RBF(points[::5], points)).T
    p = np.maximum(1.0 - np.sum(V**2, axis=1), 1e-9)
    return points, V, p


@pytest.mark.parametrize("again", [np.float32, np.float64])
def test_factors_that_were_rounded_to_float32_are_named_as_the_cause(again):
    points, V, p = rounded_factors()
    rounded = V.astype(np.float32).astype(again)
    with pytest.raises(cx.InvalidInputError, match=r"All numbers of v_matrix are float32 numbers.*in float64"):
        cx.cover_tree(points, kernel=RBF, v_matrix=rounded, p_diag=p)
    tree = cx.cover_tree(points, kernel=RBF, v_matrix=V * 0.999)
    with pytest.raises(cx.InvalidInputError, match=r"All numbers of v_query are float32 numbers.*in float64"):
        tree.knn(1, points, v_query=rounded, p_query=p)


def test_factors_that_contradict_for_other_reasons_are_not_blamed_on_float32():
    for V in (np.full((30, 1), 2.0), np.full((30, 1), 1.1)):
        with pytest.raises(cx.InvalidInputError, match="contradicts") as caught:
            cx.cover_tree(X, kernel=RBF, v_matrix=V)
        assert "float32" not in str(caught.value)

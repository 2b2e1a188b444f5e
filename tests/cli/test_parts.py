"""`covertreex neighbors` of files that are read in parts."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import covertreex as cx
from covertreex.cli import app

zarr = pytest.importorskip("zarr")

#: Dask's reader of Parquet calls pandas as pandas will not have it later.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).uniform(size=(900, 3))
    zarr.create_array("x.zarr", data=X, chunks=(200, 3))
    pd.DataFrame(X, columns=["u", "v", "w"]).to_parquet("x.parquet")
    return X


def test_zarr(points):
    said = run("neighbors", "x.zarr", "--lengthscale", 0.5, "--inducing", 20, "--predecessors", "-k", 5, "--audit", 50)
    tree = cx.cover_tree(points, kernel=cx.Matern32(lengthscale=0.5), inducing=20)
    truth = tree.search(5, predecessor_mode=True)
    np.testing.assert_array_equal(zarr.open("x.neighbors.zarr/indices")[:], truth.indices)
    np.testing.assert_array_equal(zarr.open("x.neighbors.zarr/distances")[:], truth.distances)
    assert "ranks 0 to 900: 1 partitions" in said
    assert "each row is in about 1.0 partitions" in said
    assert "of 50 points against exact searches of all parts" in " ".join(said.split())


def test_parquet_by_columns_in_a_random_order(points):
    run("neighbors", "x.parquet", "--parts", "--columns", "w,u", "--metric", "euclidean", "--predecessors", "--order",
        "random", "--seed", 4, "-k", 3, "--audit", 20, "-o", "found.parquet")  # fmt: skip
    order = np.random.default_rng(4).permutation(900)
    truth = cx.cover_tree(points[:, [2, 0]]).knn(3, predecessor_mode=True, order=order)
    table = pd.read_parquet("found.parquet").sort_values("row")
    np.testing.assert_array_equal(table[["i0", "i1", "i2"]], truth)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.zarr", "--header", "--metric", "euclidean"], "--header has no meaning for .zarr; choose columns by"),
        (["y.zarr", "--metric", "euclidean"], "y.zarr is not there"),
        (["bad.parquet", "--parts", "--metric", "euclidean"], "bad.parquet cannot be read"),
        (["flat.zarr", "--metric", "euclidean"], "flat.zarr must hold an array of shape (n, d), got shape (5,)"),
        (
            ["x.parquet", "--parts", "--metric", "euclidean", "--columns", "q"],
            "--columns has 'q', but x.parquet has u, v, w",
        ),
        (["x.zarr", "--order", "maximin", "--metric", "euclidean"], "--order maximin needs all points in memory"),
        (["x.zarr"], "a kernel needs a lengthscale in the units of the data"),
        (["x.zarr", "--metric", "euclidean", "-o", "x.csv"], ".zarr"),
    ],
)
def test_what_cannot_be_used(points, arguments, message):
    zarr.create_array("flat.zarr", data=np.arange(5.0))
    with open("bad.parquet", "w") as file:
        file.write("no")
    assert message in " ".join(run("neighbors", *arguments, code=2).split())

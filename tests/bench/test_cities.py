"""`covertreex cities` writes what `covertreex neighbors` reads."""

import numpy as np
from typer.testing import CliRunner

import covertreex as cx
from covertreex.cli import app
from covertreex.io import tables
from covertreex_bench import workloads


def run(*arguments, code=0):
    """Output of a command on a wide screen; it must end with exit code `code`."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False, env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return result.output


def test_neighbors_of_cities(here):
    run("cities", "--output", "all.csv")
    lines = (here / "all.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "name,latitude,longitude"
    (here / "some.csv").write_text("\n".join(lines[:301]), encoding="utf-8")
    output = run("neighbors", "some.csv", "--lat", "latitude", "--lon", "longitude", "--predecessors",
                 "--order", "random", "-k", "7", "--audit", "100")  # fmt: skip
    assert "300 read, 300 used" in output
    assert "lengthscale=0.05" in output
    assert "in a random order (seed 0)" in output
    assert "1.0 of 100 points" in output

    found = workloads.load_cities()
    order = np.random.default_rng(0).permutation(300)
    X = tables.unit_vectors(found.latitude[:300], found.longitude[:300])[order]
    kernel = cx.Matern32(lengthscale=0.05)
    indices = cx.cover_tree(X, kernel=kernel, inducing=75).knn(7, predecessor_mode=True)
    with np.load("some.neighbors.npz") as file:
        assert np.array_equal(file["rows"][order], order)
        assert np.array_equal(file["indices"][order], np.where(indices >= 0, order[indices], -1))

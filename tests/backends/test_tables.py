"""Kernels by tables (A10): every backend gives the same bits and counters, with any number of threads."""

from dataclasses import dataclass

import numpy as np
import pytest

import covertreex as cx
from covertreex import oracle
from covertreex.kernels import Plain, Stationary
from covertreex.testing.cases import kernels_by_tables
from covertreex.testing.reference import make_queries

KERNELS = kernels_by_tables()


@pytest.fixture
def points(rng):
    """Points in space and time, some of them twice."""
    X = rng.normal(size=(300, 3))
    X[rng.permutation(300)[:40]] = X[rng.integers(0, 300, 40)]
    return X


@pytest.mark.parametrize("settings", ["parity", "exact"])
@pytest.mark.parametrize("name", KERNELS)
def test_bits_and_counters_are_those_of_any_backend(points, name, settings, backend):
    tree = cx.cover_tree(points, kernel=KERNELS[name], inducing=20)
    asked = np.arange(0, 300, 5)
    indices, distances = oracle.canonical(tree.payload, make_queries(tree.payload, asked), 6)
    counted = tree.search(6, asked, settings=settings, backend="cython", n_threads=1).telemetry.counters
    for n_threads in (1, 2):
        found = tree.search(6, asked, settings=settings, backend=backend, n_threads=n_threads)
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_array_equal(found.distances.view(np.int64), distances.view(np.int64))
        assert found.telemetry.counters == counted


@pytest.mark.parametrize("name", KERNELS)
def test_predecessors_and_coordinates(points, name, backend):
    tree = cx.cover_tree(points[:200], kernel=KERNELS[name], inducing=20)
    for options in ({"predecessor_mode": True}, {"queries": np.concatenate([points[190:210], points[:5] + 1e3])}):
        expected = tree.search(5, settings="parity", backend="cython", **options)
        found = tree.search(5, settings="parity", backend=backend, **options)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances.view(np.int64), expected.distances.view(np.int64))
        assert found.telemetry.counters == expected.telemetry.counters


@dataclass(frozen=True)
class Unheard(Stationary):
    """A kernel that nobody has heard of: all it takes."""

    def correlation(self, r2, by=Plain):
        """See `covertreex.kernels.Stationary.correlation`."""
        return 1.0 / (1.0 + r2)


def test_one_class_is_a_kernel_in_every_language(points, backend):
    tree = cx.cover_tree(points, kernel=Unheard(0.7), inducing=20)
    for settings in ("parity", "exact"):
        assert tree.search(5, settings=settings, backend=backend, audit=300).recall == 1.0

"""Screens, and what finds near rows, have the same bits in registers of 32 and of 64 bytes: so `fast` answers alike."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import covertreex as cx
from covertreex._core import nearest, screen, whiten
from covertreex._core.screen import dots, dots_of_whole


@contextmanager
def narrow_registers():
    """Registers of 64 bytes (x86-64-v4) are left alone meanwhile."""
    for module in (nearest, screen, whiten):
        module.narrow_only(True)
    try:
        yield
    finally:
        for module in (nearest, screen, whiten):
            module.narrow_only(False)


@pytest.fixture
def wide():
    """Skips a test where there are no wide registers: narrow ones would be compared with themselves."""
    flags = set(Path("/proc/cpuinfo").read_text().split()) if Path("/proc/cpuinfo").exists() else set()
    if not {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags:
        pytest.skip("this machine has no AVX-512: narrow registers are the widest")


@pytest.mark.parametrize("packs", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("m", [16, 48, 656])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_right_whatever_stands_beside_them(dtype, m, packs, rng):
    lanes = 64 // np.dtype(dtype).itemsize
    rows = rng.normal(size=(7, m)).astype(dtype)
    queries = rng.normal(size=(packs * lanes, m)).astype(dtype)
    mixed = np.ascontiguousarray(np.roll(queries, lanes // 2 + 1, axis=0))
    with narrow_registers():
        narrow = dots(rows, queries)
    for found in (narrow, dots(rows, queries)):
        np.testing.assert_allclose(found, rows @ queries.T, atol=m * 8 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(np.roll(dots(rows, mixed), -(lanes // 2 + 1), axis=1), found)


@pytest.mark.parametrize("packs", [1, 2, 3, 4, 5, 6, 7, 12])
@pytest.mark.parametrize("m", [16, 48, 656])
@pytest.mark.parametrize("largest", [63, 127])
def test_products_of_bytes_are_those_of_integers(largest, m, packs, rng):
    rows, queries = (rng.integers(-largest, largest + 1, (number, m), dtype=np.int8) for number in (13, 16 * packs))
    rows[0], queries[0], queries[1] = largest, -largest, largest
    wanted = rows.astype(np.int64) @ queries.T.astype(np.int64)
    np.testing.assert_array_equal(dots_of_whole(rows, queries, largest), wanted)
    np.testing.assert_array_equal(dots_of_whole(rows, queries, largest, plain=True), wanted)
    with narrow_registers():
        np.testing.assert_array_equal(dots_of_whole(rows, queries, largest), wanted)


@pytest.mark.parametrize("packs", [1, 2, 3, 4, 5, 6, 7, 12])
@pytest.mark.parametrize("m", [16, 48, 656])
def test_products_of_sixteen_bits_are_those_of_integers(m, packs, rng):
    rows, queries = (rng.normal(size=(number, m)) for number in (13, 16 * packs))
    rows[0], queries[0], queries[1] = 1.0, -1.0, 1.0
    rows, queries = (
        np.rint(46_300 / np.linalg.norm(side, axis=1, keepdims=True) * side).clip(-32_767, 32_767).astype(np.int16)
        for side in (rows, queries)
    )
    wanted = (rows.astype(np.int64) @ queries.T.astype(np.int64)).astype(np.float32)
    assert np.abs(wanted).max() > 2e9
    np.testing.assert_array_equal(dots_of_whole(rows, queries), wanted)
    np.testing.assert_array_equal(dots_of_whole(rows, queries, plain=True), wanted)
    with narrow_registers():
        np.testing.assert_array_equal(dots_of_whole(rows, queries), wanted)


@pytest.mark.parametrize("m", [16, 48, 656])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_have_the_same_bits(dtype, m, rng, wide):
    rows, queries = rng.normal(size=(7, m)).astype(dtype), rng.normal(size=(80, m)).astype(dtype)
    with narrow_registers():
        narrow = dots(rows, queries)
    np.testing.assert_array_equal(dots(rows, queries), narrow)


@pytest.mark.parametrize("kernel", [cx.RBF(), cx.Matern12(), cx.Matern32(), cx.Matern52(), cx.RationalQuadratic()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("coarse", [False, True])
def test_kernels_have_the_same_bits(dtype, coarse, kernel, rng, wide):
    r2 = np.concatenate([[0.0, 1e-30], rng.exponential(10.0, 4001), [1e4, 1e9]]).astype(dtype)
    widest, narrow = r2.copy(), r2.copy()
    screen.kernel_values(kernel.code, kernel.alpha, widest, coarse)
    with narrow_registers():
        screen.kernel_values(kernel.code, kernel.alpha, narrow, coarse)
    np.testing.assert_array_equal(widest, narrow)


SEARCHES = {
    "rbf, whitened": (cx.RBF(1.0), 96, 3),
    "matern 3/2": (cx.Matern32((0.35, 0.4, 0.45, 0.5, 0.55)), 64, 5),
    "matern 1/2": (cx.Matern12(1.0), 48, 10),
    "tables": (cx.Matern(nu=0.8, lengthscale=0.5), 64, 4),
    "correlation": (cx.Matern52(0.3), None, 4),
    "product": (cx.Matern32(0.5, active_dims=[0, 1]) * cx.Matern12(0.7, active_dims=[2]), 48, 3),
}


def searched(name, settings, X, **how):
    kernel, inducing, _ = SEARCHES[name]
    tree = cx.cover_tree(X, kernel=kernel, inducing=inducing, seed=0, jitter=1e-6)
    return tree.search(12, settings=settings, **how)


@pytest.mark.parametrize("settings", ["exact", "fast"])
@pytest.mark.parametrize("name", SEARCHES)
def test_searches_have_the_same_bits_and_look_at_the_same_rows(name, settings, rng, wide):
    d = SEARCHES[name][2]
    X = rng.normal(size=(9000, d)) if name.startswith("rbf") else rng.uniform(size=(9000, d))
    X[100:110] = X[:10]
    for how in ({"predecessor_mode": True}, {"queries": rng.uniform(size=(300, d))}):
        widest = searched(name, settings, X, **how)
        with narrow_registers():
            narrow = searched(name, settings, X, **how)
        np.testing.assert_array_equal(widest.indices, narrow.indices)
        np.testing.assert_array_equal(widest.distances, narrow.distances)
        assert widest.telemetry.counters == narrow.telemetry.counters

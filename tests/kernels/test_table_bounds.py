"""What is said about tables bounds what they do: against dense samples, for every kernel."""

import numpy as np
import pytest
from every import COMPOSED, EVERY, words
from hypothesis import given, settings
from hypothesis import strategies as st

import covertreex as cx
from covertreex.kernels.expression import make_expression

EXPRESSIONS = {words(kernel): make_expression(kernel.terms()) for kernel in [*EVERY, *COMPOSED]}
# A distance that another one rescales, alone; what swings most within a piece.
ROUGH = cx.Gneiting(alpha=0.05, beta=1.0)
EXPRESSIONS["rescaled"] = make_expression([(1.0, ROUGH.terms()[0][1][:1])])
EXPRESSIONS["swings"] = make_expression(cx.DampedCosine(frequency=8.0, dimension=1).terms())
TABLES = list({id(table): table for e in EXPRESSIONS.values() for table in e.tables}.values())

tables = st.sampled_from(range(len(TABLES))).map(lambda i: TABLES[i])
binades = st.floats(-60.0, 24.0)


def dense(low, high, count=400):
    return 2.0 ** np.linspace(low, high, count)


@given(tables, binades)
def test_beyond_bounds_what_is_farther(table, at):
    t = 2.0**at
    farther = np.concatenate([[t], t * dense(0.0, 0.3), t * dense(0.0, 40.0)])
    assert np.max(np.abs(table(farther))) <= table.beyond(t)


@given(tables, st.floats(-30.0, 6.0), binades)
def test_modulus_bounds_how_much_a_step_changes(table, step, at):
    delta = 2.0**step
    r = np.concatenate([[0.0], 2.0 ** (0.5 * at) * dense(-1.0, 1.0), delta * dense(-4.0, 4.0), dense(-6.0, 3.0)])
    bound = table.modulus(delta)
    for part in (1.0, 0.7, 0.1):
        moved = r + part * delta * (1.0 - 1e-15)
        exact = moved - r <= delta
        assert np.max(np.abs(table(r * r) - table(moved * moved))[exact]) <= bound


def test_modulus_of_nothing_is_nothing():
    assert {table.modulus(0.0) for table in TABLES} == {0.0}


@given(tables, binades)
def test_steepness_bounds_the_derivative(table, at):
    t = 2.0**at * dense(-0.5, 0.5)
    number = np.clip((t.view(np.int64) >> 47) - table.first, 0, len(table.pieces) - 1)
    u = ((t.view(np.int64) & (2**47 - 1) | 0x3FF0000000000000).view(np.float64) - 1.015625) * 64.0
    slope = sum(power * table.pieces[number, power] * u ** (power - 1) for power in range(1, 8))
    slope = np.abs(slope) * t * 64.0 / 2.0 ** np.floor(np.log2(t))
    assert np.all(slope <= table.steepness[number] * (1.0 + 1e-12))
    # And as a difference, where nothing jumps.
    near = t * (1.0 + 2.0**-20)
    same = number == np.clip((near.view(np.int64) >> 47) - table.first, 0, len(table.pieces) - 1)
    change = np.abs(table(near) - table(t))[same]
    assert np.all(change <= 2.0**-20 * table.steepness[number[same]] * (1.0 + 2e-5) + 4e-16)


@pytest.mark.parametrize("table", TABLES, ids=range(len(TABLES)))
def test_single_is_off_by_no_more_than_it_says(table):
    t = dense(-40.0, 20.0, 40_000)
    number = np.clip((t.view(np.int64) >> 47) - table.first, 0, len(table.pieces) - 1)
    u = ((t.view(np.int64) & (2**47 - 1) | 0x3FF0000000000000).view(np.float64) - 1.015625) * 64.0
    pieces, error = table.single
    a = pieces[number].astype(np.float64)
    found = a[:, 0] + u * (a[:, 1] + u * (a[:, 2] + u * a[:, 3]))
    rounding = 2.0**-24 * np.sum(np.abs(a), axis=1)
    assert np.all(np.abs(found - table(t)) <= error + rounding + 1e-15)


@pytest.mark.parametrize("name", EXPRESSIONS)
@settings(max_examples=25)
@given(step=st.floats(-25.0, 4.0), seed=st.integers(0, 2**31))
def test_bounds_of_expressions(name, step, seed):
    """One coordinate per group, so that distances in groups are what they are chosen to be."""
    rng, delta = np.random.default_rng(seed), 2.0**step
    e = EXPRESSIONS[name]
    groups = 1 + max(int(e.factor_group.max()), int(e.rescale_group.max()))
    e = type(e)(np.arange(1, groups + 1), *(getattr(e, key) for key in (
        "term_stop", "weight", "factor_group", "factor_table", "rescale_group", "rescale_table", "table_first",
        "table_stop", "pieces", "error",
    )))  # fmt: skip
    scale = rng.choice([delta, 0.1, 1.0, 5.0], size=(300, groups))
    # Some groups stay where they are.
    still = rng.integers(0, 2, size=(300, groups))
    r = rng.exponential(size=(300, groups)) * scale * rng.integers(0, 2, size=(300, groups))
    moved = np.abs(r + still * delta * rng.choice([-1.0, 1.0, 0.5], size=r.shape) * (1.0 - 1e-12))
    zero = np.zeros(groups)
    values, others = e(r, zero), e(moved, zero)
    assert np.max(np.abs(values - others)) <= e.modulus(delta) + 1e-15
    least = float(np.min(r[-1]))
    far = np.maximum(r, least)
    assert np.max(np.abs(e(far, zero))) <= e.beyond(least * least) + 1e-15
    factor = 1.0 + 2.0**-12
    change = np.abs(e(r * np.sqrt(factor), zero) - values)
    assert np.max(change) <= 2.0**-12 * e.steepness * 1.01 + 1e-14
    # Not far from what single precision has, as the bound says.
    assert e.single_error() < 1e-2


def test_bounds_of_kernels_follow():
    """Those of kernels that are closed forms, of which nobody makes tables."""
    for kernel in EVERY:
        for r in (0.1, 1.0, 3.0):
            assert kernel.beyond(r) <= 1.0 + 1e-12
            assert kernel.modulus(r) >= 0.0
    assert cx.Periodic().beyond(1.0) == cx.RBF().beyond(1.0)

"""Telemetry: one schema, and a checker that names the field that breaks it."""

import json

import numpy as np
import pytest

import covertreex as cx
from covertreex.backends.telemetry import (
    COUNTERS,
    TOTALS,
    BlockRecord,
    Telemetry,
    check_line,
    merge_counters,
    merge_totals,
)


def sound_record():
    """A telemetry line, parsed."""
    counters = dict.fromkeys(TOTALS, 3) | {"stop_exhausted": 1, "stop_kth_frontier": 4, "stop_budget": 0}
    record = BlockRecord("spy", "parity", "search", block=0, queries=5, k=2, seconds=0.25, counters=counters)
    return json.loads(record.to_json())


def test_sound_line_passes():
    record = sound_record()
    assert check_line(json.dumps(record)) == record
    assert record["schema"] == "covertreex.telemetry"
    assert record["version"] == 3


WRONG = [
    ("schema", "other", "schema must be 'covertreex.telemetry', got 'other'"),
    ("version", 2, "version must be 3, got 2"),
    ("backend", 3, "backend must be of type str, got 3"),
    ("profile", None, "profile must be of type str, got None"),
    ("verb", "walk", "verb must be 'search' or 'scan', got 'walk'"),
    ("verb", 1, "verb must be of type str"),
    ("block", -1, "block must be finite and not negative, got -1"),
    ("block", 0.5, r"block must be of type int, got 0\.5"),
    ("queries", True, "queries must be of type int, got True"),
    ("queries", 6, r"the stops add up to queries \(6\), got 5"),
    ("k", "2", "k must be of type int, got '2'"),
    ("k", -2, "k must be finite and not negative"),
    ("seconds", "fast", "seconds must be of type float, got 'fast'"),
    ("seconds", -0.1, "seconds must be finite and not negative"),
    ("seconds", float("nan"), "seconds must be finite.*got nan"),
    ("pass_number", 0, "pass_number must be 1 or more, got 0"),
    ("pass_number", 2, "the stops add up to 0 after the first pass, got 5"),
    ("screened_by", 0, "screened_by must be of type str, got 0"),
    ("counters", [], "counters must be an object with distance_evals"),
    ("counters", {}, "counters must be an object with distance_evals"),
    ("colour", "red", "no field must be outside the schema, got 'colour'"),
]


@pytest.mark.parametrize(("field", "value", "message"), WRONG, ids=[f"{f}={v}" for f, v, _ in WRONG])
def test_wrong_field_is_named(field, value, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        check_line(json.dumps({**sound_record(), field: value}))


@pytest.mark.parametrize("field", sorted(set(sound_record())))
def test_missing_field_is_named(field):
    record = sound_record()
    del record[field]
    with pytest.raises(cx.InvalidInputError, match=f"{field} must be .*got None"):
        check_line(json.dumps(record))


@pytest.mark.parametrize("name", TOTALS)
@pytest.mark.parametrize("value", [-1, 1.0, "1", None, True])
def test_wrong_counter_is_named(name, value):
    record = sound_record()
    record["counters"][name] = value
    with pytest.raises(cx.InvalidInputError, match=rf"counters\.{name} must be a whole number"):
        check_line(json.dumps(record))


@pytest.mark.parametrize(
    ("line", "message"),
    [("", "not JSON"), ("{", "not JSON"), ("[]", "must be a JSON object, got list"), ("3", "object, got int")],
)
def test_line_that_is_no_record(line, message):
    with pytest.raises(cx.InvalidInputError, match=message):
        check_line(line)


# ---------------------------------------------------------------------------------------------------------------------
# Merging


def test_merge_adds_up_but_for_the_peak():
    counters = np.arange(2 * len(COUNTERS)).reshape(2, -1)
    merged = merge_counters(counters)
    assert tuple(merged) == TOTALS
    for column, name in enumerate(COUNTERS):
        expected = counters[:, column].max() if name == "frontier_peak" else counters[:, column].sum()
        assert merged[name] == expected
        assert type(merged[name]) is int


def test_merge_does_not_depend_on_blocks(rng):
    counters = rng.integers(0, 100, size=(20, len(COUNTERS)))
    parts = [merge_counters(part) for part in np.array_split(counters, 6)]
    assert merge_totals(parts) == merge_counters(counters)


def test_merge_of_nothing_is_zero():
    nothing = dict.fromkeys(TOTALS, 0)
    assert merge_totals([]) == merge_counters(np.zeros((0, len(COUNTERS)), dtype=np.int64)) == nothing


# ---------------------------------------------------------------------------------------------------------------------
# Lines from real searches


@pytest.fixture(scope="module")
def tree():
    X = np.random.default_rng(0).normal(size=(300, 2))
    return cx.cover_tree(X, kernel=cx.Matern32(), inducing=10)


@pytest.mark.parametrize("profile", ["parity", "exact"])
def test_lines_of_a_search(tree, backend, profile):
    telemetry = tree.search(4, settings=profile, backend=backend).telemetry
    text = telemetry.to_jsonl()
    assert text.endswith("\n")
    records = [check_line(line) for line in text.splitlines()]
    assert len(records) == len(telemetry.blocks) >= (1 if profile == "exact" else 2)
    assert [record["block"] for record in records] == list(range(len(records)))
    assert sum(record["queries"] for record in records) == 300
    assert tuple(record["queries"] for record in records) == telemetry.block_sizes
    assert {(record["backend"], record["profile"], record["k"]) for record in records} == {(backend, profile, 4)}
    assert merge_totals(record["counters"] for record in records) == telemetry.counters
    assert all(type(value) is int for value in telemetry.counters.values())
    assert telemetry.seconds > 0.0


def test_no_lines_without_telemetry(tree):
    telemetry = tree.search(4, settings=cx.PARITY.replace(telemetry=False), backend="cython").telemetry
    assert telemetry.blocks == telemetry.block_sizes == ()
    assert telemetry.to_jsonl() == ""
    assert telemetry.counters == tree.search(4, settings="parity", backend="cython").telemetry.counters


def test_nothing_to_say_about_no_queries():
    telemetry = Telemetry(counters=merge_totals([]), seconds=0.0, n_threads=1)
    assert telemetry.to_jsonl() == ""

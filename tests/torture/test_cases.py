"""Cases drawn at random over the whole range of what can be asked: right or refused, never wrong."""

import collections

import cases
import pytest
from sizes import size

#: The first case; each part has its own stretch of numbers.
PARTS = 6

#: Most cases that may be refused, as a share: half have a coordinate scale from 1e-150 to 1e150.
MOST_REFUSED = 0.4


@pytest.fixture(scope="module")
def verdicts():
    """(seed, verdict, features) of all cases that ran so far."""
    return []


@pytest.mark.parametrize("part", range(PARTS))
def test_right_or_refused(part, verdicts, tmp_path):
    backends = cases.installed()
    count = size(300, 10_000) // PARTS
    found = [(seed, *cases.judge(seed, backends, tmp_path)) for seed in range(part * count, (part + 1) * count)]
    verdicts += found
    wrong = [(seed, v.reason) for seed, v, _ in found if v.kind == "wrong"]
    assert not wrong, (
        f"{len(wrong)} of {count} cases are wrong; python tests/torture/run.py --cases 1 --seed SEED\n{wrong}"
    )
    refused = [(seed, v.reason) for seed, v, _ in found if v.kind == "refused" and v.ordinary]
    assert not refused, f"ordinary cases are refused: {refused}"


def test_few_are_refused(verdicts):
    if not verdicts:
        pytest.skip("no case ran in this process")
    reasons = collections.Counter(v.reason for _, v, _ in verdicts if v.kind == "refused")
    assert sum(reasons.values()) <= MOST_REFUSED * len(verdicts), reasons


def test_fast_finds_nearly_all(verdicts):
    total = sum(v.total for _, v, _ in verdicts)
    if not total:
        pytest.skip("no fast search ran in this process")
    assert sum(v.hits for _, v, _ in verdicts) >= 0.999 * total

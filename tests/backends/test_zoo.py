"""The conformance kit fails bad backends, each by the check that is there for it, and passes good ones."""

import pytest
from zoo import PARENTS, ZOO, Beast, failures

from covertreex.testing import CHECKS, check_backend

NAMED = {check.__name__: check for check in CHECKS}

#: What no broken backend can show: it is about a backend that is installed.
NEEDS_AN_INSTALLATION = {"check_public_face"}


@pytest.mark.parametrize("name", PARENTS)
def test_healthy_parent_passes_everything(name):
    # The template is slow, and CI runs the whole kit on it once it is installed.
    checks = [check for check in CHECKS if name != "template" or getattr(check, "level", "L0") == "S"]
    report = check_backend(PARENTS[name](), checks=checks)
    assert len(report.outcomes) == len(checks)
    claimed = PARENTS[name]().capabilities.claimed
    others = {check.__name__ for check in CHECKS if getattr(check, "level", "L0") not in claimed}
    assert {one.check for one in report.outcomes if one.status != "passed"} <= NEEDS_AN_INSTALLATION | others


@pytest.mark.parametrize("beast", ZOO, ids=lambda beast: beast.name)
def test_broken_backend_is_caught(beast):
    assert list(failures(beast, [NAMED[beast.caught_by]])) == [beast.caught_by]


def test_names_are_unique():
    assert len({beast.name for beast in ZOO}) == len(ZOO)


@pytest.mark.slow
def test_every_check_catches_something():
    # Each catches the beast that names it: `test_broken_backend_is_caught`.
    unused = set(NAMED) - NEEDS_AN_INSTALLATION - {beast.caught_by for beast in ZOO}
    for beast in ZOO:
        unused -= set(failures(beast, [NAMED[name] for name in sorted(unused)]))
    assert not unused


def test_a_healthy_backend_is_no_beast():
    assert failures(Beast("cython", PARENTS["cython"], "", ""), CHECKS[:3]) == {}

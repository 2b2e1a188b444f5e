"""The conformance kit's own machinery: running, reporting, expecting failures, pytest. That it catches: test_zoo.py."""

import io
import re
import subprocess
import sys
import unittest

import numpy as np
import pytest

import covertreex as cx
from covertreex import testing
from covertreex.backends.telemetry import COUNTERS
from covertreex.testing import CHECKS, CheckFailure, ConformanceError, ReferenceBackend, check_backend
from covertreex.testing.cases import (
    expect_answer,
    expect_counters,
    hand_made_tree,
    make_plan,
    nearest_runs_first,
    search,
    spaces,
)
from covertreex.testing.reference import make_queries, sealed

FEW = CHECKS[:2]


def passes(backend):
    """Passes."""


def fails(backend):
    """Fails."""
    raise CheckFailure("it is not right.")


def raises(backend):
    """Raises."""
    raise KeyError("lost")


def skips(backend):
    """Has nothing to say."""
    raise unittest.SkipTest("nothing to say")


def run(*checks, **options):
    """The report on the cython backend and what was printed."""
    stream = io.StringIO()
    try:
        report = check_backend("cython", checks=checks, stream=stream, **options)
    except ConformanceError as error:
        report = error.report
    return report, stream.getvalue()


@pytest.fixture
def listed(monkeypatch):
    """The checks of this module, taken into the kit's list."""
    monkeypatch.setattr(testing.runner, "CHECKS", [*CHECKS, passes, fails, raises, skips])


class TestChecks:
    def test_are_many_named_and_described(self):
        names = [check.__name__ for check in CHECKS]
        assert len(set(names)) == len(names) >= 40
        for check in CHECKS:
            assert check.__name__.startswith("check_")
            assert check.__doc__.strip().endswith(".")
            assert "\n" not in check.__doc__


class TestCheckBackend:
    def test_takes_a_name_or_an_object(self, capsys):
        assert check_backend("cython", checks=FEW).backend == "cython"
        assert check_backend(ReferenceBackend(), checks=FEW).backend == "reference"
        assert capsys.readouterr().out.count("2 conformance checks ran") == 2

    def test_unknown_name(self):
        with pytest.raises(cx.BackendError, match="unknown backend 'nope'"):
            check_backend("nope")

    def test_something_that_is_no_backend(self):
        with pytest.raises(ConformanceError, match="its name is None"):
            check_backend(object(), checks=CHECKS[:1], stream=io.StringIO())

    def test_failure_names_check_and_reason(self):
        with pytest.raises(ConformanceError, match=r"failed: fails: it is not right") as caught:
            check_backend("cython", checks=[passes, fails], stream=io.StringIO())
        assert isinstance(caught.value, (AssertionError, cx.CovertreexError))
        assert caught.value.report.failures == {"fails": "it is not right."}

    def test_all_checks_run_after_a_failure(self):
        report, printed = run(fails, raises, skips, passes)
        assert [one.status for one in report.outcomes] == ["failed", "failed", "not applicable", "passed"]
        assert "3 conformance checks ran" in printed
        assert "raises: it raised KeyError: 'lost'" in printed
        assert "skips: nothing to say" in printed

    @pytest.mark.usefixtures("listed")
    def test_expected_failures(self):
        report, printed = run(passes, fails, raises, expected_failures={"fails": "known", "raises": "known, too"})
        assert report.passed
        assert "2 failed as expected" in printed
        assert "known (it is not right.)" in printed

    @pytest.mark.usefixtures("listed")
    def test_expected_failures_are_strict(self):
        report, printed = run(passes, fails, expected_failures={"passes": "broken last year", "fails": "known"})
        assert list(report.failures) == ["passes"]
        assert "unexpectedly passed: passes: it was expected to fail: broken last year" in printed

    @pytest.mark.parametrize(
        ("expected", "message"),
        [({"check_nothing": "?"}, "no check; the checks are"), ({"check_ties": " "}, "no reason for 'check_ties'")],
    )
    def test_expected_failures_are_validated(self, expected, message):
        with pytest.raises(cx.InvalidInputError, match=message):
            check_backend("cython", expected_failures=expected)


class TestComparisons:
    """What failed, where, what came out and what should have."""

    def test_answers(self):
        space = spaces(10)[0]
        out = search(ReferenceBackend(), space, space.queries(), 3)
        indices, distances = out.indices.copy(), out.distances.copy()
        expect_answer("here", out, indices, distances)
        distances[4, 1] = np.nextafter(distances[4, 1], 9.0)
        with pytest.raises(CheckFailure, match=r"here: 1 of 10 queries .* Query 4, place 1: got index \d+ at distance"):
            expect_answer("here", out, indices, distances)

    def test_counters(self):
        space = spaces(10)[0]
        out = search(ReferenceBackend(), space, space.queries(), 3)
        counters = out.counters.copy()
        expect_counters("here", out, counters)
        counters[2, COUNTERS.index("yields")] += 1
        with pytest.raises(CheckFailure, match=r"here: counters differ .*\(yields\)\. Query 2: yields is"):
            expect_counters("here", out, counters)


class TestCases:
    def test_hand_made_tree_is_what_the_engine_would_flatten(self):
        for space in spaces(50):
            tree, built = hand_made_tree(space.payload, space.tree.parent), space.tree
            for name in ("parent", "child_ptr", "children", "parent_distance", "si"):
                assert np.array_equal(getattr(tree, name), getattr(built, name)), name

    def test_plans_cover_every_row_in_valid_order(self):
        space = spaces(50)[2]
        plan = nearest_runs_first(space.payload, space.queries(), [20, 0, 30], 8)
        assert plan.group_ptr.tolist() == [0, 20, 20, 50]
        for start, stop in zip(plan.run_ptr, plan.run_ptr[1:], strict=False):
            assert np.all(np.diff(plan.run_lower[start:stop]) >= 0.0)
            assert int(np.sum(plan.run_stop[start:stop] - plan.run_start[start:stop])) == 50

    def test_inputs_are_sealed(self):
        space = spaces(10)[0]
        block = make_queries(space.payload, range(10))
        plan = make_plan(block, [(10, [(0, 10)])])
        assert sealed(plan) is plan
        for array in (block.rows, block.limit, plan.run_start, plan.kth_upper):
            assert not array.flags.writeable


def shell(*arguments, cwd):
    """Run Python with these arguments."""
    return subprocess.run([sys.executable, *arguments], cwd=cwd, text=True, capture_output=True, timeout=300)


class TestCommandLine:
    def test_without_a_name_lists_the_checks(self, tmp_path):
        done = shell("-m", "covertreex.testing", cwd=tmp_path)
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == len(CHECKS)
        assert "check_ties: Equal distances" in done.stdout

    def test_unknown_backend(self, tmp_path):
        done = shell("-m", "covertreex.testing", "nope", cwd=tmp_path)
        assert done.returncode == 1
        assert "unknown backend 'nope'" in done.stderr

    @pytest.mark.slow
    def test_checks_a_backend(self, tmp_path):
        done = shell("-m", "covertreex.testing", "cython", cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        claimed = cx.get_backend("cython").capabilities.claimed
        ran = sum(getattr(check, "level", "L0") in claimed for check in CHECKS)
        assert f"{ran} conformance checks ran" in done.stdout


PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


class TestPytest:
    def test_runs_from_anywhere(self, tmp_path):
        options = ("--pyargs", "covertreex.testing", "--backend", "cython", "-k", "ties or protocol")
        done = shell(*PYTEST, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        assert "backend 'cython': 2 conformance checks ran: 2 passed, 0 failed" in done.stdout

    def test_several_backends(self, tmp_path):
        options = ("--pyargs", "covertreex.testing", "--backend=cython", "--backend=numba", "-k", "protocol")
        done = shell(*PYTEST, *options, cwd=tmp_path)
        assert re.findall(r"backend '(\w+)': 1 conformance", done.stdout) == ["cython", "numba"]

    def test_unknown_backend(self, tmp_path):
        done = shell(*PYTEST, "--pyargs", "covertreex.testing", "--backend", "nope", cwd=tmp_path)
        assert done.returncode != 0
        assert "unknown backend 'nope'; installed: " in done.stdout

    def test_beside_a_conftest_with_the_same_option(self, tmp_path):
        (tmp_path / "conftest.py").write_text(
            "def pytest_addoption(parser): parser.addoption('--backend', action='append')"
        )
        done = shell(*PYTEST, "--pyargs", "covertreex.testing", "--backend=cython", "-k", "protocol", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_plugin_leaves_other_projects_alone(self, tmp_path):
        (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass")
        done = shell(*PYTEST, "--backend", "cython", cwd=tmp_path)
        assert "unrecognized arguments: --backend" in done.stderr

    def test_parametrize_with_checks(self, tmp_path):
        (tmp_path / "test_mine.py").write_text(
            "from covertreex.testing import ReferenceBackend, parametrize_with_checks\n"
            "@parametrize_with_checks('cython', expected_failures={'check_protocol': 'it is said to fail'})\n"
            "def test_mine(backend, check): check(backend)\n"
        )
        done = shell(*PYTEST, "test_mine.py", "-k", "protocol or padding or every_k", cwd=tmp_path)
        assert "1 failed, 2 passed" in done.stdout
        assert "[XPASS(strict)] it is said to fail" in done.stdout

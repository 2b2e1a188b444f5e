"""Running the checks: `check_backend` and its report; `parametrize_with_checks` for pytest."""

import sys
import time
import unittest
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from covertreex.backends import registry
from covertreex.errors import CovertreexError, InvalidInputError
from covertreex.protocols import Traversal
from covertreex.testing.checks import CHECKS

if TYPE_CHECKING:
    import pytest

#: A function that takes a backend and raises where it does not keep the contract.
Check: TypeAlias = Callable[[Any], None]

_UNEXPECTED = ("failed", "unexpectedly passed")


class ConformanceError(CovertreexError, AssertionError):
    """A backend does not conform; `report` says why.

    Parameters
    ----------
    report : Report

    Examples
    --------
    >>> issubclass(ConformanceError, AssertionError)
    True
    """

    def __init__(self, report: "Report") -> None:
        self.report = report
        super().__init__(str(report))


@dataclass(frozen=True)
class Outcome:
    """One check's outcome.

    Attributes
    ----------
    check : str
        Its name.
    status : {'passed', 'failed', 'failed as expected', 'unexpectedly passed', 'not applicable'}
    reason : str
        Why it failed, or why it does not apply; empty if it passed.
    seconds : float

    Examples
    --------
    >>> Outcome("check_ties", "passed", "", 0.1).status
    'passed'
    """

    check: str
    status: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """What `check_backend` found.

    Attributes
    ----------
    backend : str
    outcomes : tuple of Outcome
        In the order in which the checks ran.

    Examples
    --------
    >>> Report("mine", (Outcome("check_ties", "failed", "order", 0.1),)).passed
    False
    """

    backend: str
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """bool: whether nothing unexpected happened."""
        return not self.failures

    @property
    def failures(self) -> dict[str, str]:
        """dict of str to str: the reason of each check that failed, or passed against expectation."""
        return {one.check: one.reason for one in self.outcomes if one.status in _UNEXPECTED}

    def __str__(self) -> str:
        ran = [one for one in self.outcomes if one.status != "not applicable"]
        counts: dict[str, int] = {}
        for one in self.outcomes:
            counts[one.status] = counts.get(one.status, 0) + 1
        parts = ", ".join(f"{count} {status}" for status, count in counts.items())
        seconds = sum(one.seconds for one in self.outcomes)
        lines = [f"backend {self.backend!r}: {len(ran)} conformance checks ran in {seconds:.1f} s: {parts or 'none'}"]
        lines += [f"  {one.status}: {one.check}: {one.reason}" for one in self.outcomes if one.reason]
        return "\n".join(lines)


def check_backend(
    backend: str | Traversal,
    *,
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[Check] | None = None,
    stream: TextIO | None = None,
) -> Report:
    """Check that a backend keeps the contract of docs/architecture.md.

    Parameters
    ----------
    backend : str or Traversal
        The name of an installed backend, or a backend.
    expected_failures : dict of str to str, optional
        Checks that are known to fail, each with the reason. Strict: if one of them passes, that is a failure.
    checks : sequence of callable, optional
        Some of `covertreex.testing.CHECKS`; all by default.
    stream : file, optional
        Where the report is printed; standard output by default.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        If a check fails that is not expected to, or passes that is. It carries the report.
    BackendError
        If no backend of that name works.
    InvalidInputError
        If `expected_failures` names an unknown check or gives no reason.

    Examples
    --------
    >>> from covertreex.testing import CHECKS, check_backend
    >>> report = check_backend("cython", checks=CHECKS[:1])  # doctest: +ELLIPSIS
    backend 'cython': 1 conformance checks ran in ... s: 1 passed
    >>> report.passed
    True
    """
    backend = resolve(backend)
    checks = CHECKS if checks is None else checks
    expected = _check_expected(expected_failures)
    outcomes = tuple(_run(check, backend, expected.get(check.__name__)) for check in checks)
    report = Report(str(getattr(backend, "name", backend)), outcomes)
    print(report, file=sys.stdout if stream is None else stream)
    if not report.passed:
        raise ConformanceError(report)
    return report


def resolve(backend: str | Traversal) -> Traversal:
    """The backend of that name, or the object itself."""
    return registry.get_backend(backend) if isinstance(backend, str) else backend


def _check_expected(expected_failures: Mapping[str, str] | None) -> dict[str, str]:
    expected = dict(expected_failures or {})
    names = [check.__name__ for check in CHECKS]
    for name, reason in expected.items():
        if name not in names:
            raise InvalidInputError(
                f"expected_failures names {name!r}, which is no check; the checks are {', '.join(names)}."
            )
        if not isinstance(reason, str) or not reason.strip():
            raise InvalidInputError(f"expected_failures gives no reason for {name!r}; say why it fails.")
    return expected


def _run(check: Check, backend: Traversal, expected: str | None) -> Outcome:
    clock = time.perf_counter()
    status, reason = "passed", ""
    try:
        check(backend)
    except unittest.SkipTest as skip:
        status, reason = "not applicable", str(skip)
    except AssertionError as failure:
        status, reason = "failed", str(failure)
    except Exception as error:  # whatever a backend raises is its failure, not the kit's
        status, reason = "failed", f"it raised {type(error).__name__}: {error}"
    if expected is not None:
        if status == "failed":
            status, reason = "failed as expected", f"{expected} ({reason})"
        elif status == "passed":
            status, reason = "unexpectedly passed", f"it was expected to fail: {expected}. Take it off the list"
    return Outcome(check.__name__, status, reason, time.perf_counter() - clock)


def parametrize_with_checks(
    backend: str | Traversal, expected_failures: Mapping[str, str] | None = None
) -> "pytest.MarkDecorator":
    """Decorate a test function so that pytest runs it once per check.

    Parameters
    ----------
    backend : str or Traversal
    expected_failures : dict of str to str, optional
        As for `check_backend`; they become strict xfails.

    Returns
    -------
    callable
        A decorator for functions of `backend` and `check`.

    Examples
    --------
    >>> @parametrize_with_checks("cython")
    ... def test_conformance(backend, check):
    ...     check(backend)
    """
    import pytest

    expected = _check_expected(expected_failures)
    backend = resolve(backend)
    parameters = []
    for check in CHECKS:
        reason = expected.get(check.__name__)
        marks = () if reason is None else (pytest.mark.xfail(reason=reason, strict=True),)
        parameters.append(pytest.param(backend, check, marks=marks, id=f"{backend.name}-{check.__name__}"))
    return pytest.mark.parametrize(("backend", "check"), parameters)

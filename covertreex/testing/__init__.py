"""The conformance kit: does a backend keep the contract of docs/architecture.md?

From Python::

    from covertreex.testing import check_backend
    check_backend("mine")

from a shell ``python -m covertreex.testing mine``, and with pytest
``pytest --pyargs covertreex.testing --backend mine``.

`CHECKS` lists the checks: functions that take a backend, with a name and a line that says what each is about.
"""

from covertreex.testing.cases import CheckFailure
from covertreex.testing.checks import CHECKS
from covertreex.testing.reference import ReferenceBackend
from covertreex.testing.runner import ConformanceError, Outcome, Report, check_backend, parametrize_with_checks

__all__ = [
    "CHECKS",
    "CheckFailure",
    "ConformanceError",
    "Outcome",
    "ReferenceBackend",
    "Report",
    "check_backend",
    "parametrize_with_checks",
]

"""Every check on every backend that the command line names: ``pytest --pyargs covertreex.testing --backend NAME``."""

import pytest

from covertreex.backends import registry
from covertreex.errors import BackendError
from covertreex.testing.checks import CHECKS
from covertreex.testing.conftest import PROPERTY


def pytest_generate_tests(metafunc):
    """One test per backend and check; without ``--backend``, all backends that are installed and work."""
    if "check" not in metafunc.fixturenames:
        return
    names = metafunc.config.getoption("--backend", None) or [
        info.name for info in registry.list_backends(load=True) if info.status == "ok"
    ]
    try:
        backends = [registry.get_backend(name) for name in names]
    except BackendError as error:
        raise pytest.UsageError(str(error)) from None
    cases = [
        pytest.param(backend, check, id=f"{backend.name}-{check.__name__}") for backend in backends for check in CHECKS
    ]
    metafunc.parametrize(("backend", "check"), cases)


def test_conformance(backend, check, record_property):
    """One check on one backend."""
    record_property(PROPERTY, backend.name)
    check(backend)

"""The pytest plugin of the kit: ``--backend``, known in time when pytest is asked for ``covertreex.testing``.

pytest reads the options of a package's conftest too late for a command line with ``--pyargs``; a plugin is in time.
The option is added for such a command line alone, so that it can disturb no other project's.
"""

from collections.abc import Generator
from typing import Any

import pytest

#: What a command line names to run the kit.
_TARGETS = ("covertreex.testing", "covertreex.testing.test_backend")


def add_backend_option(parser: pytest.Parser) -> None:
    """Add ``--backend``, unless another conftest has it already."""
    try:
        parser.addoption(
            "--backend",
            action="append",
            metavar="NAME",
            help="run on this backend (repeatable; default: all that are installed and work)",
        )
    except ValueError as error:
        if "already added" not in str(error):
            raise


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> Generator[None, Any, Any]:
    """Conftests first: one of them may have the option."""
    result = yield
    if any(str(argument).partition("::")[0] in _TARGETS for argument in args):
        add_backend_option(parser)
    return result

"""``python -m covertreex.testing NAME ...``: run the conformance kit on backends."""

import argparse
import sys

from covertreex.errors import BackendError
from covertreex.testing import CHECKS, ConformanceError, check_backend


def main() -> int:
    """Check the backends that the command line names; the exit status is 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m covertreex.testing", description="Check backends for conformance.")
    parser.add_argument("backend", nargs="*", metavar="NAME", help="an installed backend; without one, list the checks")
    names = parser.parse_args().backend
    if not names:
        for check in CHECKS:
            level = getattr(check, "level", "L0")
            print(f"{check.__name__}: {check.__doc__} [{level}]")
    status = 0
    for name in names:
        try:
            check_backend(name)
        except ConformanceError:
            status = 1
        except BackendError as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())

"""How much to try: a little in CI, a lot at night."""

import os


def size(ci, nightly):
    """`ci`, or `nightly` where ``COVERTREEX_TORTURE=nightly``."""
    return nightly if os.environ.get("COVERTREEX_TORTURE") == "nightly" else ci

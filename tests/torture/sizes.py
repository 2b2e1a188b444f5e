"""How much is enough: a little in CI, a lot at night (``COVERTREEX_TORTURE=nightly``)."""

import os


def size(ci, nightly):
    return nightly if os.environ.get("COVERTREEX_TORTURE") == "nightly" else ci

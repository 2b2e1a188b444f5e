"""How much to torture: little in every run, all of it with ``COVERTREEX_TORTURE=nightly``."""

import os


def size(ci, nightly):
    return nightly if os.environ.get("COVERTREEX_TORTURE") == "nightly" else ci

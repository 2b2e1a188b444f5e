"""How much a torture test does: little in every run, much at night (COVERTREEX_TORTURE=nightly)."""

import os


def size(ci, nightly):
    return nightly if os.environ.get("COVERTREEX_TORTURE") == "nightly" else ci

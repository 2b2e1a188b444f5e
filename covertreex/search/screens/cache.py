"""The screens of a payload, each made once; and which of them a search should use.

What is chosen depends on the payload, the settings and the question alone, never on what was asked before.
"""

import numpy as np
from numpy.typing import NDArray

from covertreex.base import tuning
from covertreex.data.payload import PayloadStore
from covertreex.protocols import QueryBlock
from covertreex.search.screens.eight import eight_pay, make_eight, may_be_eight
from covertreex.search.screens.mixed import make_mixed
from covertreex.search.screens.pairs import PairSample
from covertreex.search.screens.plain import Screen, make_screen
from covertreex.search.screens.sixteen import make_sixteen
from covertreex.settings import TraversalSettings


def sharp(payload: PayloadStore) -> Screen | None:
    """The screen in float64, which shares the factors; None where p is too small for that, and for Euclidean."""
    return payload.kept.get("float64", lambda: make_screen(payload, np.float64))


def surely_sharp(payload: PayloadStore) -> Screen:
    """`sharp`, of a payload that has a screen of any kind: where float32 is fine enough, float64 is."""
    screen = sharp(payload)
    assert screen is not None
    return screen


def single(payload: PayloadStore, n_threads: int = 1) -> Screen | None:
    """The screen in float32, of factors in sixteen bits where these are fine enough; None where neither is."""
    made: Screen | None = payload.kept.get("16 bits", lambda: make_sixteen(payload, n_threads))
    if made is None:
        made = payload.kept.get("float32", lambda: make_screen(payload, np.float32, n_threads))
    return made


def first_choice(payload: PayloadStore, settings: TraversalSettings, total: int, n_threads: int = 1) -> Screen | None:
    """The screen that a search for `total` queries begins with; None for none."""
    if settings.gate and total >= tuning.WORTH_COPYING:
        screen = single(payload, n_threads)
        if screen is not None:
            return screen
    return sharp(payload) if settings.gemm else None


def for_sweep(
    payload: PayloadStore, screen: Screen, queries: QueryBlock, start: NDArray[np.float64], n_threads: int = 1
) -> Screen:
    """What queries that begin with `screen` see all rows through: eight bits where they pay, else the same.

    The k-th best ``|rho|`` of each is sure to reach `start`.

    Not with a recall target: the basis of eight bits comes from LAPACK, its last digits from the machine.
    """
    if screen.dtype is np.float64 or len(queries) < tuning.WORTH_EIGHT * payload.factors.shape[1]:
        return screen
    if not may_be_eight(payload) or not eight_pay(screen, PairSample.of_sweep(payload, queries, start)):
        return screen
    made: Screen | None = payload.kept.get("eight bits", lambda: make_eight(screen, n_threads))
    return screen if made is None else made


def mixed_or_sharp(payload: PayloadStore, settings: TraversalSettings, total: int, n_threads: int = 1) -> Screen:
    """A mixed screen (C5) where it pays for `total` queries, else the one in float64, of a payload that has a screen.

    Not for one pass with a recall target: where that stops must not depend on whether it whitens.
    """
    if settings.gate and total >= tuning.WORTH_MIXING:
        made = payload.kept.get("mixed", lambda: make_mixed(surely_sharp(payload), n_threads))
        if made is not None:
            return made
    return surely_sharp(payload)

"""A screen and the queries that look through it."""

import numpy as np
from numpy.typing import NDArray

from covertreex._core.screen import Lens, Screener
from covertreex.protocols import QueryBlock
from covertreex.search.context import SearchContext
from covertreex.search.screens.cache import surely_sharp
from covertreex.search.screens.plain import Screen, blind


class View:
    """The data of a search as a screen sees it, for the queries of one block, in whatever order these come.

    Attributes
    ----------
    screen : Screen
    outside : Outside
        What the screen needs of queries that are no rows of the payload.
    """

    def __init__(self, context: SearchContext, screen: Screen, queries: QueryBlock) -> None:
        self._context, self.screen, self.outside = context, screen, screen.of_queries(queries)

    def blind_to(self, queries: QueryBlock) -> NDArray[np.bool_]:
        """Which of these queries it tells nothing of, for so little is left of their variance: it can drop no row."""
        rows = queries.rows
        if self.screen.blur == 0.0:
            return np.zeros(len(rows), dtype=bool)
        scale = np.empty(len(rows))
        scale[rows >= 0] = self.screen.scale[rows[rows >= 0]]
        scale[rows < 0] = self.outside.scale[-1 - rows[rows < 0]]
        return blind(scale, self.screen.scale, self.screen.blur)

    def lens(self, queries: QueryBlock, most: int) -> Lens:
        """One thread's lens for groups of at most `most` queries."""
        return self.screen.lens(queries, most, self.outside)

    def screener(self, queries: QueryBlock, most: int, k: int | None = None) -> Screener:
        """One thread's screener of such groups, for so many neighbours (as in `SearchContext.screener`).

        What it leaves in doubt it looks at again in float64, unless all within a threshold are wanted.
        """
        fine, float64 = self.screen.fine, surely_sharp(self._context.payload)
        lens = self.lens(queries, most)
        again = None if self.screen is float64 or k == 0 else float64.lens(queries, most)
        first = None if fine is None else again if fine is float64 and again else fine.lens(queries, most)
        return self._context.screener(lens, queries, most, first=first, again=again, k=k)

"""Sites: places at which there are several points, such as visits of one village."""

from functools import cached_property

import numpy as np

from covertreex.base.types import FloatArray, IntArray
from covertreex.data.payload import PayloadStore


class Sites:
    """Which points of a payload are at one place: at equal scaled coordinates. It holds these alone, and no factors.

    Parameters
    ----------
    coords : ndarray, shape (n, D)
        Scaled, in row order.
    row : ndarray, shape (n,)
        Row of each index.

    Examples
    --------
    >>> sites = Sites(np.array([[1.0], [5.0], [1.0]]), np.arange(3))
    >>> sites.numbers.tolist(), sites.largest
    ([0, 1, 0], 2)
    """

    def __init__(self, coords: FloatArray, row: IntArray) -> None:
        self._coords, self._row = coords, row

    @classmethod
    def of(cls, payload: PayloadStore) -> "Sites":
        """Those of a payload, made once."""
        sites: Sites = payload.kept.get("sites", lambda: cls(payload.coords, payload.row))
        return sites

    @cached_property
    def numbers(self) -> IntArray:
        """ndarray, shape (n,), int64: the site of each index of the payload, from 0."""
        order = np.lexsort(self._coords.T)
        fresh = np.zeros(len(order), dtype=bool)
        for column in self._coords.T:
            along = column[order]
            fresh[1:] |= along[1:] != along[:-1]
        numbers = np.empty(len(order), dtype=np.int64)
        numbers[order] = np.cumsum(fresh)
        return numbers[self._row]

    @cached_property
    def largest(self) -> int:
        """int: the most points of one site."""
        return int(np.bincount(self.numbers).max())


class SitesOfRows:
    """The sites of rows of X, which a payload may number otherwise.

    Parameters
    ----------
    sites : Sites
    held : ndarray or None
        As of `TreeState`.
    """

    def __init__(self, sites: Sites, held: IntArray | None) -> None:
        self._sites, self._held = sites, held

    def __call__(self, rows: IntArray) -> IntArray:
        """The site of each row; -1 for -1."""
        places = np.maximum(rows, 0)
        if self._held is not None:
            places = np.minimum(np.searchsorted(self._held, places), len(self._held) - 1)
        return np.where(rows >= 0, self._sites.numbers[places], -1)

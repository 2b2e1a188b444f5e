"""Columns of which there may be only so many: a function of distance may be a covariance in the plane only."""

from dataclasses import dataclass
from typing import Any

from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError


@dataclass(frozen=True)
class Limited:
    """As `columns`, of at most `most` scaled coordinates.

    Parameters
    ----------
    columns : Columns
    most : int
    kernel : str
        For the message.
    advice : str
        What to do about it.

    Examples
    --------
    >>> import numpy as np
    >>> from covertreex.kernels import Columns
    >>> Limited(Columns(2.0), 3, "Spherical", "Choose some.")(np.ones((1, 2))).tolist()
    [[0.5, 0.5]]
    """

    columns: Any
    most: int
    kernel: str
    advice: str

    def __call__(self, X: FloatArray) -> FloatArray:
        """Scaled coordinates, shape (n, D), of points (n, d)."""
        scaled: FloatArray = self.columns(X)
        if scaled.shape[1] > self.most:
            raise InvalidInputError(
                f"{self.kernel} is a covariance in at most {self.most} dimension{'s' if self.most > 1 else ''}, but "
                f"{scaled.shape[1]} columns are compared. {self.advice}"
            )
        return scaled

    def width(self, d: int) -> int:
        """How many scaled coordinates there are of points with `d` columns."""
        width: int = self.columns.width(d)
        return width

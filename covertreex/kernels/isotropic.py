"""Any function of distance as a kernel."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError
from covertreex.kernels.checks import positive
from covertreex.kernels.functions import Functions, Plain
from covertreex.kernels.stationary import Stationary
from covertreex.kernels.table import HIGHEST, LOWEST, TOLERANCE, Table, make_table

__all__ = ["Isotropic"]

#: A function is 0 where it stays below this, whatever it says beyond.
NOTHING = 1e-30

#: How near 1 a function has to come as the distance tends to 0: the first of these that it reaches.
NEARS = (2.0**-50, 2.0**-46, 2.0**-43, 2.0**-41)


@dataclass(frozen=True, init=False, eq=False)
class Isotropic(Stationary):
    """``variance * function(r)``, of any function of the scaled distance that is a correlation.

    The function is evaluated once, to make a table of it, which answers from then on, at the speed of other kernels; a
    function that no table follows to within 1e-12 is refused. Whether it is positive definite nobody
    checks: where it is not, factorisations fail, or correlations above 1 are cut. A pickled or stored kernel has its
    table and not the function.

    Parameters
    ----------
    function : callable or covertreex.kernels.Table
        Takes an array of distances above 0, in lengthscales, and returns as many correlations: tending to 1 as the
        distance tends to 0. It is called at distances from 1e-126 to 1e153; what it says far away is no matter once it
        has been below 1e-30, and it may say nan there. Near 0 rounding must not spoil it: `numpy.expm1` and
        `numpy.log1p` help.
    lengthscale, variance, active_dims
        See `Stationary`.
    name : str, optional
        For messages; by default the function's own.
    breakpoints : float or sequence of float, optional
        Scaled distances where the function is not smooth: where it has a kink, or ends. The table is cut there exactly
        for the smallest one, and for others whose squares are ``2**i * (1 + j / 32)`` times that one's, for integers.

    Raises
    ------
    InvalidInputError
        If the function does not tend to 1 at 0, is not finite, or is not smooth somewhere; the message says where.

    Examples
    --------
    >>> import numpy as np
    >>> from covertreex import Isotropic
    >>> kernel = Isotropic(lambda r: (1 + r) * np.exp(-r), lengthscale=2.0, name="Whittle")
    >>> kernel
    Isotropic(function=<Whittle>, lengthscale=2.0, variance=1.0)
    >>> triangle = Isotropic(lambda r: np.maximum(1 - r / 3, 0), breakpoints=3.0)
    >>> triangle([[0.0]], [[1.5], [4.0]]).tolist()
    [[0.5, 0.0]]
    """

    function: Callable[[FloatArray], Any] | Table = None  # type: ignore[assignment]  # which `__init__` asks for
    name: str | None = None
    breakpoints: tuple[float, ...] | None = None

    def __init__(
        self,
        function: Callable[[FloatArray], Any] | Table,
        lengthscale: Any = 1.0,
        variance: Any = 1.0,
        name: str | None = None,
        breakpoints: Any = None,
        **others: Any,
    ) -> None:
        given = {
            "function": function, "lengthscale": lengthscale, "variance": variance, "name": name,
            "breakpoints": breakpoints, **others,
        }  # fmt: skip
        for field in fields(self):
            object.__setattr__(self, field.name, given.pop(field.name, field.default))
        if given:
            raise TypeError(f"Isotropic() got an unexpected keyword argument {next(iter(given))!r}")
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise InvalidInputError(f"function must take an array of distances, got {self.function!r}.")
        if self.name is not None and not isinstance(self.name, str):
            raise InvalidInputError(f"name must be a word or None, got {self.name!r}.")
        if self.breakpoints is not None:
            given = np.ravel(np.asarray(self.breakpoints, dtype=object)).tolist()
            breaks = tuple(sorted(positive("breakpoints", value) for value in given)) or None
            object.__setattr__(self, "breakpoints", breaks)
        object.__setattr__(self, "_table", self._found())

    @property
    def shape_names(self) -> list[str]:
        return []

    @property
    def _unit(self) -> float:
        """The distance that the table has at t = 1."""
        return self.breakpoints[0] if self.breakpoints else 1.0

    @property
    def columns(self) -> Any:
        columns = super().columns
        if self._unit == 1.0:
            return columns
        scale = np.asarray(self.lengthscale) * self._unit
        return replace(columns, lengthscale=float(scale) if scale.ndim == 0 else _tuples(scale.tolist()))

    @property
    def table(self) -> Table:
        table: Table = vars(self)["_table"]
        return table

    def _found(self) -> Table:
        """The table, if the function has one already."""
        if isinstance(self.function, Table):
            return self.function
        try:
            known = _KNOWN.setdefault(self.function, {})
        except TypeError:  # no hash, or nothing that may be referred to weakly
            known = {}
        if self.breakpoints not in known:
            known[self.breakpoints] = self._make_table()
        return known[self.breakpoints]

    def _make_table(self) -> Table:
        unit, name = self._unit, _called(self)
        whole = Tame(self.function, unit, name)
        try:
            return make_table(whole, whole.above, name=name, near=whole.near, unit=unit)
        except InvalidInputError as error:
            if self.breakpoints is None or "breakpoints" not in str(error):
                raise
            head = str(error).partition(" If it has")[0]
            raise InvalidInputError(
                f"{head} It is cut at {self.breakpoints[0]:g} exactly, and at other breakpoints only if their squares "
                "are 2**i * (1 + j / 32) times that one's, for integers i and j."
            ) from None

    def tabulated(self, r2: FloatArray) -> FloatArray:
        return self.table(r2)

    def of_scaled(self, A: FloatArray, B: FloatArray) -> FloatArray:
        from scipy.spatial.distance import cdist

        return self.variance * self.correlation(cdist(A, B, "sqeuclidean") * self._unit**2)

    def correlation(self, r2: FloatArray, by: Functions = Plain) -> FloatArray:
        r2 = np.asarray(r2, dtype=np.float64)
        tabled = self.table(r2 / self._unit**2)
        if isinstance(self.function, Table) or by is not Plain:
            return tabled
        away = r2 > 0.0
        values = np.ones_like(r2)
        with np.errstate(all="ignore"):
            values[away] = self.function(np.sqrt(r2[away]))
        # Far away it may say nothing, or nonsense.
        return np.where(np.isfinite(values) & (np.abs(tabled) > NOTHING), values, tabled)

    def __repr__(self) -> str:
        called = _called(self).strip("<>")
        shown = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("function", "name")
        }
        words = [f"{name}={value!r}" for name, value in shown.items() if value is not None]
        return f"Isotropic({', '.join([f'function=<{called}>', *words])})"

    def _key(self) -> tuple[Any, ...]:
        """What is compared: functions by what they say."""
        others = tuple(getattr(self, field.name) for field in fields(self) if field.name not in ("function", "name"))
        return (*others, self.table.first, self.table.pieces.tobytes())

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Isotropic) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return _restored, (type(self), state | {"function": self.table, "name": _called(self)})

    def __copy__(self) -> "Isotropic":
        return self

    def __deepcopy__(self, memo: Any) -> "Isotropic":
        return self


def _restored(cls: type[Isotropic], state: dict[str, Any]) -> Isotropic:
    return cls(**state)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _called(kernel: Isotropic) -> str:
    return kernel.name or str(getattr(kernel.function, "__name__", type(kernel.function).__name__))


#: Tables of functions, by their breakpoints, as long as there are the functions.
_KNOWN: "WeakKeyDictionary[Any, dict[tuple[float, ...] | None, Table]]" = WeakKeyDictionary()


class Tame:
    """A caller's function of distance as one of squared distance, finite where it does not matter any more.

    Parameters
    ----------
    function : callable
    unit : float
        The distance of t = 1.
    name : str

    Attributes
    ----------
    above : float or None
        As `make_table` takes it.
    near : float

    Examples
    --------
    >>> import numpy as np
    >>> tame = Tame(lambda r: np.exp(-r), 1.0, "the function")
    >>> tame.above, float(tame(np.array([2.0**50]))[0])
    (0.0, 0.0)
    """

    def __init__(self, function: Callable[[FloatArray], Any], unit: float, name: str) -> None:
        self.function, self.unit, self.name = function, unit, name
        self.end = np.inf
        self.above: float | None = None
        exponents = np.arange(LOWEST, HIGHEST)
        t = np.ldexp(1.0 + np.arange(4) / 4.0, exponents[:, None])
        values = self(t.ravel()).reshape(t.shape)
        self._check_sizes(t, values)
        self._find_end(t, values)
        with np.errstate(invalid="ignore"):
            off = np.max(np.abs(values[exponents <= 0] - 1.0), axis=1)
            self.near = next((near for near in NEARS if np.any(off <= near)), NEARS[0])

    def __call__(self, t: FloatArray) -> FloatArray:
        r = np.sqrt(t) * self.unit
        with np.errstate(all="ignore"):
            try:
                values = np.asarray(self.function(r))
                values = values.astype(np.float64, casting="same_kind")
            except InvalidInputError:
                raise
            except Exception as error:
                raise InvalidInputError(
                    f"{self.name} must take an array of distances and return an array, as NumPy's functions do; for an "
                    f"array of shape {r.shape} it said {type(error).__name__}: {error}"
                ) from error
        if values.shape != t.shape:
            raise InvalidInputError(
                f"{self.name} must return one number for each distance: got shape {values.shape} for {t.shape}."
            )
        return np.where(t >= self.end, self.above or 0.0, values)

    def _check_sizes(self, t: FloatArray, values: FloatArray) -> None:
        with np.errstate(invalid="ignore"):
            large = (np.abs(values) > 1.0 + TOLERANCE) & np.isfinite(values)
        if large.any():
            where = np.argmax(large.ravel())
            value, distance = values.ravel()[where], t.ravel()[where] ** 0.5 * self.unit
            raise InvalidInputError(
                f"{self.name} is {value:.6g} at the scaled distance {distance:.6g}; a correlation is from -1 to "
                "1. A variance is given by variance=."
            )

    def _find_end(self, t: FloatArray, values: FloatArray) -> None:
        """Where nothing is left, or nothing changes any more."""
        with np.errstate(invalid="ignore"):
            nothing = np.all(np.isnan(values) | (np.abs(values) <= NOTHING), axis=1)
            last = values[-1, -1]
            still = np.all(np.abs(values - last) <= NEARS[0], axis=1)
        for rest, above in ((nothing, 0.0), (still, last)):
            begin = len(rest) - int(np.argmin(rest[::-1])) if not rest.all() else 0
            if 0 < begin <= len(rest) - 8 and np.all(np.isfinite(values[begin])):
                self.end, self.above = float(t[begin, 0]), float(above)
                return

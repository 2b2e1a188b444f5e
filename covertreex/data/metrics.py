"""Metrics: how data becomes a payload (docs/mathematics.md, "The metric")."""

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, TypeAlias, TypeVar

import numpy as np

from covertreex._core.factors import cholesky
from covertreex.base import parallel, tuning
from covertreex.base.types import FloatArray, IntArray
from covertreex.base.validation import (
    as_array,
    as_float64,
    blaming_float32,
    check_names,
    check_points,
    check_rows,
    check_told_apart,
    columns_of,
    read_only,
)
from covertreex.data.canonical import canonical_covariance
from covertreex.data.factors import (
    P_FLOOR,
    Projection,
    check_factors,
    evaluation_slack,
    factor_slack,
    sampled_deficit,
    solve,
    supplied_unit,
    unitless,
)
from covertreex.data.leaf_order import leaf_order
from covertreex.data.payload import (
    EUCLIDEAN,
    RESIDUAL,
    ROUNDOFF,
    PayloadStore,
    Room,
    empty_factors,
    longest_square,
    padded,
)
from covertreex.errors import FactorizationError, InvalidInputError
from covertreex.kernels import Columns, Kernel, names_of_kernels
from covertreex.kernels.checks import LARGEST, radius_of_sphere
from covertreex.kernels.columns import check_lonlat

#: Jitter by default, as a share of k(x, x).
JITTER = 1e-6


@dataclass(frozen=True, repr=False)
class Euclidean:
    """Distance ``|x - y|``.

    Parameters
    ----------
    lonlat : float or bool, optional
        Radius of the sphere on which columns 0 and 1 are longitude and latitude in degrees; True for 1. The distance of
        two places is the chord through the sphere, ``d``, which orders them as the arc along it does, ``2 * radius *
        arcsin(d / (2 * radius))``. Other columns are axes at right angles to it.

    Examples
    --------
    >>> import covertreex as cx
    >>> cx.cover_tree([[0.0], [1.0], [3.0]], metric=cx.Euclidean()).knn(k=1).ravel().tolist()
    [1, 0, 1]
    """

    lonlat: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "lonlat", radius_of_sphere(self.lonlat))

    def __repr__(self) -> str:
        return "Euclidean()" if self.lonlat is None else f"Euclidean(lonlat={self.lonlat!r})"

    @property
    def columns(self) -> Columns | None:
        """Columns or None: where coordinates come from; None if they are the points themselves."""
        return None if self.lonlat is None else Columns(lonlat=self.lonlat)

    def coordinates(self, X: FloatArray) -> FloatArray:
        """What is compared, shape (n, D), of points (n, d) (here and in every metric)."""
        return X if self.columns is None else self.columns(X)

    def on_columns(self, names: tuple[str, ...] | None, lonlat: float | None) -> "Euclidean":
        """This metric, about data with columns of these names, on a sphere of this radius (here and in every metric;
        see `Kernel.on_columns`)."""
        if lonlat is None or self.lonlat == lonlat:
            return self
        if self.lonlat is not None:
            raise InvalidInputError(f"the data is on a sphere of radius {lonlat:g}, but the metric is {self!r}.")
        return Euclidean(lonlat)

    def prepare(
        self, X: FloatArray, n_threads: int = 1, order: IntArray | None = None
    ) -> tuple[PayloadStore, Projection]:
        """The payload of `X` (n, d), and the `Projection` for other points (here and in every metric).

        `order` is that of the rows, by default the leaf order.
        """
        coords = self.coordinates(X)
        order = leaf_order(coords, n_threads=n_threads)[0] if order is None else order
        d = coords.shape[1]
        payload = _payload(
            EUCLIDEAN, None, coords, order, np.zeros((len(X), 0)), np.zeros(0), 1e-300, (2 * d + 16) * ROUNDOFF
        )
        return payload, Projection(None, columns=self.columns)


@dataclass(frozen=True, eq=False)
class Correlation:
    """Distance ``sqrt(1 - |k(x, y)| / k(x, x))``: correlation, no inducing points.

    Parameters
    ----------
    kernel : Kernel
    noise : float, or array_like of shape (n,)
        Variance of the noise (nugget) of all points or of each, in the units of the kernel's variance, 0 or above. Then
        the metric is the correlation of noisy observations, ``k(x, y) / sqrt((k(x, x) + noise_x) (k(y, y) +
        noise_y))``, which is 1 of a point with itself alone.

    Examples
    --------
    >>> import covertreex as cx
    >>> metric = cx.Correlation(cx.Matern32(lengthscale=0.5))
    >>> cx.cover_tree([[0.0], [1.0], [3.0]], metric=metric).knn(k=1).ravel().tolist()
    [1, 0, 1]
    """

    kernel: Kernel
    noise: Any = 0.0

    def __post_init__(self) -> None:
        _check_kernel(self.kernel)
        object.__setattr__(self, "noise", _noise(self.noise, self.kernel))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Correlation):
            return NotImplemented
        return self.kernel == other.kernel and np.array_equal(self.noise, other.noise)

    def __hash__(self) -> int:
        return hash(self.kernel)

    @property
    def unit(self) -> float:
        """float: what variances are divided by, for correlation has none of their units."""
        return float(self.kernel.variance)

    def coordinates(self, X: FloatArray) -> FloatArray:
        """As `Euclidean.coordinates`."""
        return self.kernel.scale(X)

    def on_columns(self, names: tuple[str, ...] | None, lonlat: float | None) -> "Correlation":
        """As `Euclidean.on_columns`."""
        return _on_columns(self, names, lonlat)

    def prepare(
        self, X: FloatArray, n_threads: int = 1, order: IntArray | None = None
    ) -> tuple[PayloadStore, Projection]:
        """As `Euclidean.prepare`."""
        kernel, unit = unitless(self.kernel), self.unit
        coords = kernel.scale(X)
        order = leaf_order(kernel.spread(coords), n_threads=n_threads)[0] if order is None else order
        slack = evaluation_slack(kernel, 0, 0.0, 1.0)
        p = np.ones(len(X)) + noise_of_rows(self, order)
        payload = _payload(RESIDUAL, kernel, coords, order, np.zeros((len(X), 0)), p, slack, 16 * ROUNDOFF, unit=unit)
        return payload, Projection(kernel)


@dataclass(frozen=True, eq=False)
class ResidualCorrelation:
    """Distance ``sqrt(1 - |rho|)``, rho being the correlation that is left once inducing points are known.

    Source: the VIF approximation, arXiv 2507.05064, section 4.

    Parameters
    ----------
    kernel : Kernel
    inducing : int, array of int, or ndarray of shape (m, d)
        A count (rows drawn by ``default_rng(seed).choice(n, m, replace=False)``, sorted), rows of the data, or
        coordinates. Not beside `v_matrix`.
    seed : int
        Of the draw.
    jitter : float, optional
        Added to the diagonal of the covariance of the inducing points, in the units of the variance. By default a
        millionth of the variance, whatever that is.
    v_matrix : ndarray, shape (n, m), optional
        Factors from somebody's own model: row i is ``L^-1 k(Z, x_i)``.
    p_diag : ndarray, shape (n,), optional
        Residual variances to go with them, at least ``k(x, x) - |v|^2``; computed if left out.
    noise : float, or array_like of shape (n,)
        Variance of the noise (nugget) of all points or of each, in the units of the kernel's variance, 0 or above; it
        is added to residual variances that are computed. Not beside `p_diag`, which has it already.

    Raises
    ------
    InvalidInputError
        If the arguments contradict each other or the data.
    FactorizationError
        If the covariance of the inducing points is not positive definite; names the jitter tried.

    Examples
    --------
    >>> import numpy as np, covertreex as cx
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> metric = cx.ResidualCorrelation(cx.RBF(lengthscale=0.5), inducing=10)
    >>> cx.cover_tree(X, metric=metric).knn(k=3).shape
    (100, 3)
    """

    kernel: Kernel
    inducing: Any = None
    seed: int = 0
    jitter: float | None = None
    v_matrix: Any = None
    p_diag: Any = None
    noise: Any = 0.0

    def __post_init__(self) -> None:
        _check_kernel(self.kernel)
        object.__setattr__(self, "noise", _noise(self.noise, self.kernel))
        if (self.inducing is None) == (self.v_matrix is None):
            raise InvalidInputError(
                "the residual metric needs either inducing points (inducing=512) or factors (v_matrix=V), not both; "
                "for the plain correlation give a kernel alone."
            )
        if self.p_diag is not None and self.v_matrix is None:
            raise InvalidInputError("p_diag goes with v_matrix; with inducing points p is computed.")
        if self.p_diag is not None and np.any(self.noise):
            raise InvalidInputError(
                "p_diag has what noise would add to it; give p_diag with the noise in it, or noise without p_diag."
            )
        if self.jitter is not None and not (isinstance(self.jitter, Real) and 0.0 <= self.jitter < np.inf):
            raise InvalidInputError(
                f"jitter must be a finite number, 0 or above, or None for {JITTER:g} of the variance; got "
                f"{self.jitter!r}."
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, Integral) or self.seed < 0:
            raise InvalidInputError(f"seed must be an integer, 0 or above, got {self.seed!r}.")

    @property
    def unit(self) -> float:
        """float: what variances are divided by, for correlation has none of their units.

        Whatever follows from the kernel alone is computed with variance 1. Factors of the caller's are divided by a
        power of two instead, which rounds nothing (A8).
        """
        if self.v_matrix is None:
            return float(self.kernel.variance)
        return supplied_unit(self.kernel)

    @property
    def unitless(self) -> Kernel:
        """Kernel: that of the payload."""
        return unitless(self.kernel, self.unit)

    @property
    def jitter_share(self) -> float:
        """float: the jitter, in units of `unit`."""
        if self.jitter is None or self.v_matrix is not None:
            return JITTER * float(self.kernel.variance / self.unit)
        return self.jitter / self.unit

    def coordinates(self, X: FloatArray) -> FloatArray:
        """As `Euclidean.coordinates`."""
        return self.kernel.scale(X)

    def on_columns(self, names: tuple[str, ...] | None, lonlat: float | None) -> "ResidualCorrelation":
        """As `Euclidean.on_columns`."""
        return _on_columns(self, names, lonlat)

    def of_arrays(self, names: tuple[str, ...] | None) -> "ResidualCorrelation":
        """This metric with arrays in place of tables, columns of inducing points checked against `names`, the data's;
        whoever reads its attributes later need not know tables."""
        check_names(names, self.inducing, "inducing")
        given = {name: getattr(self, name) for name in ("inducing", "v_matrix", "p_diag")}
        tables: dict[str, Any] = {
            name: as_array(table, name)
            for name, table in given.items()
            if hasattr(table, "to_numpy") or columns_of(table) is not None
        }
        return replace(self, **tables) if tables else self

    def prepare(
        self, X: FloatArray, n_threads: int = 1, order: IntArray | None = None
    ) -> tuple[PayloadStore, Projection | None]:
        """As `Euclidean.prepare`."""
        kernel = self.unitless
        coords = kernel.scale(X)
        order = leaf_order(kernel.spread(coords), n_threads=n_threads)[0] if order is None else order
        if self.v_matrix is not None:
            factors, p, deficit = self._supplied(coords, order)
            projection, m = None, np.shape(self.v_matrix)[1]
        else:
            projection = self._factorize(X)
            L, Z = projection.factorized
            factors, p = solve(kernel, L, Z, coords[order], n_threads)
            p += noise_of_rows(self, order)
            deficit, m = 0.0, len(Z)
        return self.finish(coords, order, factors, p, m, deficit, longest_square(factors)), projection

    def extend(
        self,
        X: FloatArray,
        n_threads: int,
        payload: PayloadStore,
        projection: Projection,
        place: IntArray,
        order: IntArray,
        room: Room | None = None,
    ) -> tuple[PayloadStore, Room]:
        """The payload of `X` (n, d) in the row order `order`, where point i is index ``place[i]`` of `payload`, -1 if
        it is new; and its `Room`. Only factors of new points are computed; if all others keep their rows, and `room` is
        that of `payload` and has space, none is copied.
        """
        kernel = self.unitless
        coords, n = kernel.scale(X), len(X)
        old = place[order]
        known, new = np.flatnonzero(old >= 0), np.flatnonzero(old < 0)
        unmoved = np.array_equal(old[: len(payload)], payload.index)
        if not unmoved or room is None or not room.claim(len(payload), n):
            room = Room(n, payload.factors.shape[1])
            for start, stop in parallel.spans(len(known), tuning.FACTOR_BLOCK):
                to = known[start:stop]
                room.factors[to] = payload.factors[payload.row[old[to]]]
        p = np.empty(n)
        p[known] = payload.p[payload.row[old[known]]]
        L, Z = projection.factorized
        computed, p[new] = solve(kernel, L, Z, coords[order[new]], n_threads)
        p[new] += noise_of_rows(self, order)[new]
        room.factors[new] = computed
        factors = room.factors[:n]
        if len(known) == len(payload) and payload.longest is not None:
            longest = max(payload.longest, longest_square(computed))
        else:
            longest = longest_square(factors)
        return self.finish(coords, order, factors, p, len(Z), 0.0, longest), room

    def finish(
        self,
        coords: FloatArray,
        order: IntArray,
        factors: FloatArray,
        p: FloatArray,
        m: int,
        deficit: float,
        longest: float,
    ) -> PayloadStore:
        """The payload, once factors and p are there.

        Parameters
        ----------
        coords : ndarray, shape (n, d)
            Scaled, in dataset order.
        order : ndarray, shape (n,)
            Dataset index of each row.
        factors, p : ndarray
            In row order.
        m : int
            Factors per row, without padding.
        deficit : float
            How far factors of the caller's are from those of one covariance.
        longest : float
            The largest ``|v|**2``.
        """
        kernel, unit = self.unitless, self.unit
        floor = P_FLOOR * kernel.variance
        floored = int(np.sum(p <= floor))
        p = np.maximum(p, floor)
        length = float(np.sqrt(longest))
        slack = evaluation_slack(kernel, m, length, p.min()) + deficit
        slack += factor_slack(kernel, m, length, p.min(), self.jitter_share)
        return _payload(RESIDUAL, kernel, coords, order, factors, p, slack, 16 * ROUNDOFF, floored, longest, unit)

    def slack(self, m: int, smallest_p: float) -> float:
        """B1: `slack_abs` for points of which the least known has this residual variance, in the payload's units, with
        `m` factors each."""
        kernel = self.unitless
        length = np.sqrt(kernel.variance)
        evaluation = evaluation_slack(kernel, m, length, smallest_p)
        return evaluation + factor_slack(kernel, m, length, smallest_p, self.jitter_share)

    def _factorize(self, X: FloatArray) -> Projection:
        Z = self.inducing_points(X)
        kernel = self.unitless
        scaled = kernel.scale(Z)
        m = len(Z)
        K = canonical_covariance(kernel, scaled)
        K[np.diag_indices(m)] += self.jitter_share
        L = np.zeros((m, padded(m)))
        pivot = cholesky(K, L)
        if pivot >= 0:
            raise FactorizationError(
                f"the covariance of the {m} inducing points is not positive definite at "
                f"jitter={self.jitter_share * self.unit:g} (pivot {pivot} failed). Raise jitter, drop duplicate "
                "inducing points, or take fewer."
            )
        return Projection(kernel, read_only(scaled), read_only(L))

    def inducing_points(self, X: FloatArray) -> FloatArray:
        """The inducing points, shape (m, d), of data `X`, checked."""
        inducing = as_array(self.inducing, "inducing")
        if inducing.ndim == 0:
            if not np.issubdtype(inducing.dtype, np.integer):
                raise InvalidInputError(f"inducing must be a count, rows or coordinates, got {self.inducing!r}.")
            count = int(inducing)
            if not 1 <= count <= len(X):
                hint = " Correlation(kernel) is the metric without." if count <= 0 else ""
                raise InvalidInputError(f"inducing must be from 1 to n = {len(X)} points, got {count}.{hint}")
            return X[np.sort(np.random.default_rng(self.seed).choice(len(X), count, replace=False))]
        if inducing.ndim == 1:
            if len(inducing) == 0:
                raise InvalidInputError("inducing is empty; for the plain correlation give a kernel alone.")
            rows = check_rows(inducing, len(X), "inducing")
            if len(np.unique(rows)) != len(rows):
                raise InvalidInputError("inducing names a row twice; each may be given once.")
            return X[rows]
        points = check_points(inducing, "inducing", columns=X.shape[1])
        check_lonlat(points, "inducing", lonlat_of(self))
        return points

    def _supplied(self, coords: FloatArray, order: IntArray) -> tuple[FloatArray, FloatArray, float]:
        """Padded factors and p in row order, and how far p falls short of the residual variance, relatively."""
        n = len(coords)
        V = check_points(self.v_matrix, "v_matrix")
        if len(V) != n:
            hint = " It looks transposed: one row per point is wanted." if V.shape[1] == n else ""
            raise InvalidInputError(f"v_matrix must have one row per point, shape ({n}, m), got {V.shape}.{hint}")
        factors, kernel = empty_factors(n, padded(V.shape[1])), self.unitless
        root = math.sqrt(self.unit)
        for start, stop in parallel.spans(n, tuning.FACTOR_BLOCK):
            factors[start:stop, : V.shape[1]] = V[order[start:stop]] / root
        factors[:, V.shape[1] :] = 0.0
        with blaming_float32(("v_matrix", "p_diag"), V, self.p_diag):
            p, deficit = check_factors(kernel, factors, V.shape[1], self.p_diag, order, self.unit)
            p = p + noise_of_rows(self, order)
            return factors, p, deficit + sampled_deficit(kernel, coords[order], factors, p)


#: What distances mean.
Metric: TypeAlias = Euclidean | Correlation | ResidualCorrelation


def lonlat_of(metric: Metric) -> float | None:
    """Radius of the sphere on which a metric compares longitudes and latitudes; None if it does not."""
    if isinstance(metric, Euclidean):
        return metric.lonlat
    spheres = (getattr(one, "lonlat", None) for one in metric.kernel.parts_within())
    return next((radius for radius in spheres if radius is not None), None)


def _check_kernel(kernel: object) -> None:
    if not isinstance(kernel, Kernel):
        raise InvalidInputError(f"kernel must be an {names_of_kernels()}, or a sum or product of such, got {kernel!r}.")


def _noise(given: Any, kernel: Kernel) -> float | FloatArray:
    """A noise variance as a float, or as a read-only array of one for each point; checked."""
    if given is None:
        return 0.0
    try:
        array = as_float64(as_array(given, "noise"), "noise")
    except (TypeError, ValueError):
        raise InvalidInputError(f"noise must be a number, or one for each point; got {given!r}.") from None
    if array.ndim > 1:
        raise InvalidInputError(f"noise must be a number, or one for each point, shape (n,); got shape {array.shape}.")
    bad = ~((array >= 0.0) & (array <= LARGEST * float(kernel.variance)))
    if bad.any():
        at = int(np.argmax(bad))
        where = f" at row {at}" if array.ndim else ""
        raise InvalidInputError(
            f"noise must be a variance, 0 or above and finite (at most {LARGEST:g} of the kernel's), got "
            f"{float(array.flat[at])}{where}."
        )
    return read_only(array.copy()) if array.ndim else float(array)


def noise_of_rows(metric: Correlation | ResidualCorrelation, order: IntArray) -> FloatArray:
    """The noise of each payload row, in the payload's units; `order` has the index of each row.

    Raises
    ------
    InvalidInputError
        If there is another number of points.
    """
    noise: Any = metric.noise
    if np.ndim(noise) == 0:
        return np.full(len(order), noise / metric.unit)
    if len(noise) != len(order):
        raise InvalidInputError(f"noise must have one entry per point, shape ({len(order)},), got {noise.shape}.")
    rows: FloatArray = noise[order] / metric.unit
    return rows


KernelMetric = TypeVar("KernelMetric", Correlation, ResidualCorrelation)


def _on_columns(metric: KernelMetric, names: tuple[str, ...] | None, lonlat: float | None) -> KernelMetric:
    kernel = metric.kernel.on_columns(names, lonlat)
    return metric if kernel is metric.kernel else replace(metric, kernel=kernel)


def _payload(
    metric: int,
    kernel: Kernel | None,
    coords: FloatArray,
    order: IntArray,
    factors: FloatArray,
    p: FloatArray,
    slack_abs: float,
    slack_rel: float,
    floored: int = 0,
    longest: float | None = None,
    unit: float = 1.0,
) -> PayloadStore:
    """Put coordinates, which are in dataset order, into row order beside `factors` and `p`, which are in it already."""
    check_told_apart(coords)
    row = np.empty_like(order)
    row[order] = np.arange(len(order))
    return PayloadStore(
        metric=metric,
        kernel=kernel,
        coords=np.ascontiguousarray(coords[order]),
        factors=factors,
        p=p,
        index=order,
        row=row,
        slack_abs=float(slack_abs),
        slack_rel=float(slack_rel),
        floored=floored,
        longest=longest,
        unit=unit,
    )

